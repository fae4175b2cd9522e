"""Marks along a common scale, one line a row: who reached what, and how sure it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tapir.report.charts.svg import NARROW, Scale, box, clipped, drawing, line, mark, text


@dataclass(frozen=True)
class Dot:
    """One mark, with its interval where there is one."""

    value: float
    style: str
    hint: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DotRow:
    """A labelled line of marks."""

    label: str
    dots: tuple[Dot, ...]
    note: str = ""
    """Shown at the right end, such as the figure itself."""
    is_strong: bool = False


@dataclass(frozen=True)
class Axis:
    """The common scale of all rows."""

    low: float
    high: float
    unit: str


def dot_rows(rows: Sequence[DotRow], axis: Axis, width: float, title: str) -> Markup:
    """The chart; on a narrow one the labels stand above their lines."""
    is_narrow = width <= NARROW
    pitch = 40 if is_narrow else 28
    left = 8.0 if is_narrow else min(210.0, 24 + 7.0 * max((len(row.label) for row in rows), default=0))
    right = 62.0 if any(row.note for row in rows) else 14.0
    top, bottom = 8.0, 34.0
    height = top + pitch * len(rows) + bottom
    scale = Scale(axis.low, axis.high, left, width - right)
    base = height - bottom
    parts: list[Markup] = []
    for tick in scale.ticks(5 if is_narrow else 7):
        parts.append(line(scale(tick), top, scale(tick), base, "grid"))
        parts.append(text(scale(tick), base + 15, f"{tick:g}", "muted", "middle"))
    parts.append(text(scale(axis.low), height - 4, axis.unit, "muted"))
    for index, row in enumerate(rows):
        y = top + pitch * index + (28 if is_narrow else pitch / 2)
        parts += _row(row, y, scale, left, is_narrow=is_narrow)
    return drawing(width, height, title, parts)


def _row(row: DotRow, y: float, scale: Scale, left: float, *, is_narrow: bool) -> list[Markup]:
    style = "strong" if row.is_strong else ""
    if is_narrow:
        parts = [text(left, y - 12, row.label, style)]
    else:
        parts = [text(left - 12, y + 4, clipped(row.label, left - 12), style, "end")]
    if len(row.dots) > 1:
        ends = [scale(dot.value) for dot in row.dots]
        parts.append(line(min(ends), y, max(ends), y, "span"))
    for dot in row.dots:
        if dot.low is not None and dot.high is not None:
            parts.append(box(scale(dot.low), y - 2, scale(dot.high) - scale(dot.low), 4, f"interval {dot.style}"))
    parts += [mark(scale(dot.value), y, dot.style, dot.hint) for dot in row.dots]
    if row.note:
        parts.append(text(scale.end + 56, y + 4, row.note, f"num {style}".rstrip(), "end"))
    return parts
