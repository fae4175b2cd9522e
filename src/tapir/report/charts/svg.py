"""Elements of a drawing: escaped markup, scales and ticks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDE = 720
"""Units across a drawing for a desk; text keeps its size because a drawing is never stretched."""
HALF = 424
"""Units across a drawing that shares its line with another."""
NARROW = 340
"""Units across a drawing for a phone."""
CHAR_WIDE = 7.0
"""Room that a character of a label takes at most, on average."""


def el(tag: str, *content: Markup | str, **attributes: str | float | None) -> Markup:
    """An element; attributes that are None are left out, `_` in their names becomes `-`."""
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is not None:
            shown = number(value) if isinstance(value, int | float) else str(escape(value))
            parts.append(f' {name.rstrip("_").replace("_", "-")}="{shown}"')
    inner = "".join(str(escape(one)) for one in content)
    return Markup("".join(parts) + (f">{inner}</{tag}>" if inner else "/>"))


def number(value: float) -> str:
    """A coordinate with one decimal at most."""
    text = f"{value:.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"


def drawing(width: float, height: float, title: str, parts: Iterable[Markup], style: str = "chart") -> Markup:
    """A whole drawing with its name for those who do not see it."""
    return el(
        "svg",
        *parts,
        class_=style,
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=title,
    )


def text(x: float, y: float, content: str, style: str = "", anchor: str = "start") -> Markup:
    """A line of text; `y` is its baseline."""
    return el(
        "text", content, x=x, y=y, class_=f"t {style}".rstrip(), text_anchor=None if anchor == "start" else anchor
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    """A straight line."""
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=style)


def box(x: float, y: float, width: float, height: float, style: str, hint: str = "") -> Markup:
    """A rectangle; `hint` shows on hovering."""
    content = [el("title", hint)] if hint else []
    return el("rect", *content, x=x, y=y, width=max(0.0, width), height=max(0.0, height), class_=style)


def path(points: Sequence[tuple[float, float]], style: str, hint: str = "") -> Markup:
    """A line through points."""
    d = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return el("path", *([el("title", hint)] if hint else []), d=d, class_=style)


def mark(x: float, y: float, style: str, hint: str = "", radius: float = 5) -> Markup:
    """A mark whose shape follows its style, so that colour is never the only difference.

    TAPIR is a disc, S_0 a ring, a rival a diamond, a target an upright stroke.
    """
    content = [el("title", hint)] if hint else []
    if style == "k-rival":
        r = radius + 0.5
        corners = ((x, y - r), (x + r, y), (x, y + r), (x - r, y))
        d = f"M{'L'.join(f'{number(a)} {number(b)}' for a, b in corners)}Z"
        return el("path", *content, d=d, class_="mark k-rival")
    if style == "k-target":
        return el("rect", *content, x=x - 1.5, y=y - 8, width=3, height=16, class_="mark k-target")
    return el("circle", *content, cx=x, cy=y, r=radius, class_=f"mark {style}")


@dataclass(frozen=True)
class Scale:
    """Maps values to places along an axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        return self.start + (value - self.low) / span * (self.end - self.start) if span else self.start

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside the scale."""
        return ticks(self.low, self.high, most)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round values in [low, high], evenly spaced by 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(place * step, 10) for place in range(first, last + 1)]


def ceiling(value: float) -> float:
    """The round number at or above `value`, for the end of an axis; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        factor * power for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if factor * power >= value * (1 - 1e-9)
    )


def short(value: float) -> str:
    """A number for an axis: 1.2k, 3M, 0.25."""
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            divisor = 1e3 if unit == "k" else limit
            return f"{value / divisor:.3g}{unit}"
    return f"{value:,.0f}" if value == round(value) else f"{value:.3g}"


def clipped(label: str, room: float) -> str:
    """As much of a label as fits into `room` units."""
    most = max(3, int(room / CHAR_WIDE))
    return label if len(label) <= most else label[: most - 1].rstrip() + "…"
