"""`tapir ledger`: what the ledger holds, its replies as JSON lines, and forgetting some of them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look after the ledger of oracle calls.", no_args_is_help=True)

LedgerPath = Annotated[Path, typer.Argument(help="The ledger's file.")]
DEFAULT = Path("runs/ledger.sqlite")


@app.command()
def stats(
    path: LedgerPath = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replies, tokens and money, by model and by run, role and stage."""
    import msgspec

    from tapir.oracles.ledger_admin import ledger_stats

    found = ledger_stats(path)
    for notice in found.notices:
        _warn(notice)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    typer.echo(f"{found.replies} replies, {found.bytes / 1e6:.1f} MB")
    for model in found.models:
        typer.echo(f"  {model.model}: {model.replies} replies, {model.output_tokens} tokens, cost {model.cost:.4f}")
    for row in (*found.spending, found.total):
        where = " ".join(part for part in (row.run, row.stage, row.role) if part) or "in all"
        typer.echo(
            f"{where}: {row.calls} calls paid, {row.input_tokens} + {row.output_tokens} tokens, cost {row.cost:.4f}; "
            f"saved {row.saved_calls} calls, cost {row.saved_cost:.4f}"
        )


@app.command()
def export(
    path: LedgerPath = DEFAULT,
    run: Annotated[str | None, typer.Option(help="Only replies that this run paid for.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; standard output if none.")] = None,
) -> None:
    """Every reply as one line of JSON, oldest first."""
    import msgspec

    from tapir.oracles.ledger_admin import export_ledger

    lines = (msgspec.json.encode(reply).decode() + "\n" for reply in export_ledger(path, run, _warn))
    if out is None:
        sys.stdout.writelines(lines)
        return
    with out.open("w", encoding="utf-8") as file:
        file.writelines(lines)


@app.command()
def prune(
    path: LedgerPath = DEFAULT,
    run: Annotated[str | None, typer.Option(help="Only replies that this run paid for.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model's replies.")] = None,
    older_than_days: Annotated[float | None, typer.Option(help="Only replies older than this.")] = None,
    only_unusable: Annotated[bool, typer.Option(help="Only replies that are empty, cut off or filtered.")] = False,
) -> None:
    """Forget replies; their prompts would be asked, and paid, again."""
    from tapir.oracles.ledger_admin import prune_ledger

    count = prune_ledger(
        path, run=run, model=model, older_than_days=older_than_days, only_unusable=only_unusable, say=_warn
    )
    typer.echo(f"{count} replies forgotten")


def _warn(notice: str) -> None:
    typer.echo(notice, err=True)
