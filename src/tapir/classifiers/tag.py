"""`tapir tag` as functions: label a data set, train a classifier, measure one."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tapir.classifiers.embedding import encoder_named
from tapir.classifiers.evaluate import Evaluation, evaluate_classifier
from tapir.classifiers.heads import SETTINGS, Heads, save_heads
from tapir.classifiers.train import read_tagged, seeds, train_heads
from tapir.config import CorpusConfig, EncoderClassifierConfig, LocalClassifierConfig
from tapir.errors import DataError
from tapir.export import whole_file
from tapir.roles import Aside, Classifier
from tapir.rows import Example, Label
from tapir.tasks import Task

BLOCK = 8192
"""Rows in memory at a time."""


class TaggedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a data set with its task type."""

    id: str
    instruction: str
    task: Task
    score: float
    margin: float


class Tags(msgspec.Struct, frozen=True, kw_only=True):
    """The labels of a data set."""

    rows: int
    refused: int
    """Rows that could not be read or labelled."""
    tasks: dict[Task, int]
    """Rows of each task, most frequent first."""
    mean_margin: float


def classifier_for(model: Path | None = None, encoder: str = "auto") -> Classifier:
    """The local classifier with the shipped heads or those in `model`; a fine-tuned encoder if `model` is one."""
    if model is None or (model / SETTINGS).exists():
        from tapir.classifiers.local import LocalClassifier

        return LocalClassifier(LocalClassifierConfig(encoder=encoder, head=str(model) if model else None))
    from tapir.classifiers.encoder import EncoderClassifier

    return EncoderClassifier(EncoderClassifierConfig(kind="deberta", model=str(model)))


def tag_file(path: str, classifier: Classifier, out: Path | None = None) -> Tags:
    """Label the rows of any data set that the corpus reader accepts; `out` gets one JSON line a row.

    Rows are read, labelled and written a block at a time: memory does not grow with the texts.

    Raises:
        DataError: no row can be read, or `out` cannot be written.
    """
    if out is None:
        return asyncio.run(_tag(path, classifier, lambda _: None))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as file:
            return asyncio.run(_tag(path, classifier, lambda row: file.write(msgspec.json.encode(row) + b"\n")))
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written ({error.strerror or error}); name another file with --out"
        ) from error


async def _tag(path: str, classifier: Classifier, write: Callable[[TaggedRow], object]) -> Tags:
    """Label all rows, passing each on to `write`."""
    from tapir.build import build_corpus

    corpus = build_corpus(CorpusConfig(path=path, near_duplicates=None), seed=0)
    tasks = Counter[Task]()
    margins = 0.0
    read = usable = 0

    async def finish(rows: Sequence[Example]) -> None:
        nonlocal margins
        instruction = {row.id: row.instruction for row in rows}
        async for label in classifier.label(Aside("tag"), rows):
            if isinstance(label, Label):
                tasks[label.task] += 1
                margins += label.margin
                write(_tagged_row(label, instruction[label.id]))

    block: list[Example] = []
    async for row in corpus.read(Aside("tag")):
        read += 1
        if isinstance(row, Example):
            usable += 1
            block.append(row)
        if len(block) == BLOCK:
            await finish(block)
            block = []
    if not usable:
        raise DataError(f"{path}: holds no instruction; see what is wrong with `tapir check {path}`")
    await finish(block)
    rows = tasks.total()
    return Tags(rows=rows, refused=read - rows, tasks=dict(tasks.most_common()), mean_margin=margins / max(1, rows))


def _tagged_row(label: Label, instruction: str) -> TaggedRow:
    return TaggedRow(
        id=label.id,
        instruction=instruction,
        task=label.task,
        score=round(label.score, 4),
        margin=round(label.margin, 4),
    )


def train_file(
    path: Path, out: Path, encoder: str = "auto", *, with_seeds: bool = True, said: Callable[[str], None] = print
) -> Heads:
    """Train linear heads from a file of labelled rows, together with the shipped seeds, and write them to `out`."""
    rows = read_tagged(path) + (seeds() if with_seeds else [])
    return save_heads(train_heads(rows, encoder_named(encoder), said=said), out)


def fine_tune_file(path: Path, out: Path, model: str, *, with_seeds: bool = True) -> None:
    """Fine-tune the encoder `model` (the paper's DeBERTa-v3, say) on labelled rows, and write it to `out`."""
    from tapir.classifiers.encoder import fine_tune

    fine_tune(read_tagged(path) + (seeds() if with_seeds else []), model, out, said=print)


def evaluate_file(path: Path, classifier: Classifier) -> Evaluation:
    """Compare the classifier with a file of labelled rows."""
    return asyncio.run(evaluate_classifier(classifier, read_tagged(path)))
