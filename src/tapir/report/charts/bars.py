"""Bars along a line, one a row."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tapir.report.charts.svg import NARROW, box, clipped, drawing, text


@dataclass(frozen=True)
class Bar:
    """A labelled amount."""

    label: str
    value: float
    note: str
    style: str = "k-node"


def bars(rows: Sequence[Bar], width: float, title: str) -> Markup:
    """The chart; its figures stand at the bars' ends, so it needs no axis."""
    is_narrow = width <= NARROW
    pitch = 36.0 if is_narrow else 24.0
    left = 2.0 if is_narrow else min(230.0, 24 + 7.0 * max((len(one.label) for one in rows), default=0))
    room = 16 + 6.6 * max((len(one.note) for one in rows), default=0)
    most = max((one.value for one in rows), default=0.0)
    parts: list[Markup] = []
    for index, one in enumerate(rows):
        y = 4 + pitch * index
        if is_narrow:
            parts.append(text(left, y + 12, one.label))
            y += 16
        else:
            parts.append(text(left - 12, y + 15, clipped(one.label, left - 12), "", "end"))
        length = (width - left - room) * one.value / most if most > 0 else 0.0
        parts.append(box(left, y + 4, max(1.0, length), 14, one.style, f"{one.label}: {one.note}"))
        parts.append(text(left + max(1.0, length) + 7, y + 15, one.note, "num muted"))
    return drawing(width, 10 + pitch * len(rows), title, parts)
