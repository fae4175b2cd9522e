"""A corpus report for the terminal."""

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tapir.corpus.raw import Repair
from tapir.corpus.report import CorpusReport, Lengths, explanation
from tapir.rows import Refused

_SHOWN_CHARS = 100


def show(report: CorpusReport, console: Console) -> None:
    """Print a report."""
    console.print(rendered(report))


def rendered(report: CorpusReport) -> Group:
    """The report as tables: files, rows, repairs, refusals, lengths; texts of the data are never markup."""
    parts: list[RenderableType] = [_headline(report), _files(report)]
    if report.repairs:
        table = _table("Repaired", "kind", "count", "what was done", "for example")
        for kind, repaired in report.repairs.items():
            table.add_row(kind, f"{repaired.count:,}", explanation(kind), _change(repaired.examples[0]))
        parts.append(table)
    if report.refused:
        table = _table("Refused", "reason", "rows", "why", "for example")
        for kind, refused in report.refused.items():
            table.add_row(kind, f"{refused.count:,}", explanation(kind), _refusal(refused.examples[0]))
        parts.append(table)
    if report.accepted:
        parts += [_lengths(report), _counts(report)]
    return Group(*parts)


def _headline(report: CorpusReport) -> Text:
    share = f" ({report.refused_rows / report.rows:.1%})" if report.rows else ""
    drawn = f", of which {report.limit:,} would be drawn" if report.limit is not None else ""
    return Text(
        f"{report.path}: {report.rows:,} rows read, {report.accepted:,} accepted{drawn} "
        f"({report.repaired_rows:,} of them repaired), {report.refused_rows:,} refused{share}"
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for name in columns:
        table.add_column(name, justify="right" if name in ("count", "rows", "bytes") else "left", overflow="fold")
    return table


def _files(report: CorpusReport) -> Table:
    table = _table("Files", "file", "format", "encoding", "bytes", "rows")
    for file in report.files[:20]:
        format_ = f"{file.format}, gzip" if file.is_compressed else file.format
        table.add_row(Text(file.name), format_, file.encoding, f"{file.size:,}", f"{file.rows:,}")
    if len(report.files) > 20:
        table.add_row(f"and {len(report.files) - 20} more")
    return table


def _change(repair: Repair) -> Text:
    return Text(f"{_short(repair.before)} → {_short(repair.after)}" if repair.after else _short(repair.before))


def _refusal(row: Refused) -> Text:
    return Text(_short(row.detail))


def _short(text: str) -> str:
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + "…"


def _lengths(report: CorpusReport) -> Table:
    names = ("shortest", "5 %", "25 %", "median", "75 %", "95 %", "99 %", "longest")
    table = _table("Lengths of accepted rows", "of", "mean", *names)
    rows: tuple[tuple[str, Lengths], ...] = (
        ("instruction, characters", report.instruction_chars),
        ("instruction, words", report.instruction_words),
        ("response, characters", report.response_chars),
        ("response, words", report.response_words),
    )
    for name, stats in rows:
        table.add_row(name, f"{stats.mean:,.1f}", *(f"{value:,}" for value in stats.quantiles.values()))
    return table


def _counts(report: CorpusReport) -> Table:
    table = _table("Accepted rows", "by", "how many")
    for title, counts in (
        ("shape", report.shapes),
        ("script", report.scripts),
        ("licence", report.licenses),
        ("source", report.sources),
    ):
        shown = ", ".join(f"{_short(name)} {count:,}" for name, count in list(counts.items())[:8])
        table.add_row(title, Text(shown))
    table.add_row("with a system prompt", f"{report.system_rows:,}")
    table.add_row("of several exchanges", f"{report.multi_turn_rows:,}")
    return table
