"""Several runs side by side: which settings differ, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapir.report.formats import percent, signed
from tapir.report.model import Report
from tapir.report.results import Results, part_titles
from tapir.report.table import Cell, Table


@dataclass(frozen=True)
class Comparison:
    """What differs between runs."""

    names: tuple[str, ...]
    headlines: tuple[str, ...]
    settings: Table
    results: Table | None
    tasks: Table | None


def compare(reports: Sequence[Report]) -> Comparison:
    """The differences between runs, in the order given."""
    names = tuple(one.name for one in reports)
    return Comparison(
        names=names,
        headlines=tuple(one.headline.sentence for one in reports),
        settings=_settings(reports, names),
        results=_results(reports, names),
        tasks=_tasks(reports, names),
    )


def _settings(reports: Sequence[Report], names: tuple[str, ...]) -> Table:
    """Settings that are not the same everywhere; the name of the run is none."""
    columns = [{one.name: one.value for one in report.settings.settings} for report in reports]
    every = dict.fromkeys(name for column in columns for name in column)
    rows = [
        (name, *(column.get(name, "–") for column in columns))
        for name in every
        if name not in ("name", "runs") and len({column.get(name) for column in columns}) > 1
    ]
    return Table(("setting", *names), tuple(rows), "" if rows else "All settings are the same.", has_figures=False)


def _results(reports: Sequence[Report], names: tuple[str, ...]) -> Table | None:
    found = [one.results for one in reports]
    if not any(found):
        return None
    titles: dict[str, str] = {}
    for one in found:
        titles.update(part_titles(one) if one else {})
    rows: list[tuple[Cell, ...]] = []
    for part, title in titles.items():
        rows.append((f"S0, {title}", *(_part(one, "start", part) for one in found)))
        rows.append((f"TAPIR, {title}", *(_part(one, "final", part) for one in found)))
        rows.append((f"gain, {title}", *(_gain(one, part) for one in found)))
    note = "Each run on its own evaluation items: compare runs only where those are the same."
    return Table(("", *names), tuple(rows), note, has_figures=False)


def _part(results: Results | None, which: str, part: str) -> str | None:
    student = None if results is None else results.start if which == "start" else results.final
    if student is None or part not in student.parts:
        return None
    found = student.parts[part]
    return f"{percent(found.mean)} [{found.low:.1f}, {found.high:.1f}]"


def _gain(results: Results | None, part: str) -> str | None:
    if results is None or results.start is None or results.final is None or part not in results.final.parts:
        return None
    return signed(results.final.parts[part].mean - results.start.parts[part].mean)


def _tasks(reports: Sequence[Report], names: tuple[str, ...]) -> Table | None:
    columns: list[Mapping[str, float]] = []
    for one in reports:
        final = one.results.final if one.results else None
        columns.append({task: found.mean for task, found in final.tasks.items()} if final else {})
    tasks = sorted({task for column in columns for task in column})
    if not tasks:
        return None
    return Table(("TAPIR, by task", *names), tuple((task, *(column.get(task) for column in columns)) for task in tasks))
