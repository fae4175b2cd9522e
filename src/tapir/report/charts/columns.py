"""Columns: histograms with a threshold, and stacked counts."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tapir.report.charts.svg import Scale, box, ceiling, drawing, el, line, short, text
from tapir.report.difficulty import Histogram


def mfd_histogram(bins: Histogram, threshold: float, width: float, height: float, title: str) -> Markup:
    """Rows by MFD; what lies right of the threshold is hard. Small ones name only the ends of the axis."""
    is_small = width < 300
    left, right, top, bottom = (4.0, 4.0, 16.0, 20.0) if is_small else (46.0, 10.0, 22.0, 38.0)
    low, high = _range(bins)
    across = Scale(low, high, left, width - right)
    most = ceiling(max(bins.counts, default=0)) if not is_small else max(1, *bins.counts)
    up = Scale(0, most, height - bottom, top)
    parts: list[Markup] = []
    if not is_small:
        for tick in up.ticks(5):
            parts.append(line(left, up(tick), width - right, up(tick), "grid"))
            parts.append(text(left - 6, up(tick) + 4, short(tick), "muted num", "end"))
    for start, end, count, hard in zip(bins.edges, bins.edges[1:], bins.counts, bins.hard, strict=False):
        if count and start >= low - 1e-9:
            parts += _bin(across(start), across(end), up, count, hard, f"MFD {start:g} to {end:g}: {count:,} rows")
    parts.append(line(left, up(0), width - right, up(0), "axis"))
    at = across(min(max(threshold, low), high))
    parts.append(line(at, top - 6, at, up(0), "delta"))
    label = f"δ = {threshold:g}"
    fits = at + 70 < width
    parts.append(text(at + 4 if fits else at - 4, top - 4, label, "delta-label", "start" if fits else "end"))
    ends = [low, high] if is_small else across.ticks(11)
    for tick in ends:
        anchor = "middle" if not is_small else "start" if tick == low else "end"
        parts.append(text(across(tick), up(0) + 14, f"{tick:g}", "muted", anchor))
    if not is_small:
        parts.append(text(left, height - 4, "MFD: teacher's score minus student's score", "muted"))
    return drawing(width, height, title, parts)


def _range(bins: Histogram) -> tuple[float, float]:
    """The part of the axis that holds rows, with 0 and 9 in it."""
    used = [start for start, count in zip(bins.edges, bins.counts, strict=False) if count]
    return min([-1.0, *used]), 9.0


def _bin(start: float, end: float, up: Scale, count: int, hard: int, hint: str) -> list[Markup]:
    width = max(1.0, end - start - 1)
    easy = count - hard
    parts = [box(start + 0.5, up(easy), width, up(0) - up(easy), "k-easy", hint)] if easy else []
    if hard:
        parts.append(box(start + 0.5, up(count), width, up(easy) - up(count), "k-hard", hint))
    return parts


@dataclass(frozen=True)
class Stack:
    """One column: its name and its parts, from the bottom up."""

    label: str
    parts: tuple[tuple[str, float, str], ...]
    """Style, size and hint of each part."""
    note: str = ""
    is_faint: bool = False
    """For what is planned and not done."""


def stacked(columns: Sequence[Stack], width: float, height: float, title: str, unit: str) -> Markup:
    """Stacked columns with their notes above."""
    left, right, top, bottom = 50.0, 8.0, 24.0, 40.0
    most = ceiling(max((sum(size for _, size, _ in one.parts) for one in columns), default=0))
    up = Scale(0, most, height - bottom, top)
    pitch = (width - left - right) / max(1, len(columns))
    thick = min(64.0, pitch * 0.62)
    parts: list[Markup] = []
    for tick in up.ticks(5):
        parts.append(line(left, up(tick), width - right, up(tick), "grid"))
        parts.append(text(left - 6, up(tick) + 4, short(tick), "muted num", "end"))
    for index, column in enumerate(columns):
        middle = left + pitch * (index + 0.5)
        bottom_value = 0.0
        bars = []
        for style, size, hint in column.parts:
            start, bottom_value = bottom_value, bottom_value + size
            bars.append(box(middle - thick / 2, up(bottom_value), thick, up(start) - up(bottom_value), style, hint))
        parts.append(el("g", *bars, class_="planned" if column.is_faint else None))
        parts.append(text(middle, up(bottom_value) - 6, column.note, "strong", "middle"))
        parts.append(text(middle, up(0) + 16, column.label, "", "middle"))
    parts.append(line(left, up(0), width - right, up(0), "axis"))
    parts.append(text(left, height - 4, unit, "muted"))
    return drawing(width, height, title, parts)


def paired(
    labels: Sequence[str],
    first: Sequence[int],
    second: Sequence[int],
    styles: tuple[str, str],
    size: tuple[float, float],
    title: str,
    unit: str,
) -> Markup:
    """Two counts a label, side by side."""
    width, height = size
    left, right, top, bottom = 46.0, 6.0, 10.0, 38.0
    up = Scale(0, ceiling(max([*first, *second, 0])), height - bottom, top)
    pitch = (width - left - right) / max(1, len(labels))
    parts: list[Markup] = []
    for tick in up.ticks(5):
        parts.append(line(left, up(tick), width - right, up(tick), "grid"))
        parts.append(text(left - 6, up(tick) + 4, short(tick), "muted num", "end"))
    for index, label in enumerate(labels):
        start = left + pitch * index
        for place, (counts, style) in enumerate(zip((first, second), styles, strict=True)):
            count = counts[index]
            x = start + pitch * (0.12 + 0.38 * place)
            parts.append(box(x, up(count), pitch * 0.36, up(0) - up(count), style, f"{label}: {count:,} rows"))
        parts.append(text(start + pitch / 2, up(0) + 15, label, "muted", "middle"))
    parts.append(line(left, up(0), width - right, up(0), "axis"))
    parts.append(text(left, height - 4, unit, "muted"))
    return drawing(width, height, title, parts)
