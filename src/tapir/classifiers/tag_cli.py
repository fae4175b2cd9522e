"""The command `tapir tag`."""

from pathlib import Path
from typing import Annotated

import typer

from tapir.errors import ConfigError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def tag(
    data: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A data set to label: file, directory or hub:owner/name.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the labelled rows, or the trained classifier, go.")] = None,
    train: Annotated[
        Path | None, typer.Option(metavar="ROWS", help='Train from JSON lines {"instruction": ..., "task": ...}.')
    ] = None,
    evaluate: Annotated[
        Path | None, typer.Option("--eval", metavar="ROWS", help="Compare with labelled rows: accuracy, recall, F1.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A trained classifier's directory; with --train: the encoder to fine-tune (deberta)."),
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="Sentence encoder: auto (MiniLM where installed), none, a directory or hub id.")
    ] = "auto",
    no_seeds: Annotated[
        bool, typer.Option("--no-seeds", help="With --train: leave out the labelled rows that tapir ships.")
    ] = False,
    svg: Annotated[Path | None, typer.Option(help="With --eval: draw the confusion table here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Label a data set with task types; train a classifier (--train) or measure one (--eval)."""
    if sum(one is not None for one in (data, train, evaluate)) != 1:
        raise ConfigError("tapir tag: give a FILE to label, or --train ROWS, or --eval ROWS, one of the three")
    if train is not None:
        _train(train, out, model, encoder, with_seeds=not no_seeds)
    elif evaluate is not None:
        _evaluate(evaluate, model, encoder, svg, as_json=as_json)
    elif data is not None:
        _label(data, out, model, encoder, as_json=as_json)


def _label(data: str, out: Path | None, model: str | None, encoder: str, *, as_json: bool) -> None:
    import msgspec

    from tapir.classifiers.tag import classifier_for, tag_file

    tags = tag_file(data, classifier_for(Path(model) if model else None, encoder), out)
    if as_json:
        print(msgspec.json.encode(tags).decode())
        return
    for task, rows in tags.tasks.items():
        print(f"{task:<18}{rows:>8}{rows / tags.rows:>8.1%}")
    lost = f", {tags.refused} refused" if tags.refused else ""
    print(f"{tags.rows} rows{lost}, mean margin {tags.mean_margin:.2f}")
    if out is not None:
        print(f"written: {out}")


def _train(rows: Path, out: Path | None, model: str | None, encoder: str, *, with_seeds: bool) -> None:
    from tapir.classifiers.tag import fine_tune_file, train_file

    if out is None:
        raise ConfigError("tapir tag --train: say with --out DIR where the classifier goes")
    if model is not None:
        fine_tune_file(rows, out, model, with_seeds=with_seeds)
        print(f"written: {out}; use it with tasks.classifier: {{kind: deberta, model: {out}}}")
        return
    train_file(rows, out, encoder, with_seeds=with_seeds)
    print(f"written: {out}; use it with tasks.classifier: {{kind: local, head: {out}}}")


def _evaluate(rows: Path, model: str | None, encoder: str, svg: Path | None, *, as_json: bool) -> None:
    import msgspec

    from tapir.classifiers.evaluate import confusion_svg, evaluation_text
    from tapir.classifiers.tag import classifier_for, evaluate_file

    found = evaluate_file(rows, classifier_for(Path(model) if model else None, encoder))
    print(msgspec.json.encode(found).decode() if as_json else evaluation_text(found))
    if svg is not None:
        svg.parent.mkdir(parents=True, exist_ok=True)
        svg.write_text(confusion_svg(found), encoding="utf-8")
