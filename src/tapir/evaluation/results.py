"""Numbers from evaluated rows: accuracy per part, and how sure a difference between two students is."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tapir.rows import Evaluated
from tapir.tasks import Task

CORE_TASKS = frozenset({Task.MATH, Task.REASONING, Task.CODE_GENERATION})
EASY_UP_TO = 2
UNLABELLED = "unlabelled"
"""The task of items whose set states none."""

PARTS: Mapping[str, Callable[[Evaluated], bool]] = {
    "all": lambda row: True,
    "easy": lambda row: row.difficulty is not None and row.difficulty <= EASY_UP_TO,
    "hard": lambda row: row.difficulty is not None and row.difficulty > EASY_UP_TO,
    "core": lambda row: row.difficulty is not None and row.difficulty > EASY_UP_TO and row.task in CORE_TASKS,
}
"""Parts of an evaluation set. Core: hard items of math, reasoning and code."""


def value(row: Evaluated) -> float:
    """What a row counts: 100 or 0 where its answer can be checked, else its score in percent of the scale 1-10."""
    if row.is_correct is not None:
        return 100.0 * row.is_correct
    return (row.score - 1) / 9 * 100


@dataclass(frozen=True)
class Summary:
    """A student's results, in percent; a part without items is None."""

    items: int
    is_accuracy: bool
    """Whether the figures are the share of right answers; else mean judge scores in percent of the scale."""
    all: float | None
    easy: float | None
    hard: float | None
    core: float | None
    d_like: float | None
    """Weighted by the corpus' own distribution: falls when a student forgets what most of D asks."""
    score: float | None
    """Mean judge score, 1-10."""
    tasks: dict[str, float]
    difficulty: dict[str, float]
    sets: dict[str, float]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


def summarise(rows: Sequence[Evaluated]) -> Summary:
    """The results of one student over all its evaluated rows."""
    parts = {name: _mean([value(row) for row in rows if belongs(row)]) for name, belongs in PARTS.items()}
    weights = [row.weight for row in rows]
    d_like = None
    if rows and len(set(weights)) > 1:
        d_like = float(np.average([value(row) for row in rows], weights=weights))
    return Summary(
        items=len(rows),
        is_accuracy=bool(rows) and all(row.is_correct is not None for row in rows),
        all=parts["all"],
        easy=parts["easy"],
        hard=parts["hard"],
        core=parts["core"],
        d_like=d_like,
        score=_mean([row.score for row in rows]),
        tasks=_grouped(rows, lambda row: row.task.value if row.task else UNLABELLED),
        difficulty=_grouped(rows, lambda row: str(row.difficulty) if row.difficulty is not None else ""),
        sets=_grouped(rows, lambda row: row.set),
    )


def by_set(rows: Sequence[Evaluated]) -> dict[str, Summary]:
    """The results of one student on each evaluation set, in the order in which they come."""
    sets: dict[str, list[Evaluated]] = defaultdict(list)
    for row in rows:
        sets[row.set].append(row)
    return {name: summarise(own) for name, own in sets.items()}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _grouped(rows: Sequence[Evaluated], key: Callable[[Evaluated], str]) -> dict[str, float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(value(row))
    return {name: float(np.mean(values)) for name, values in sorted(groups.items()) if name}


@dataclass(frozen=True)
class Difference:
    """How much better one student is than another on the same items, in percentage points."""

    mean: float
    low: float
    high: float
    """A 95 % interval: paired bootstrap over items."""
    items: int


def paired_difference(
    ours: Sequence[Evaluated],
    theirs: Sequence[Evaluated],
    belongs: Callable[[Evaluated], bool] = PARTS["all"],
    *,
    draws: int = 4000,
    seed: int = 0,
) -> Difference | None:
    """Ours minus theirs over the items both were measured on; None where there is none.

    The interval speaks of the items only: the training's own chance shows between seeds.
    """
    other = {(row.set, row.id): row for row in theirs}
    pairs = [(row, other[row.set, row.id]) for row in ours if belongs(row) and (row.set, row.id) in other]
    if not pairs:
        return None
    gaps = np.array([value(one) - value(two) for one, two in pairs])
    rng = np.random.default_rng(seed)
    means = np.array([gaps[rng.integers(0, len(gaps), len(gaps))].mean() for _ in range(draws)])
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(float(gaps.mean()), float(low), float(high), len(gaps))
