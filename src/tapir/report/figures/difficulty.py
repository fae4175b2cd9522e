"""Figures on what is hard for the student."""

from dataclasses import dataclass

from markupsafe import Markup

from tapir.report.charts.columns import mfd_histogram
from tapir.report.charts.svg import NARROW, WIDE
from tapir.report.difficulty import Difficulty, Histogram
from tapir.report.formats import count, share
from tapir.report.table import Cell, Figure, Table

SMALL = (250.0, 120.0)
"""Size of a task's own histogram."""


@dataclass(frozen=True)
class Small:
    """One task's histogram among many."""

    task: str
    drawing: Markup
    hard: int
    rows: int
    share: str


def mfd_figure(found: Difficulty) -> Figure:
    """MFD over the whole of D."""
    title = "Model Fitting Difficulty of D"
    return Figure(
        key="mfd",
        title=title,
        conclusion=_conclude(found),
        wide=mfd_histogram(found.overall, found.threshold, WIDE, 300, title),
        narrow=mfd_histogram(found.overall, found.threshold, NARROW, 240, title),
        table=_table(found.overall),
        legend=(("k-hard", f"hard: MFD > {found.threshold:g}"), ("k-easy", "easy")),
    )


def _conclude(found: Difficulty) -> str:
    rows = found.overall.rows
    text = (
        f"{found.hard:,} of {count(rows, 'row')} ({share(found.hard, rows)}) lie above "
        f"δ\u00a0=\u00a0{found.threshold:g}. "
    )
    if found.seeds is not None and found.seeds < found.hard:
        text += f"They share the largest MFD; {found.seeds:,} of them, drawn at random, are the seeds. "
    text += f"The student already solves {100 * found.solved:.0f} % of D (MFD\u00a0≤\u00a01)"
    if found.can_selection_matter:
        text += ": enough for selection by difficulty to be worth its calls."
    else:
        text += ": too little for selection by difficulty to matter much; refinement and expansion carry this run."
    flat = _flat_range(found)
    if flat:
        text += f" Any δ from {flat[0]:g} to {flat[1]:g} would select the same rows."
    return text


def _flat_range(found: Difficulty) -> tuple[float, float] | None:
    """The widest range around δ, in whole steps, over which the seeds stay the same."""
    totals = {one: sum(tasks.values()) for one, tasks in found.seeds_left.items()}
    same = [one for one, total in totals.items() if total == found.hard]
    return (min(same), max(same)) if len(same) > 1 else None


def _table(bins: Histogram) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (f"{start:g} < MFD ≤ {end:g}", number, hard)
        for start, end, number, hard in zip(bins.edges, bins.edges[1:], bins.counts, bins.hard, strict=False)
        if number
    ]
    return Table(("MFD", "rows", "of these hard"), tuple(rows))


def small_multiples(found: Difficulty) -> list[Small]:
    """A histogram for each task, those with most hard rows first."""
    order = sorted(found.tasks.items(), key=lambda item: (-sum(item[1].hard), item[0]))
    return [
        Small(
            task=task,
            drawing=mfd_histogram(bins, found.threshold, *SMALL, f"MFD of {task}"),
            hard=sum(bins.hard),
            rows=bins.rows,
            share=share(sum(bins.hard), bins.rows),
        )
        for task, bins in order
    ]


def threshold_table(found: Difficulty) -> Table:
    """Seeds that other thresholds would leave, by task."""
    thresholds = list(found.seeds_left)
    order = sorted(found.tasks, key=lambda task: (-sum(found.tasks[task].hard), task))
    rows: list[tuple[Cell, ...]] = [
        (task, found.tasks[task].rows, *(found.seeds_left[one][task] for one in thresholds)) for task in order
    ]
    totals = [sum(found.seeds_left[one].values()) for one in thresholds]
    rows.append(("all tasks", found.overall.rows, *totals))
    return Table(("task", "rows", *(f"δ = {one:g}" for one in thresholds)), tuple(rows))
