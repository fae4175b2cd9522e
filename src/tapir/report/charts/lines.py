"""Lines over steps, rounds or levels, with a label at each line's end."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tapir.report.charts.svg import CHAR_WIDE, Scale, clipped, drawing, line, mark, path, short, text

LABEL_GAP = 12.0
"""Units between a line's end and its label."""
BOLD_WIDE = 1.25 * CHAR_WIDE
"""Room that a character of such a label takes: it is bold."""


@dataclass(frozen=True)
class Line:
    """One course."""

    label: str
    style: str
    points: tuple[tuple[float, float], ...]
    has_marks: bool = False


@dataclass(frozen=True)
class Frame:
    """What the lines are drawn in."""

    width: float
    height: float
    title: str
    x_unit: str
    y_unit: str
    low: float
    high: float
    x_names: tuple[str, ...] = ()
    """Names of the places 0, 1, 2, ... on the x axis; empty: the values themselves."""


def lines(courses: Sequence[Line], frame: Frame) -> Markup:
    """The chart."""
    room = min(160.0, LABEL_GAP + BOLD_WIDE * max((len(one.label) for one in courses), default=0))
    left, top, bottom = 46.0, 24.0, 40.0
    xs = [x for one in courses for x, _ in one.points] or [0.0]
    across = Scale(min(xs), max(xs), left + 8, frame.width - room)
    up = Scale(frame.low, frame.high, frame.height - bottom, top)
    parts: list[Markup] = []
    for tick in up.ticks(5):
        parts.append(line(left, up(tick), across.end, up(tick), "grid"))
        parts.append(text(left - 6, up(tick) + 4, short(tick), "muted num", "end"))
    parts.append(line(left, up(frame.low), across.end, up(frame.low), "axis"))
    for place, name in _x_ticks(frame, across):
        parts.append(text(across(place), up(frame.low) + 16, name, "muted", "middle"))
    parts.append(text(4, 12, frame.y_unit, "muted"))
    parts.append(text(left, frame.height - 4, frame.x_unit, "muted"))
    for one in courses:
        points = [(across(x), up(y)) for x, y in one.points]
        parts.append(path(points, f"line {one.style}", one.label))
        if one.has_marks:
            parts += [
                mark(px, py, one.style, f"{one.label}: {y:.1f}", 4)
                for (px, py), (_, y) in zip(points, one.points, strict=True)
            ]
    parts += _end_labels(courses, across, up, room)
    return drawing(frame.width, frame.height, frame.title, parts)


def _x_ticks(frame: Frame, across: Scale) -> list[tuple[float, str]]:
    if frame.x_names:
        return [(float(place), name) for place, name in enumerate(frame.x_names)]
    most = 6 if frame.width > 400 else 4
    return [(tick, short(tick)) for tick in across.ticks(most)]


def _end_labels(courses: Sequence[Line], across: Scale, up: Scale, room: float) -> list[Markup]:
    """Labels beside the last points, moved apart where they would touch."""
    ends = sorted(((up(one.points[-1][1]), one) for one in courses if one.points), key=lambda item: item[0])
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + 14) if places else y)
    overflow = places[-1] - (up.start + 4) if places else 0
    if overflow > 0:
        places = [max(up.end, place - overflow) for place in places]
    return [
        text(across.end + LABEL_GAP, place + 4, clipped(one.label, room - LABEL_GAP), f"label {one.style}")
        for place, (_, one) in zip(places, ends, strict=True)
    ]
