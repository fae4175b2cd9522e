"""Numbers and model text as they are shown."""

import re
from datetime import UTC, datetime

from markupsafe import Markup, escape

from tapir.evaluation.results import Difference
from tapir.report.table import Cell

EXCERPT = 1200
"""Characters of a text in the report; the rest stays in the run directory."""

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Characters that are not seen but change what is: controls, zero-width and direction marks, tags, fillers."""

_JOINERS = "\u200c\u200d"
"""Needed inside words of Persian, Hindi and others, and inside emoji: shown as they are there, marked elsewhere."""


_FIGURE = re.compile(r"[+−-]?[0-9][0-9,]*(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?(?:\u00a0%)?")


def shown(text: str, most: int | None = None) -> Markup:
    """Model or data text, safe to place in a page: escaped, and every invisible character made visible."""
    cut = text if most is None or len(text) <= most else text[:most]
    parts: list[str] = []
    at = 0
    for found in _HIDDEN.finditer(cut):
        char = found.group()
        if char in _JOINERS and _joins(cut, found.start()):
            continue
        parts.append(str(escape(cut[at : found.start()])))
        parts.append(f'<span class="hidden-char">U+{ord(char):04X}</span>')
        at = found.end()
    parts.append(str(escape(cut[at:])))
    return Markup("".join(parts))


def _joins(text: str, at: int) -> bool:
    """Whether a joiner stands between two characters of a script that uses it, or of an emoji."""
    around = text[at - 1 : at] + text[at + 1 : at + 2]
    return len(around) == 2 and all(ord(char) > 0x2FF and not _HIDDEN.match(char) for char in around)


def cell(value: Cell) -> str:
    """A table's cell."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}"


def is_figure(value: Cell) -> bool:
    """Whether a cell holds a number, as one or as text: it stands at the right."""
    return isinstance(value, int | float) or (isinstance(value, str) and bool(_FIGURE.fullmatch(value)))


def percent(value: float) -> str:
    """A figure in percent: 38.1 %, with a space that does not break."""
    return f"{value:.1f}\u00a0%"


def share(part: float, whole: float) -> str:
    """A part of a whole in percent; a dash where there is no whole."""
    return f"{100 * part / whole:.1f}\u00a0%" if whole else "–"


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign, a true minus included."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text.replace("−0.0", "0.0").replace("+0.0", "0.0") if digits == 1 and abs(value) < 0.05 else text


def gap(one: Difference) -> str:
    """A difference with its interval: +21.9 [20.1, 23.5]."""
    return f"{signed(one.mean)}\u00a0[{bound(one.low)},\u00a0{bound(one.high)}]"


def bound(value: float) -> str:
    """An end of an interval."""
    return f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: 1 row, 3,000 rows."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(names: list[str]) -> str:
    """Names as a sentence lists them."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def moment(seconds: float) -> str:
    """A time since 1970 as a date in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
