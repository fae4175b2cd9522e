"""Figures on the balance of tasks."""

from collections.abc import Mapping

from tapir.report.charts.dots import Axis, Dot, DotRow, dot_rows
from tapir.report.charts.svg import NARROW, WIDE, ceiling
from tapir.report.formats import listed
from tapir.report.shares import TaskShares
from tapir.report.table import Cell, Figure, Table

MOVED = 5.0
"""Points by which a task's share must move to be named."""


def shares_figure(found: TaskShares) -> Figure:
    """Each task's share of D, of the seeds, as wanted, and as taught."""
    raw, seeds, target, taught = percents(found)
    rows = [DotRow(task, _dots(task, raw, seeds, target, taught)) for task in found.tasks]
    most = max([*raw.values(), *seeds.values(), *target.values(), *taught.values()], default=1.0)
    axis = Axis(0, ceiling(most), "share of rows, %")
    title = "Task shares: raw, seeds, target, taught"
    return Figure(
        key="shares",
        title=title,
        conclusion=_conclude(found, raw, taught or target),
        wide=dot_rows(rows, axis, WIDE, title),
        narrow=dot_rows(rows, axis, NARROW, title),
        table=_table(found, (raw, seeds, target, taught)),
        legend=(
            ("k-start", "raw corpus D"),
            ("k-rival", "seeds"),
            ("k-target", "target"),
            ("k-tapir", "taught (hard rows of all mixtures)"),
        ),
    )


Percents = dict[str, float]


def percents(found: TaskShares) -> tuple[Percents, Percents, Percents, Percents]:
    """Shares in percent: of D, of the seeds, wanted, taught."""
    target = {task: 100 * one for task, one in found.target.items()}
    return _percent(found.raw), _percent(found.seeds), target, _percent(found.taught)


def _percent(counts: Mapping[str, int]) -> Percents:
    total = sum(counts.values())
    return {task: 100 * one / total for task, one in counts.items()} if total else {}


def _dots(task: str, raw: Percents, seeds: Percents, target: Percents, taught: Percents) -> tuple[Dot, ...]:
    kinds = (("k-start", "of D", raw), ("k-rival", "of the seeds", seeds), ("k-tapir", "taught", taught))
    dots = [
        Dot(values.get(task, 0.0), style, f"{task}: {values.get(task, 0.0):.1f} % {name}")
        for style, name, values in kinds
        if values
    ]
    if task in target:
        dots.append(Dot(target[task], "k-target", f"{task}: {target[task]:.1f} % wanted"))
    return tuple(dots)


def _conclude(found: TaskShares, raw: Percents, after: Percents) -> str:
    moves = {task: after.get(task, 0.0) - raw.get(task, 0.0) for task in found.tasks}
    up = [f"{task} (+{move:.0f})" for task, move in sorted(moves.items(), key=lambda item: -item[1]) if move > MOVED]
    down = [f"{task} (−{-move:.0f})" for task, move in sorted(moves.items(), key=lambda item: item[1]) if -move > MOVED]
    if not after:
        return "What D holds; seeds and target follow when the judge is done."
    text = ""
    if up:
        text += f"Teaching moves towards {listed(up[:4])}"
        text += f" and away from {listed(down[:4])}, in points of share. " if down else ", in points of share. "
    else:
        text += "The target distribution stays close to D's own. "
    if not found.is_balanced:
        text += "Balancing is off: hard rows are drawn as they come. "
    if found.absent:
        text += f"No seeds, so no share: {listed(list(found.absent))}; theirs went to the other tasks in proportion. "
    return text + _deficits(found)


def _deficits(found: TaskShares) -> str:
    short = sum(sum(one.values()) for one in found.deficits.values())
    if not found.written:
        return ""
    if not short:
        return "The teacher filled every task's quota of new instructions."
    worst: dict[str, int] = {}
    for one in found.deficits.values():
        for task, number in one.items():
            worst[task] = worst.get(task, 0) + number
    names = [f"{task} {number:,}" for task, number in sorted(worst.items(), key=lambda item: -item[1])[:4]]
    return f"New instructions are {short:,} short of the quotas: {listed(names)}."


def _table(found: TaskShares, shares: tuple[Percents, Percents, Percents, Percents]) -> Table:
    raw, seeds, target, taught = shares
    rows: list[tuple[Cell, ...]] = [
        (
            task,
            found.raw.get(task, 0),
            raw.get(task, 0.0),
            found.seeds.get(task, 0),
            seeds.get(task, 0.0),
            target.get(task),
            found.written.get(task, 0),
            found.taught.get(task, 0),
            taught.get(task, 0.0),
            sum(one.get(task, 0) for one in found.deficits.values()),
        )
        for task in found.tasks
    ]
    head = ("task", "D", "D, %", "seeds", "seeds, %", "target, %", "new", "taught", "taught, %", "short of quota")
    return Table(head, tuple(rows), "Taught: hard rows of all rounds' mixtures, repeats included.")
