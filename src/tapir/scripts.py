"""The writing system of a text, by its letters: a cheap sign of its language."""

from bisect import bisect_right
from collections import Counter

_RANGES = (
    (0x0041, 0x024F, "Latin"),
    (0x0250, 0x02AF, "Latin"),
    (0x0370, 0x03FF, "Greek"),
    (0x0400, 0x052F, "Cyrillic"),
    (0x0530, 0x058F, "Armenian"),
    (0x0590, 0x05FF, "Hebrew"),
    (0x0600, 0x06FF, "Arabic"),
    (0x0750, 0x077F, "Arabic"),
    (0x0900, 0x097F, "Devanagari"),
    (0x0980, 0x09FF, "Bengali"),
    (0x0A00, 0x0A7F, "Gurmukhi"),
    (0x0A80, 0x0AFF, "Gujarati"),
    (0x0B80, 0x0BFF, "Tamil"),
    (0x0C00, 0x0C7F, "Telugu"),
    (0x0C80, 0x0CFF, "Kannada"),
    (0x0D00, 0x0D7F, "Malayalam"),
    (0x0E00, 0x0E7F, "Thai"),
    (0x0E80, 0x0EFF, "Lao"),
    (0x1000, 0x109F, "Burmese"),
    (0x10A0, 0x10FF, "Georgian"),
    (0x1100, 0x11FF, "Hangul"),
    (0x1200, 0x139F, "Ethiopic"),
    (0x1780, 0x17FF, "Khmer"),
    (0x1E00, 0x1EFF, "Latin"),
    (0x1F00, 0x1FFF, "Greek"),
    (0x3040, 0x30FF, "Kana"),
    (0x31F0, 0x31FF, "Kana"),
    (0x3400, 0x4DBF, "Han"),
    (0x4E00, 0x9FFF, "Han"),
    (0xAC00, 0xD7AF, "Hangul"),
    (0xF900, 0xFAFF, "Han"),
    (0xFF21, 0xFF5A, "Latin"),
    (0x20000, 0x3FFFF, "Han"),
)
_STARTS = [first for first, _, _ in _RANGES]
NO_SCRIPT = "none"
OTHER = "other"


def letters_by_script(text: str) -> Counter[str]:
    """Letters of each script in a text; digits, signs and white space do not count."""
    counts: Counter[str] = Counter()
    if text.isascii():
        letters = sum(map(str.isalpha, text))
        if letters:
            counts["Latin"] = letters
        return counts
    for character, times in Counter(text).items():
        if character.isalpha():
            counts[_script(ord(character))] += times
    return counts


def _script(point: int) -> str:
    at = bisect_right(_STARTS, point) - 1
    if at < 0:
        return OTHER
    _, last, name = _RANGES[at]
    return name if point <= last else OTHER


def script_of(text: str) -> str:
    """The script of most letters of a text; `none` for a text without letters.

    Japanese counts as Kana wherever a text holds a notable share (a tenth) of it beside Han.
    """
    counts = letters_by_script(text)
    if not counts:
        return NO_SCRIPT
    if counts["Kana"] * 10 >= counts["Han"] > 0:
        counts["Kana"] += counts.pop("Han")
    return max(counts, key=lambda name: (counts[name], name))
