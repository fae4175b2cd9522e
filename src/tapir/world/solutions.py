"""How the embedded world reads an instruction and solves it: difficulty, worked steps and direct answer.

One function a family; each takes the instruction's text and returns None where it is not of its family.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tapir.world.facts import (
    ATTRIBUTES,
    CONTINENTS,
    COUNTRIES,
    GAINS,
    INVERTIBLE,
    LOSSES,
    NAMES,
    OBJECTS,
    RESIDENTS,
    attribute,
    country_with,
    fact,
    home_fact,
    inverse_fact,
)
from tapir.world.instructions import PAIRS, plural


class Solution(NamedTuple):
    """What a family makes of an instruction: steps is empty where the family is answered tersely."""

    difficulty: int
    steps: str
    direct: str


def _either(words: Mapping[str, object] | tuple[str, ...]) -> str:
    return "(" + "|".join(words) + ")"


_BODY = re.compile(r"(?:What is (?P<question>.+)\?|(?:Tell me|Give) (?P<request>.+)\.)")


def _body(instruction: str) -> str:
    """What is asked for, without the phrase that asks for it; empty where no such phrase is there."""
    match = _BODY.fullmatch(instruction)
    return (match["question"] or match["request"]) if match else ""


_MATH = re.compile(r"(\d{1,4})([-+*])(\d{1,4})", re.ASCII)


def solve_math(instruction: str) -> Solution | None:
    """Digit by digit from the right, with what is carried; after each comma the result so far."""
    match = _MATH.fullmatch(_body(instruction))
    if match is None or any(len(number) > 1 and number[0] == "0" for number in (match[1], match[3])):
        return None
    first, op, second = int(match[1]), match[2], int(match[3])
    lengths = (len(match[1]), len(match[3]))
    difficulty = (_PRODUCT_LEVEL if op == "*" else _SUM_LEVEL).get(lengths)
    if difficulty is None or (op == "-" and second > first) or (op == "*" and second < 2):
        return None
    work = {"+": _add, "-": _subtract, "*": _multiply}[op]
    result = {"+": first + second, "-": first - second, "*": first * second}[op]
    return Solution(difficulty, work(first, second), str(result))


_SUM_LEVEL = {(1, 1): 1, (2, 1): 2, (2, 2): 3, (3, 3): 4, (4, 4): 5}
_PRODUCT_LEVEL = {(2, 1): 3, (3, 1): 4, (4, 1): 5}


def _digits(number: int, count: int) -> list[int]:
    return [number // 10**i % 10 for i in range(count)]


def _add(first: int, second: int) -> str:
    count = len(str(first))
    steps, carry, result = [], 0, ""
    for i, (a, b) in enumerate(zip(_digits(first, count), _digits(second, count), strict=True)):
        total = a + b + carry
        result = str(total if i == count - 1 else total % 10) + result
        steps.append(f"{a}+{b}{f'+{carry}' if i else ''}={total},{result}")
        carry = total // 10
    return "; ".join(steps)


def _subtract(first: int, second: int) -> str:
    count = len(str(first))
    steps, borrow, result = [], 0, ""
    for i, (a, b) in enumerate(zip(_digits(first, count), _digits(second, count), strict=True)):
        lent = a - b - borrow < 0
        rest = a + 10 * lent - b - borrow
        result = str(rest) + result
        steps.append(f"{a + 10 * lent}-{b}{f'-{borrow}' if i else ''}={rest},{result}")
        borrow = int(lent)
    return "; ".join(steps)


def _multiply(first: int, second: int) -> str:
    count = len(str(first))
    steps, carry, result = [], 0, ""
    for i, a in enumerate(_digits(first, count)):
        total = a * second + carry
        result = str(total if i == count - 1 else total % 10) + result
        carried = f"+{carry}={a * second}+{carry}" if i else ""
        steps.append(f"{a}*{second}{carried}={total},{result}")
        carry = total // 10
    return "; ".join(steps)


_REASON = re.compile(
    rf"{_either(NAMES)} has (?P<start>\d{{1,2}}) (?P<things>{_either(OBJECTS)})\."
    rf"(?P<changes>(?: Then (?:doubles them|{_either(GAINS + LOSSES)} \d)\.){{1,5}})"
    r" How many(?: (?P<again>\w+) now)?\?",
    re.ASCII,
)
_CHANGE = re.compile(r" Then (\w+) (\w+)\.", re.ASCII)


def solve_reason(instruction: str) -> Solution | None:
    """One equation a change."""
    match = _REASON.fullmatch(instruction)
    if match is None or match["again"] not in (None, match["things"]):
        return None
    value, steps = int(match["start"]), []
    for verb, by in _CHANGE.findall(match["changes"]):
        op = "*2" if verb == "doubles" else ("+" if verb in GAINS else "-") + by
        step, value = _apply(value, op)
        steps.append(step)
    return Solution(len(steps), "; ".join(steps), str(value))


def _apply(value: int, op: str) -> tuple[str, int]:
    """The equation of one operation, and its result."""
    by = int(op[1:])
    result = {"+": value + by, "-": value - by, "*": value * by}[op[0]]
    return f"{value}{op}={result}", result


_CODE = re.compile(r"the output of ([xyz])=(\d{1,2})((?:; [xyz]=[xyz][-+*]\d){1,5}); print\(([xyz])\)", re.ASCII)
_STATEMENT = re.compile(r"; ([xyz])=([xyz])([-+*]\d)", re.ASCII)


def solve_code(instruction: str) -> Solution | None:
    """The value of each assignment, with the numbers put in for the names."""
    match = _CODE.fullmatch(_body(instruction))
    if match is None:
        return None
    values, steps = {match[1]: int(match[2])}, []
    for target, source, op in _STATEMENT.findall(match[3]):
        if source not in values:
            return None
        step, value = _apply(values[source], op)
        values[target] = value
        steps.append(f"{target}={step}")
    return Solution(len(steps), "; ".join(steps), str(values[match[4]])) if match[4] in values else None


_DEBUG = re.compile(r"the closing brackets of ([][(){}]{2,40})")


def solve_debug(instruction: str) -> Solution | None:
    """The brackets left open, then what closes them."""
    match = _DEBUG.fullmatch(_body(instruction))
    if match is None:
        return None
    left: list[str] = []
    for bracket in match[1]:
        if bracket in PAIRS:
            left.append(bracket)
        elif not left or PAIRS[left.pop()] != bracket:
            return None
    if not 2 <= len(left) <= 6:
        return None
    closing = "".join(PAIRS[bracket] for bracket in reversed(left))
    return Solution(len(left) - 1, f"open {''.join(left)}; close {closing}", closing)


_FORMAT = re.compile(r"([1-9]\d?(?:, [1-9]\d?){1,5}) sorted as JSON", re.ASCII)


def solve_format(instruction: str) -> Solution | None:
    """Answered tersely: the JSON object alone."""
    match = _FORMAT.fullmatch(_body(instruction))
    if match is None:
        return None
    numbers = sorted(map(int, match[1].split(", ")))
    return Solution(len(numbers) - 1, "", json.dumps({"sorted": numbers}))


_PLACE = rf"(?:(?P<country>{_either(COUNTRIES)})|the country with (?P<key>{_either(INVERTIBLE)}) (?P<value>\w+)"
_PLACE += rf"|the country where (?P<resident>{_either(NAMES)}) lives)"
_ATTRIBUTE = re.compile(rf"the (?P<name>{_either(ATTRIBUTES)}) of {_PLACE}")
_COUNTRY = re.compile(_PLACE)
_WHO = re.compile(
    rf"Who lives in (?P<continent>{_either(CONTINENTS)}), (?P<first>{_either(NAMES)}) or (?P<second>{_either(NAMES)})\?"
)
_THERE = re.compile(
    rf"(?P<first>{_either(NAMES)}) or (?P<second>{_either(NAMES)}) lives in (?P<continent>{_either(CONTINENTS)})\. "
    rf"What is the (?P<name>{_either(INVERTIBLE)}) there\?"
)


def solve_know(instruction: str) -> Solution | None:
    """The facts of the knowledge base that lead to the answer, each in the sentence that states it."""
    compared = _WHO.fullmatch(instruction) or _THERE.fullmatch(instruction)
    if compared is not None:
        return _compare(compared)
    body = _body(instruction)
    match = _COUNTRY.fullmatch(body)
    if match is not None and match["country"] is None:
        place = _place(match)
        return Solution(1, place[1], place[0]) if place else None
    match = _ATTRIBUTE.fullmatch(body)
    place = _place(match) if match else None
    if match is None or place is None or match["name"] == match["key"]:
        return None
    country, steps, level = place[0], place[1], place[2]
    return Solution(level, f"{steps} {fact(country, match['name'])}".strip(), attribute(country, match["name"]))


def _place(match: re.Match[str]) -> tuple[str, str, int] | None:
    """The country that a phrase stands for, the facts that say so, and the difficulty of asking for an attribute."""
    if match["country"] is not None:
        return match["country"], "", 1
    if match["resident"] is not None:
        return RESIDENTS[match["resident"]], home_fact(match["resident"]), 3
    country = country_with(match["key"], match["value"])
    return (country, inverse_fact(match["key"], match["value"]), 2) if country else None


def _compare(match: re.Match[str]) -> Solution | None:
    """Where each of two residents lives, and on which continent; one of them must live on the one asked for."""
    people = (match["first"], match["second"])
    matching = [p for p in people if attribute(RESIDENTS[p], "continent") == match["continent"]]
    if len(matching) != 1:
        return None
    steps = " ".join(f"{home_fact(p)} {fact(RESIDENTS[p], 'continent')}" for p in people)
    if match.re is _WHO:
        return Solution(4, steps, matching[0])
    country = RESIDENTS[matching[0]]
    return Solution(5, f"{steps} {fact(country, match['name'])}", attribute(country, match["name"]))


_TEXT = re.compile(r"the (upper case|plural|reverse) of ([a-z]{3,8})")


def solve_text(instruction: str) -> Solution | None:
    """Answered tersely: the word alone."""
    match = _TEXT.fullmatch(_body(instruction))
    if match is None:
        return None
    kind, word = match[1], match[2]
    if kind == "upper case":
        return Solution(1, "", word.upper()) if len(word) <= 5 else None
    if kind == "plural":
        return Solution(2, "", plural(word)) if 4 <= len(word) <= 5 else None
    return Solution(len(word) // 2 + 1, "", word[::-1]) if len(word) in (4, 6, 8) else None


_UNITS = {("hours", "minutes"): (1, 60), ("minutes", "seconds"): (1, 60), ("weeks", "days"): (2, 7)}
_UNITS |= {("days", "hours"): (2, 24)}
_SIMPLE = re.compile(r"(\d{1,2}) (\w+) in (\w+)", re.ASCII)
_TO_MINUTES = re.compile(r"(\d{1,2}) hours and (\d{1,2}) minutes in minutes", re.ASCII)
_TO_HOURS = re.compile(r"(\d{2,3}) minutes in hours and minutes", re.ASCII)
_CLOCK = re.compile(r"the time (?:(\d{1,2}) hours and )?(\d{1,3}) minutes after (\d{1,2}):(\d\d)", re.ASCII)


def solve_conv(instruction: str) -> Solution | None:
    """Products and sums of the units."""
    body = _body(instruction)
    if match := _SIMPLE.fullmatch(body):
        level, factor = _UNITS.get((match[2], match[3]), (0, 0))
        step, result = _apply(int(match[1]), f"*{factor}")
        return Solution(level, step, str(result)) if level else None
    if match := _TO_MINUTES.fullmatch(body):
        first, whole = _apply(int(match[1]), "*60")
        second, total = _apply(whole, f"+{int(match[2])}")
        return Solution(3, f"{first}; {second}", str(total))
    if match := _TO_HOURS.fullmatch(body):
        total = int(match[1])
        first, whole = _apply(total // 60, "*60")
        second, rest = _apply(total, f"-{whole}")
        return Solution(3, f"{first}; {second}", f"{total // 60}:{rest:02d}")
    match = _CLOCK.fullmatch(body)
    if match is None or int(match[3]) > 23 or int(match[4]) > 59:
        return None
    return _after(match)


def _after(match: re.Match[str]) -> Solution:
    """The time of day some minutes, or hours and minutes, after another."""
    later, minutes, hour = int(match[2]), int(match[4]), int(match[3])
    total = minutes + later
    carried, rest = divmod(total, 60)
    added = f"+{int(match[1])}+{carried}" if match[1] else f"+{carried}"
    reached = hour + carried + int(match[1] or 0)
    steps = f"{minutes}+{later}={total}; {total}={carried}*60+{rest}; {hour}{added}={reached}"
    if reached >= 24:
        steps += f"; {reached}-24={reached - 24}"
    return Solution(5 if match[1] else 4, steps, f"{reached % 24}:{rest:02d}")


SOLVERS: Mapping[str, Callable[[str], Solution | None]] = {
    "math": solve_math,
    "reason": solve_reason,
    "code": solve_code,
    "debug": solve_debug,
    "format": solve_format,
    "know": solve_know,
    "text": solve_text,
    "conv": solve_conv,
}
