"""The command line. Each command parses its arguments, calls one public function and prints what it returns.

Nothing heavy is imported before a command needs it: `tapir --help` answers at once.
"""

import shlex
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from tapir.classifiers.tag_cli import tag
from tapir.errors import ConfigError, TapirError
from tapir.oracles.ledger_cli import app as ledger
from tapir.version import __version__

app = typer.Typer(
    name="tapir",
    help="Distil a large model's skills into a small one: the student decides what it is taught (TAPIR).",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration; `tapir init` writes one.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, such as runs/demo.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="SETTING=VALUE", help="Override a setting; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.callback(invoke_without_command=True)
def _root(
    is_version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if is_version:
        print(f"tapir {__version__}")
        raise typer.Exit


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    preset: Annotated[str, typer.Option(help="world, keyless, paper or frugal.")] = "paper",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented configuration to start from."""
    from tapir.presets import write_preset

    write_preset(path, preset, force=force)
    print(f"{path} written; edit it, then: tapir check {path}")


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="CONFIG|DATA", help="A configuration (.yaml) or a data file.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Validate a configuration and quote its rows, calls and tokens; or tell what a data file holds. Spends nothing."""
    from tapir.check import ConfigReport, DataReport, check_config, check_data
    from tapir.config import load_config

    found: ConfigReport | DataReport
    if path.suffix.lower() in {".yaml", ".yml"}:
        found = check_config(load_config(path, tuple(overrides or ())))
    else:
        found = check_data(path, tuple(overrides or ()))
    found.show(as_json=as_json)
    raise typer.Exit(found.exit_code)


@app.command()
def run(
    path: ConfigPath,
    overrides: Overrides = None,
    retry_refused: Annotated[
        bool, typer.Option("--retry-refused", help="Ask again for rows refused because a call failed.")
    ] = False,
    pilot: Annotated[
        int | None,
        typer.Option(min=1, metavar="ROWS", help="Only ask for ROWS rows, quote the run by what they took, and stop."),
    ] = None,
    is_plain: Annotated[bool, typer.Option("--plain", help="Plain lines instead of the live panel.")] = False,
) -> None:
    """Run a configuration; the same command again continues where it stopped."""
    from tapir.config import load_config

    cfg = load_config(path, tuple(overrides or ()))
    command = shlex.join(["tapir", "run", str(path), *(word for one in overrides or () for word in ("--set", one))])
    if pilot is not None:
        from tapir.pilot import run_pilot

        run_pilot(cfg, pilot).show(command)
        return
    from tapir.terminal import run_in_terminal

    raise typer.Exit(run_in_terminal(cfg, command, retry_refused=retry_refused, is_plain=is_plain))


@app.command()
def status(path: RunPath, as_json: AsJson = False) -> None:
    """What a run has done: rows in, kept and refused per stage, results, spent and forecast."""
    from tapir.forecast import read_forecast
    from tapir.oracles.ledger_file import LEDGER, ledger_trouble
    from tapir.status import open_run, read_status
    from tapir.tables import print_status

    trouble = ledger_trouble(open_run(path).parent / LEDGER)
    if trouble:
        print(trouble, file=sys.stderr)
    print_status(read_status(path), read_forecast(path), as_json=as_json)


@app.command()
def report(
    path: RunPath,
    out: Annotated[Path | None, typer.Option(help="Where to write the page; default RUN/report.html.")] = None,
) -> None:
    """Write one self-contained HTML page on a run."""
    from tapir.report import write_report

    print(f"report: {write_report(path, out)}")


@app.command()
def export(
    path: RunPath,
    round_: Annotated[int, typer.Option("--round", min=1, help="The round whose training set to write.")] = 1,
    format_: Annotated[str, typer.Option("--format", help="messages, alpaca or sharegpt.")] = "messages",
    out: Annotated[Path | None, typer.Option(help="The directory to write; default RUN/export.")] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Also upload the round to the Hugging Face hub.")
    ] = None,
    what: Annotated[str, typer.Option(help="With --push: both, model (the student) or data (the rows).")] = "both",
    is_public: Annotated[bool, typer.Option("--public", help="With --push: not private, for everybody.")] = False,
    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --push: show what would go, and send nothing.")
    ] = False,
) -> None:
    """Write a round's training set for other tools (TRL, LLaMA-Factory); upload it and its student (--push)."""
    if push is None:
        if is_public or is_dry_run or what != "both":
            raise ConfigError("tapir export: --what, --public and --dry-run belong to --push OWNER/NAME; give that too")
        from tapir.export import export_round

        print(f"exported: {export_round(path, round_, format_, out)}")
        return
    from tapir.hub import push_round, push_text

    pushed = push_round(
        path, round_, push, what=what, is_public=is_public, is_dry_run=is_dry_run, format_=format_, out=out
    )
    print(push_text(pushed))


@app.command()
def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN|CONFIG", help="A run directory, or a configuration.")],
    model: Annotated[
        str | None, typer.Option(help="A student's directory or hub id; default: the newest student of the run.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="A held-out file, instead of the run's evaluation sets.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a student on a run's evaluation sets, or on any held-out file with the run's judge."""
    from tapir.evaluation.command import evaluate_student
    from tapir.tables import print_summary

    print_summary(evaluate_student(path, model, data, is_aside=as_json), as_json=as_json)


@app.command()
def score(
    data: Annotated[str, typer.Argument(metavar="FILE", help="A data set: file, directory or hub:owner/name.")],
    config: Annotated[Path, typer.Option(help="A YAML configuration: its judge scores, its budget pays.")],
    response: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The response to score; default: as a run would read.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A reference to score it against, in the same call.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A .jsonl or .parquet file; default FILE-scores.jsonl beside the data.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Score the responses of a data set, 1-10, with a configuration's judge; the same command again continues."""
    from tapir.config import load_config
    from tapir.scoring import score_file, scores_text
    from tapir.tables import print_json

    cfg = load_config(config, tuple(overrides or ()))
    scores = score_file(data, cfg, response=response, against=against, out=out, is_aside=as_json)
    if as_json:
        print_json(scores)
    else:
        print(scores_text(scores))


@app.command()
def serve(
    path: Annotated[Path, typer.Argument(metavar="RUN|RUNS", help="A run directory, or the directory of several.")],
    host: Annotated[str, typer.Option(help="An address of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8732,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Show a run in the browser, live, with the explorer and the threshold bench."""
    from tapir.serve import serve as serve_runs

    serve_runs(path, host, port, open_browser)


app.command()(tag)
app.add_typer(ledger, name="ledger")


def main() -> None:
    """Run the command line; a user's mistake ends in one line and an exit code, not in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale without UTF-8 ends no command
    try:
        app()
    except TapirError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        from tapir.storage import write_error

        refusal = write_error(error)
        if refusal is None:
            raise
        print(f"error: {refusal}", file=sys.stderr)
        sys.exit(refusal.exit_code)
