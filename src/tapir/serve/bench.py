"""The threshold bench: what any δ and any target distribution would mean, before a cent is spent on expansion."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tapir.forecast import read_sizes
from tapir.measured import measured_usage
from tapir.oracles.ledger_file import LEDGER
from tapir.quote import endpoints, quote
from tapir.report.difficulty import Judgements
from tapir.report.reading import INSTRUCTION, RunFiles
from tapir.serve.explorer import EXCERPT
from tapir.serve.library import OpenRun
from tapir.tasks import Task

NEAR = 5
"""Examples shown on each side of the line."""
SAMPLE = 2_000
"""Rows whose lengths are measured for the quote."""
DECIMALS = 2


@dataclass(frozen=True)
class Example:
    """A row near the line."""

    id: str
    task: str
    mfd: float
    teacher: float
    student: float
    instruction: str
    response: str


def bench_data(run: RunFiles, rows: Judgements) -> dict[str, Any]:
    """What the page needs to answer at once, as JSON values: rows per task and MFD, prices, and the settings now."""
    cfg = run.config
    values = np.round(rows.mfd, DECIMALS)
    tasks = []
    for place, task in enumerate(rows.tasks):
        found, counts = np.unique(values[rows.codes == place], return_counts=True)
        tasks.append({"task": task, "mfd": found.tolist(), "rows": counts.tolist()})
    return {
        "rows": len(values),
        "tasks": tasks,
        "threshold": cfg.difficulty.threshold,
        "quantile": cfg.difficulty.quantile,
        "target": {task.value: share for task, share in cfg.tasks.target.items()},
        "all_tasks": [task.value for task in Task],
        "rounds": cfg.curriculum.rounds,
        "new_per_round": cfg.expand.new_per_round if cfg.expand.enabled else 0,
        "calls": _calls(run),
        "currency": cfg.budget.currency,
    }


def _calls(run: RunFiles) -> dict[str, Any]:
    """What a seed and a new instruction cost in calls and money: measured where the run has asked already."""
    cfg = run.config
    lines = quote(cfg, read_sizes(run), measured_usage(cfg, run.directory.parent / LEDGER, enough=1))
    seeds = [one for one in lines if one.label == "00-refine"]
    new = [one for one in lines if one.label.startswith("01-") and one.label != "01-evaluate"]
    written = cfg.expand.new_per_round
    return {
        "is_paid": bool(endpoints(cfg)),
        "per_seed": sum(one.calls / one.rows for one in seeds),
        "per_seed_cost": sum(one.cost / one.rows for one in seeds),
        "expand_per_new": sum(one.calls for one in new if one.label == "01-expand") / written,
        "per_new": sum(one.calls for one in new) / written,
        "per_new_cost": sum(one.cost for one in new) / written,
    }


def near_line(run: OpenRun, rows: Judgements, threshold: float, task: str) -> tuple[list[Example], list[Example]]:
    """The rows next above δ and next below or at it, nearest first; of one task, where one is named."""
    values = rows.mfd
    belongs = np.ones(len(values), dtype=np.bool_)
    if task in rows.tasks:
        belongs = rows.codes == rows.tasks.index(task)
    above = np.flatnonzero(belongs & (values > threshold))
    below = np.flatnonzero(belongs & (values <= threshold))
    nearest_above = above[np.argsort(values[above], kind="stable")[:NEAR]]
    nearest_below = below[np.argsort(-values[below], kind="stable")[:NEAR]]
    return _examples(run, rows, nearest_above.tolist()), _examples(run, rows, nearest_below.tolist())


def _examples(run: OpenRun, rows: Judgements, places: list[int]) -> list[Example]:
    source = run.source("00-judge")
    if source is None or not places:
        return []
    found = run.sheet(source).take(places, ["id", INSTRUCTION, "student_response"])
    return [
        Example(
            id=str(row["id"]),
            task=rows.tasks[rows.codes[place]],
            mfd=float(rows.mfd[place]),
            teacher=float(rows.teacher[place]),
            student=float(rows.student[place]),
            instruction=str(row["turns"][-1]["content"])[: EXCERPT + 1],
            response=str(row["student_response"])[: EXCERPT + 1],
        )
        for place, row in zip(places, found, strict=True)
    ]
