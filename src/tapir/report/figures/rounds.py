"""Figures on the curriculum and the training."""

import math
from collections.abc import Sequence

import numpy as np

from tapir.report.charts.columns import Stack, stacked
from tapir.report.charts.lines import Frame, Line, lines
from tapir.report.charts.svg import HALF, NARROW, WIDE, ceiling
from tapir.report.formats import count, signed
from tapir.report.rounds import Change, Curve, RoundMix
from tapir.report.table import Cell, Figure, Table

POINTS = 240
"""Points of a loss curve that are drawn."""
WINDOWS = 20
"""A loss curve is drawn as its running mean over this part of its points: steps of like length have unlike losses."""


def mixture_figure(mixes: Sequence[RoundMix]) -> Figure:
    """Hard and easy rows of each round, with alpha."""
    columns = [_column(one) for one in mixes]
    title = "The mixture of each round"
    drawn = [stacked(columns, width, 270, title, "rows in the training set") for width in (HALF, NARROW)]
    rows = tuple(
        (
            f"{one.round}{' (planned)' if one.is_planned else ''}",
            f"{one.alpha:g}",
            one.hard,
            one.easy,
            one.written,
            one.pool,
            one.repeated,
            one.tokens,
        )
        for one in mixes
    )
    head = ("round", "alpha", "hard rows", "easy rows", "new instructions", "hard pool", "repeated rows", "tokens")
    return Figure(
        key="mixture",
        title=title,
        conclusion=_conclude_mixture(mixes),
        wide=drawn[0],
        narrow=drawn[1],
        table=Table(head, rows, "Repeated: rows beyond the first of the same instruction."),
        legend=(("k-hard", "hard, drawn by the target distribution"), ("k-easy", "easy, kept against forgetting")),
    )


def _column(one: RoundMix) -> Stack:
    note = f"α = {one.alpha:g}"
    if one.is_planned:
        return Stack(f"round {one.round}", (), f"{note}, planned", is_faint=True)
    parts = (
        ("k-hard", float(one.hard), f"round {one.round}: {one.hard:,} hard rows"),
        ("k-easy", float(one.easy), f"round {one.round}: {one.easy:,} easy rows"),
    )
    return Stack(f"round {one.round}", parts, note)


def _conclude_mixture(mixes: Sequence[RoundMix]) -> str:
    made = [one for one in mixes if not one.is_planned]
    if not made:
        return "No mixture is made yet; shown is the plan."
    alphas = ", ".join(f"{one.alpha:g}" for one in mixes)
    text = f"The share of hard rows goes {alphas}." if len(mixes) > 1 else f"One round, {alphas} of it hard."
    repeated = sum(one.repeated for one in made)
    rows = sum(one.hard + one.easy for one in made)
    if repeated > rows / 4:
        text += f" {count(repeated, 'row')} of {rows:,} are repeats: a pool is small for what is drawn from it."
    return text + f" {sum(one.written for one in made):,} new instructions joined on the way."


def change_figure(changes: Sequence[Change]) -> Figure | None:
    """What became of the same items from round to round; None without two students on the same items."""
    steps = [one for one in changes if one.learned + one.forgotten + one.kept + one.open]
    if not steps:
        return None
    columns = [
        Stack(
            f"round {one.round}",
            (
                ("k-easy", float(one.kept), f"{one.kept:,} right before and after"),
                ("k-hard", float(one.learned), f"{one.learned:,} learned"),
                ("k-refused", float(one.forgotten), f"{one.forgotten:,} forgotten"),
                ("k-open", float(one.open), f"{one.open:,} wrong before and after"),
            ),
            signed(one.learned - one.forgotten, 0),
        )
        for one in steps
    ]
    title = "The same items, round after round"
    table = Table(
        ("round", "items", "learned", "forgotten", "right both times", "wrong both times", "mean shortfall"),
        tuple(
            (str(one.round), one.items, one.learned, one.forgotten, one.kept, one.open, f"{one.shortfall:.2f}")
            for one in changes
        ),
        "Shortfall: 10 minus the judge's score of the student, the part of MFD that the student can change.",
    )
    legend = (
        ("k-easy", "right, still right"),
        ("k-hard", "learned"),
        ("k-refused", "forgotten"),
        ("k-open", "still wrong"),
    )
    drawn = [stacked(columns, width, 270, title, "evaluation items") for width in (HALF, NARROW)]
    return Figure("changes", title, _conclude_changes(steps), drawn[0], drawn[1], table, legend)


def _conclude_changes(steps: Sequence[Change]) -> str:
    learned, forgotten = sum(one.learned for one in steps), sum(one.forgotten for one in steps)
    text = f"Over all rounds {learned:,} items were learned and {forgotten:,} forgotten on the way."
    if forgotten > learned:
        return text + " More is lost than gained: lower alpha, or keep more easy rows."
    if learned and forgotten > learned / 3:
        return text + " Much of what is learned replaces something else; the easy rows hold the rest."
    return text


def shortfall_figure(changes: Sequence[Change]) -> Figure | None:
    """How the shortfall of the same items moves, as one line a round."""
    if len(changes) < 2:
        return None
    courses = [
        Line(
            "S0" if one.round == 0 else f"round {one.round}",
            "k-start" if one.round == 0 else "k-tapir" if one is changes[-1] else "k-mid",
            tuple((float(place), 100 * number / one.items) for place, number in enumerate(one.spread)),
            has_marks=one in (changes[0], changes[-1]),
        )
        for one in changes
    ]
    most = max(100 * number / one.items for one in changes for number in one.spread)
    title = "How far the answers fall short"
    unit = "10 minus the judge's score"
    drawn = [
        lines(courses, Frame(width, 270, title, unit, "items, %", 0, ceiling(most), tuple(str(n) for n in range(10))))
        for width in (HALF, NARROW)
    ]
    table = Table(
        ("shortfall", *(one.label for one in courses)),
        tuple((str(place), *(one.spread[place] for one in changes)) for place in range(10)),
    )
    first, last = changes[0].shortfall, changes[-1].shortfall
    text = f"The mean shortfall of the same items goes from {first:.2f} to {last:.2f} points."
    return Figure("shortfall", title, text, drawn[0], drawn[1], table)


def loss_figure(curves: Sequence[Curve]) -> Figure | None:
    """Loss over steps, one line a round; None where the trainer has noted none."""
    drawable = [one for one in curves if sum(map(math.isfinite, one.loss)) > 1]
    if not drawable:
        return None
    most = max(_robust_top(one.loss) for one in drawable)
    courses = [
        Line(
            one.title,
            "k-start" if one.round == 0 else "k-tapir" if one is drawable[-1] else "k-mid",
            _smooth(one, most),
        )
        for one in drawable
    ]
    top = ceiling(max(loss for one in courses for _, loss in one.points))
    title = "Training loss"
    drawn = [
        lines(courses, Frame(width, 270, title, "optimiser steps", "loss per token, running mean", 0, top))
        for width in (WIDE, NARROW)
    ]
    rows = tuple(_loss_row(one) for one in curves)
    return Figure(
        key="loss",
        title=title,
        conclusion="Each round starts on new data, so its loss begins above where the last one ended. "
        "A curve that still falls at its end asks for more steps; one that is flat from the start asks for less.",
        wide=drawn[0],
        narrow=drawn[1],
        table=Table(("stage", "steps", "first loss", "last loss", "peak learning rate", "tokens"), rows),
    )


def _loss_row(one: Curve) -> tuple[Cell, ...]:
    peak = f"{max(one.learning_rate):.2g}" if one.learning_rate else None
    return one.title, round(one.steps[-1]), f"{one.loss[0]:.3f}", f"{one.loss[-1]:.3f}", peak, one.tokens


def _robust_top(loss: Sequence[float]) -> float:
    """A loss that all but a few points stay below."""
    ranked = sorted(one for one in loss if math.isfinite(one))
    return ranked[int(0.98 * (len(ranked) - 1))] if ranked else 1.0


def _smooth(one: Curve, most: float) -> tuple[tuple[float, float], ...]:
    """At most `POINTS` points of the curve's running mean, its diverged parts cut at `most`."""
    loss = np.array(one.loss, dtype=np.float64)
    steps = np.array(one.steps, dtype=np.float64)[np.isfinite(loss)]
    loss = np.minimum(loss[np.isfinite(loss)], most)
    window = _window(len(loss))
    means = np.convolve(loss, np.ones(window) / window, mode="valid")
    middles = np.convolve(steps, np.ones(window) / window, mode="valid")
    places = np.unique(np.linspace(0, len(means) - 1, min(POINTS, len(means))).round().astype(np.int64))
    return tuple((float(middles[place]), float(means[place])) for place in places)


def _window(points: int) -> int:
    """Points that a running mean is taken over."""
    return max(1, points // WINDOWS)
