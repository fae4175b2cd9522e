"""The judge's health: how it spends its scale, what it could not read, and whether order or length sways it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from tapir.report.difficulty import Judgements
from tapir.report.reading import Arrow, RunFiles, Stage
from tapir.status import evaluations

SAME = 0.5
"""Two scores of the same text this close agree."""
SCORES = range(1, 11)
MOST_DETAILS = 200_000
"""Verdicts whose details are read; more would say the same."""


@dataclass(frozen=True)
class Agreement:
    """The same text scored twice."""

    pairs: int
    same: int
    """Pairs whose scores are at most half a point apart."""
    mean_gap: float
    """Mean absolute difference, in judge points."""


@dataclass(frozen=True)
class OrderEffect:
    """What an answer gains by standing first, where each pair was judged in both orders."""

    rows: int
    gain: float
    """Mean score when first minus mean score when second, over both answers."""
    flipped: int
    """Rows where the better answer changes with the order."""
    agreement: Agreement


@dataclass(frozen=True)
class JudgeHealth:
    """How far the verdicts can be trusted."""

    rows: int
    teacher: tuple[int, ...]
    """Rows by the teacher's score, rounded: 1, 2, ... 10."""
    student: tuple[int, ...]
    asked: int
    """Rows that went to the judge, over all its stages."""
    unreadable: int
    refused: int
    """Rows without a verdict for any reason, unreadable ones included."""
    asked_again: int
    """Replies that could not be read and were asked for once more."""
    ties: int
    student_wins: int
    """Rows on which the student scores above the teacher."""
    order: OrderEffect | None
    repeats: Agreement | None
    """Equal answers to the same evaluation item in different rounds."""
    length: float | None
    """Correlation of the student's score with the logarithm of its answer's length."""


def read_judge(run: RunFiles, rows: Judgements | None) -> JudgeHealth | None:
    """The judge's health; None before D is judged."""
    stage = run.stage("judge")
    if stage is None or rows is None or not len(rows.ids):
        return None
    stages = [stage, *run.named("judge-new")]
    reasons = [one.refused for one in stages]
    return JudgeHealth(
        rows=len(rows.ids),
        teacher=_spread(rows.teacher),
        student=_spread(rows.student),
        asked=sum(one.rows_in for one in stages),
        unreadable=sum(one.get("unreadable-verdict", 0) for one in reasons),
        refused=sum(sum(one.values()) for one in reasons),
        asked_again=sum(int(one.notes.get("asked_again", 0)) for one in stages),
        ties=int((rows.mfd == 0).sum()),
        student_wins=int((rows.mfd < 0).sum()),
        order=_order_effect(stage),
        repeats=_repeats(run),
        length=_length_effect(stage, rows),
    )


def _spread(scores: NDArray[np.float64]) -> tuple[int, ...]:
    counts = np.bincount(np.clip(np.round(scores), 1, 10).astype(np.int64), minlength=11)[1:]
    return tuple(int(one) for one in counts)


@dataclass(frozen=True)
class Verdict:
    """One reply of the judge, as its adapter noted it in `judge_detail`."""

    first: str
    """Whose answer stood first: `reference` (the teacher's) or `student`; empty where one was scored alone."""
    teacher: float | None
    student: float | None
    text: str
    """What the judge said, where it is not the verdict's own rationale."""


def verdicts(detail: str | None) -> list[Verdict]:
    """The single replies behind a verdict; empty where the adapter noted none that can be read."""
    try:
        noted = json.loads(detail) if detail else None
    except ValueError:
        return []
    if not isinstance(noted, dict) or not isinstance(calls := noted.get("calls"), list):
        return []
    swapped = str(noted.get("swapped_rationale") or "")
    return [found for call in calls if isinstance(call, dict) and (found := _verdict(call, swapped)) is not None]


def _verdict(call: Mapping[str, Any], swapped: str) -> Verdict | None:
    alone = call.get("shown")
    scores = {name: call.get("score") if alone == name else call.get(name) for name in ("reference", "student")}
    teacher, student = (float(one) if isinstance(one, int | float) else None for one in scores.values())
    if teacher is None and student is None:
        return None
    first = str(call.get("first", ""))
    return Verdict(first, teacher, student, swapped if first == "student" else "")


def _order_effect(stage: Stage) -> OrderEffect | None:
    gains: list[float] = []
    gaps: list[float] = []
    flipped = 0
    for batch in stage.batches("judge_detail"):
        for detail in batch.column(0).to_pylist():
            pair = {one.first: (one.teacher, one.student) for one in verdicts(detail)}
            match pair.get("reference"), pair.get("student"):
                case (float(teacher), float(student)), (float(teacher_second), float(student_first)):
                    gains += [teacher - teacher_second, student_first - student]
                    gaps += [abs(teacher - teacher_second), abs(student - student_first)]
                    flipped += (teacher - student) * (teacher_second - student_first) < 0
        if len(gains) > 2 * MOST_DETAILS:
            break
    if not gains:
        return None
    return OrderEffect(len(gains) // 2, sum(gains) / len(gains), flipped, _agreement(gaps))


def _agreement(gaps: Sequence[float]) -> Agreement:
    return Agreement(len(gaps), sum(one <= SAME for one in gaps), sum(gaps) / len(gaps))


def _repeats(run: RunFiles) -> Agreement | None:
    """The student often answers an item the same in two rounds: the judge should score that the same."""
    seen: dict[tuple[str, str, str], float] = {}
    gaps: list[float] = []
    for _, rows in evaluations(run.directory):
        for row in rows:
            key = (row.set, row.id, row.response)
            if key in seen:
                gaps.append(abs(seen[key] - row.score))
            seen[key] = row.score
    return _agreement(gaps) if gaps else None


def _length_effect(stage: Stage, rows: Judgements) -> float | None:
    columns: list[Arrow] = [batch.column(0) for batch in stage.batches("student_response")]
    counts: list[Arrow] = [pc.utf8_length(one) for one in columns]
    lengths = np.log1p(np.concatenate([one.to_numpy() for one in counts]).astype(np.float64)) if counts else np.zeros(0)
    if len(lengths) < 3 or lengths.std() == 0 or rows.student.std() == 0:
        return None
    return float(np.corrcoef(lengths, rows.student)[0, 1])
