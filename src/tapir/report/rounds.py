"""The curriculum as it went: mixtures, loss curves, and what became of the same instructions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tapir.curriculum import alpha
from tapir.report.reading import RunFiles
from tapir.rows import Evaluated
from tapir.status import evaluations

BEST_SCORE = 10.0
NEAR = 1.0
"""Where a set's answers cannot be checked, a score this close to the best counts as solved."""


@dataclass(frozen=True)
class RoundMix:
    """The mixture of one round; planned where it has not been made yet."""

    round: int
    alpha: float
    is_planned: bool
    hard: int = 0
    easy: int = 0
    written: int = 0
    """New instructions admitted in this round."""
    pool: int = 0
    """Rows of D_P that the hard part was drawn from."""
    repeated: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Change:
    """What became of the evaluation items between one student and the next."""

    round: int
    items: int
    learned: int
    """Wrong before, right now."""
    forgotten: int
    """Right before, wrong now."""
    kept: int
    """Right before and now."""
    open: int
    """Wrong before and now."""
    shortfall: float
    """Mean of 10 minus the judge's score, now."""
    spread: tuple[int, ...]
    """Items by 10 minus score, rounded down: 0, 1, ... 9."""


@dataclass(frozen=True)
class Curve:
    """The course of one training stage."""

    title: str
    round: int
    steps: tuple[float, ...]
    loss: tuple[float, ...]
    learning_rate: tuple[float, ...]
    tokens: int | None


def read_mixes(run: RunFiles) -> list[RoundMix]:
    """Every round that the configuration asks for, made or planned."""
    cfg = run.config.curriculum
    found = []
    for round_ in range(1, cfg.rounds + 1):
        stage = run.stage("mix", round_)
        written = sum(one.kept for one in run.in_round(round_, "admit"))
        if stage is None:
            found.append(RoundMix(round_, alpha(round_, cfg), True, written=written))
            continue
        notes = stage.notes
        counts = {name: int(notes[name]) for name in ("hard", "easy", "pool", "repeated", "tokens")}
        found.append(RoundMix(round_, float(notes["alpha"]), False, written=written, **counts))
    return found


def read_changes(run: RunFiles) -> list[Change]:
    """The same evaluation items from S_0 to the newest student; empty where there is no evaluation."""
    rounds = [(round_, rows) for round_, rows in evaluations(run.directory) if rows]
    found: list[Change] = []
    before: Mapping[tuple[str, str], Evaluated] = {}
    for round_, rows in rounds:
        now = {(row.set, row.id): row for row in rows}
        found.append(_change(round_, before, now))
        before = now
    return found


def is_solved(row: Evaluated) -> bool:
    """Whether an item counts as solved: its answer is right, or its score is near the best."""
    return row.is_correct if row.is_correct is not None else row.score >= BEST_SCORE - NEAR


def _change(
    round_: int, before: Mapping[tuple[str, str], Evaluated], now: Mapping[tuple[str, str], Evaluated]
) -> Change:
    pairs = [(is_solved(before[key]), is_solved(row)) for key, row in now.items() if key in before]
    gaps = [BEST_SCORE - row.score for row in now.values()]
    spread = [0] * 10
    for gap in gaps:
        spread[min(9, int(gap))] += 1
    return Change(
        round=round_,
        items=len(now),
        learned=pairs.count((False, True)),
        forgotten=pairs.count((True, False)),
        kept=pairs.count((True, True)),
        open=pairs.count((False, False)),
        shortfall=sum(gaps) / len(gaps),
        spread=tuple(spread),
    )


def read_curves(run: RunFiles) -> list[Curve]:
    """The loss curves of S_0 and every round, as far as the trainer has noted them."""
    found = []
    for stage in run.stages:
        if stage.name in ("warm-up", "train"):
            columns = _columns(stage.notes.get("curve"))
            if columns is not None:
                found.append(_curve(stage.title, stage.round, columns))
    return found


def _columns(curve: Any) -> dict[str, Sequence[float]] | None:
    """A noted curve as columns, whether it was noted by columns or by points."""
    if isinstance(curve, Mapping) and curve.get("loss"):
        return {str(name): list(values) for name, values in curve.items() if isinstance(values, list | tuple)}
    if isinstance(curve, Sequence) and curve and all(isinstance(point, Mapping) and "loss" in point for point in curve):
        return {name: [float(point[name]) for point in curve] for name in curve[0]}
    return None


def _curve(title: str, round_: int, columns: Mapping[str, Sequence[float]]) -> Curve:
    loss = columns["loss"]
    steps = columns.get("steps") or columns.get("step") or range(1, len(loss) + 1)
    tokens = columns.get("tokens")
    return Curve(
        title="S0" if round_ == 0 else title.partition(":")[0],
        round=round_,
        steps=tuple(float(one) for one in steps),
        loss=tuple(float(one) for one in loss),
        learning_rate=tuple(float(one) for one in columns.get("learning_rate", ())),
        tokens=int(tokens[-1]) if tokens else None,
    )
