"""Model Fitting Difficulty and the seed set: which instructions are hard for this student."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tapir.config import DifficultyConfig
from tapir.rows import Judged, Labelled

RIGHT_SCORE_GAP = 1.0
"""A student's response this close to the teacher's counts as solved."""

LITTLE_SOLVED = 0.6
"""Below this share of D solved, selection by MFD was seen to bring nothing over random seeds (docs/method.md)."""


def mfd(row: Judged) -> float:
    """Model Fitting Difficulty: how far the student falls short of the teacher (METHOD step 4).

    teacher_score - student_score, in judge points: in [-9, 9], higher is harder, 0 or less when the student already
    matches the teacher. Published accounts differ on the sign; this function is the only place that fixes it.
    """
    return row.teacher_score - row.student_score


@dataclass(frozen=True)
class Selection:
    """The seed set D_S and the easy rest D \\ D_S."""

    seeds: list[Labelled]
    easy: list[Labelled]
    threshold: float | None
    """The δ that separated them; None where the seeds were not selected by MFD."""
    notes: tuple[str, ...] = ()
    """What a reader of the run should know about this selection."""


def select_seeds(rows: Sequence[Labelled], cfg: DifficultyConfig, seed: int) -> Selection:
    """Split judged rows into seeds, MFD > δ, and the rest (METHOD step 5); both keep the order of `rows`.

    `cfg.select` may ask for as many random rows instead, or for every row. Where more rows than `cfg.quantile` asks for
    share the largest MFD, so many of them are drawn at random. `seed` decides what is random.
    """
    if cfg.select == "all":
        return Selection(list(rows), [], None)
    threshold = cfg.threshold if cfg.quantile is None else quantile_threshold([mfd(row) for row in rows], cfg.quantile)
    above = [row.id for row in rows if mfd(row) > threshold]
    allowed = len(above) if cfg.quantile is None else int(cfg.quantile * len(rows))
    rng = random.Random(seed)
    hard = set(above if len(above) <= allowed else rng.sample(above, allowed))
    notes = _notes(rows, len(hard))
    if len(above) > len(hard):
        notes += (f"{len(above)} rows share the largest MFD: {len(hard)} of them are drawn at random",)
    if cfg.select == "random":
        hard = set(rng.sample([row.id for row in rows], len(hard)))
    return Selection(
        seeds=[row for row in rows if row.id in hard],
        easy=[row for row in rows if row.id not in hard],
        threshold=threshold if cfg.select == "mfd" else None,
        notes=notes,
    )


def quantile_threshold(values: Sequence[float], share: float) -> float:
    """The smallest δ for which at most `share` of `values` exceed it, and never below 0.

    Ties are taken or left together, so fewer rows than `share` may be above δ. Only where the largest value itself is
    shared by more rows than that, all of them are above: a judge that gives the lowest score to most of what a weak
    student says must not leave it without seeds. A row that the student matches (MFD 0 or less) is never hard, however
    large the share. Empty input gives 0.
    """
    allowed = int(share * len(values))
    ranked = sorted(values, reverse=True)
    if allowed >= len(ranked):
        return 0.0
    # With δ = ranked[allowed], only values strictly above it count: at most `allowed` of them.
    cut = ranked[allowed]
    if allowed and cut == ranked[0]:
        cut = max((value for value in ranked if value < cut), default=0.0)
    return max(0.0, cut)


def solved_share(rows: Sequence[Judged]) -> float:
    """The share of rows that the student answers about as well as the teacher (MFD <= 1); 0 for no rows."""
    return sum(mfd(row) <= RIGHT_SCORE_GAP for row in rows) / len(rows) if rows else 0.0


def _notes(rows: Sequence[Judged], hard: int) -> tuple[str, ...]:
    solved = solved_share(rows)
    notes = [f"the student solves {solved:.0%} of D (MFD <= {RIGHT_SCORE_GAP:g}); {hard} of {len(rows)} rows are hard"]
    if rows and solved < LITTLE_SOLVED:
        notes.append(
            f"it solves less than {LITTLE_SOLVED:.0%}: selection by difficulty cannot be expected to matter much here"
        )
    return tuple(notes)
