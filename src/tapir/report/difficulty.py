"""What was hard: the MFD of every judged row, by task, and what any threshold would leave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tapir.difficulty import LITTLE_SOLVED, RIGHT_SCORE_GAP, quantile_threshold
from tapir.report.reading import Arrow, RunFiles

Floats = NDArray[np.float64]

NO_TASK = "unlabelled"
ROUND_TO = 6
"""Decimals that MFD is compared with: scores are sums of a few decimals."""
OTHER_THRESHOLDS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


@dataclass(frozen=True)
class Judgements:
    """Every judged row as numbers, in the order of the judge's stage."""

    ids: Arrow
    teacher: Floats
    student: Floats
    tasks: tuple[str, ...]
    """The tasks that occur, by name."""
    codes: NDArray[np.int64]
    """For each row the place of its task in `tasks`."""

    @cached_property
    def mfd(self) -> Floats:
        """Teacher's score minus student's score."""
        found: Floats = np.round(self.teacher - self.student, ROUND_TO)
        return found

    def of_task(self, task: str) -> Floats:
        """The MFD of one task's rows."""
        found: Floats = self.mfd[self.codes == self.tasks.index(task)]
        return found


@dataclass(frozen=True)
class Histogram:
    """Rows per bin; a bin is (edge, next edge], so that bins right of δ hold exactly the rows with MFD > δ."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    hard: tuple[int, ...]
    """Of those, rows with MFD > δ: all of a bin's or none, unless δ lies inside it."""

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(self.counts)


@dataclass(frozen=True)
class Difficulty:
    """MFD over D."""

    threshold: float
    """δ as configured, or as the quantile gave it."""
    is_selecting: bool
    """Whether seeds were, or will be, selected by MFD."""
    overall: Histogram
    tasks: Mapping[str, Histogram]
    seeds_left: Mapping[float, Mapping[str, int]]
    """Seeds per task for other thresholds."""
    solved: float
    """The share of D that the student answers about as well as the teacher."""
    seeds: int | None
    """Rows that were made seeds: fewer than lie above δ where a quantile met that many rows of the largest MFD; None
    where they were not selected by MFD, or are not yet."""

    @property
    def hard(self) -> int:
        """Rows with MFD > δ."""
        return sum(self.overall.hard)

    @property
    def can_selection_matter(self) -> bool:
        """Whether the student solves enough of D for selection by MFD to be expected to pay."""
        return self.solved >= LITTLE_SOLVED


def read_judgements(run: RunFiles) -> Judgements | None:
    """The judged rows of D with their tasks; None where the judge is not done."""
    stage = run.stage("judge")
    if stage is None:
        return None
    table = stage.read("id", "teacher_score", "student_score")
    ids = table["id"].combine_chunks()
    labels = run.stage("label")
    tasks, codes = task_codes(ids, labels.read("id", "task") if labels else None)
    return Judgements(
        ids=ids,
        teacher=table["teacher_score"].to_numpy().astype(np.float64),
        student=table["student_score"].to_numpy().astype(np.float64),
        tasks=tasks,
        codes=codes,
    )


def task_codes(ids: Arrow, labels: pa.Table | None) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The tasks of rows with these ids, as names and places in them; rows without a label come last."""
    if labels is None:
        return (NO_TASK,), np.zeros(len(ids), dtype=np.int64)
    coded: Arrow = labels["task"].combine_chunks().dictionary_encode()
    order = np.argsort(np.array(coded.dictionary.to_pylist(), dtype=object))
    rank = np.empty(len(order) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    rank[-1] = len(order)
    names = tuple(str(coded.dictionary[int(place)]) for place in order)
    known = coded.indices.to_numpy()
    label_ids = labels["id"].combine_chunks()
    if label_ids.equals(ids):
        return names, rank[known]
    found: Arrow = pc.index_in(ids, value_set=label_ids)
    places = found.fill_null(-1).to_numpy(zero_copy_only=False)
    codes = np.where(places >= 0, known[places] if len(known) else 0, len(order))
    codes = rank[codes]
    return ((*names, NO_TASK) if (codes == len(order)).any() else names), codes


def read_difficulty(run: RunFiles, rows: Judgements | None) -> Difficulty | None:
    """MFD over D against the configured threshold; None where the judge is not done."""
    if rows is None or not len(rows.ids):
        return None
    cfg = run.config.difficulty
    select = run.stage("select")
    threshold = select.notes.get("threshold") if select else None
    if threshold is None:
        threshold = cfg.threshold if cfg.quantile is None else quantile_threshold(rows.mfd.tolist(), cfg.quantile)
    threshold = float(threshold)
    width = bin_width(rows.mfd)
    other = sorted({*OTHER_THRESHOLDS, threshold})
    return Difficulty(
        threshold=threshold,
        is_selecting=cfg.select == "mfd",
        overall=histogram(rows.mfd, threshold, width),
        tasks={task: histogram(rows.of_task(task), threshold, width) for task in rows.tasks},
        seeds_left={one: {task: int((rows.of_task(task) > one).sum()) for task in rows.tasks} for one in other},
        solved=float((rows.mfd <= RIGHT_SCORE_GAP).mean()),
        seeds=select.kept if select and cfg.select == "mfd" else None,
    )


def bin_width(values: Floats) -> float:
    """1 where nearly all values are whole, else a half."""
    return 1.0 if len(values) and float((values == np.round(values)).mean()) > 0.95 else 0.5


def histogram(values: Floats, threshold: float, width: float) -> Histogram:
    """Counts in bins (edge, next edge] over [-9, 9]."""
    edges = np.arange(-9 - width, 9 + width / 2, width)
    places = np.ceil(np.round((values - edges[0]) / width, ROUND_TO)).astype(np.int64) - 1
    bins = len(edges) - 1
    counts = np.bincount(places, minlength=bins)
    hard = np.bincount(places[values > threshold], minlength=bins)
    return Histogram(_floats(edges), _whole(counts), _whole(hard))


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(one) for one in values)


def _whole(values: Sequence[Any] | NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(one) for one in values)
