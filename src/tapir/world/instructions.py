"""How the embedded world writes an instruction: one function a family, from a random source and a difficulty of 1-5.

Only the text is made here; `solutions.solve` reads it back into its answer, so that an instruction and its solution
can never disagree.
"""

from collections.abc import Callable, Mapping
from random import Random

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
    WORDS,
    attribute,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PAIRS = {"(": ")", "[": "]", "{": "}"}
MAX_VALUE = 99
"""The largest number that a step of reason or code may reach."""

_KNOWN = frozenset(WORDS)
_COUNTRY_LIST = tuple(COUNTRIES)
_PHRASES = ("What is {}?", "Tell me {}.", "Give {}.")


def ask(rng: Random, body: str) -> str:
    """The body as a question or a request."""
    return rng.choice(_PHRASES).replace("{}", body)


def random_word(rng: Random, length: int, ending: str = "") -> str:
    """A word of random letters that is not a word of the world in any form that a text task gives it."""
    while True:
        word = "".join(rng.choices(LETTERS, k=length - len(ending))) + ending
        if _KNOWN.isdisjoint((word, word[::-1], word.upper(), word.capitalize(), plural(word))):
            return word


def plural(noun: str) -> str:
    """The regular English plural."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return noun[:-1] + "ies"
    return noun + "s"


def write_math(rng: Random, difficulty: int) -> str:
    """Sums and differences; from difficulty 3 on also products with a single digit."""
    ops = "+-" if difficulty < 3 else "+-*"
    op = rng.choice(ops)
    digits = (1, 2, 2, 3, 4)[difficulty - 1]
    first = _with_digits(rng, digits)
    second = rng.randint(2, 9) if op == "*" else _with_digits(rng, 1 if difficulty < 3 else digits)
    if op == "-" and second > first:
        first, second = second, first
    return ask(rng, f"{first}{op}{second}")


def _with_digits(rng: Random, digits: int) -> int:
    return rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)


def write_reason(rng: Random, difficulty: int) -> str:
    """A story of `difficulty` changes to a number of things."""
    value = rng.randint(2, 30)
    things = rng.choice(OBJECTS)
    text = f"{rng.choice(NAMES)} has {value} {things}."
    for _ in range(difficulty):
        step, value = _change(rng, value)
        text += f" Then {step}."
    return f"{text} How many?" if rng.random() < 0.5 else f"{text} How many {things} now?"


def _change(rng: Random, value: int) -> tuple[str, int]:
    """One change that keeps the value in 1..99: its text, and the value after it."""
    while True:
        kind, by = rng.randrange(5), rng.randint(2, 9)
        if kind == 0 and 2 * value <= MAX_VALUE:
            return "doubles them", 2 * value
        if kind in (1, 2) and value + by <= MAX_VALUE:
            return f"{rng.choice(GAINS)} {by}", value + by
        if kind in (3, 4) and value - by >= 1:
            return f"{rng.choice(LOSSES)} {by}", value - by


def write_code(rng: Random, difficulty: int) -> str:
    """A program of `difficulty` assignments after the first, and what it prints."""
    names = "xy" if difficulty < 3 else "xyz"
    last = rng.choice(names)
    values = {last: rng.randint(1, 20)}
    text = f"{last}={values[last]}"
    for _ in range(difficulty):
        source = last if rng.random() < 0.6 else rng.choice(sorted(values))
        step, value = _statement(rng, values[source])
        last = rng.choice(names)
        values[last] = value
        text += f"; {last}={source}{step}"
    shown = last if rng.random() < 0.75 else rng.choice(sorted(values))
    return ask(rng, f"the output of {text}; print({shown})")


def _statement(rng: Random, value: int) -> tuple[str, int]:
    """An operation on `value` that keeps it in 0..99: its text, and the result."""
    while True:
        kind, by = rng.randrange(5), rng.randint(1, 9)
        if kind in (0, 1) and value + by <= MAX_VALUE:
            return f"+{by}", value + by
        if kind in (2, 3) and value - by >= 0:
            return f"-{by}", value - by
        by = 2 + by % 2
        if kind == 4 and value * by <= MAX_VALUE:
            return f"*{by}", value * by


def write_debug(rng: Random, difficulty: int) -> str:
    """A string that leaves difficulty + 1 brackets open, with closed pairs between them."""
    pieces = [rng.choice("([{") for _ in range(difficulty + 1)]
    for _ in range(rng.randint(0, 1 + difficulty // 2)):
        pair = rng.choice(("()", "[]", "{}"))
        pieces.insert(rng.randint(0, len(pieces)), pair)
    return ask(rng, f"the closing brackets of {''.join(pieces)}")


def write_format(rng: Random, difficulty: int) -> str:
    """Difficulty + 1 different numbers to put in order, as JSON."""
    numbers = ", ".join(map(str, rng.sample(range(1, 100), difficulty + 1)))
    return ask(rng, f"{numbers} sorted as JSON")


def write_know(rng: Random, difficulty: int) -> str:
    """Facts of the closed knowledge base: one hop, inverse and hop, resident and hop, and two comparisons."""
    if difficulty == 1:
        return ask(rng, _one_hop(rng))
    if difficulty == 2:
        key = rng.choice(INVERTIBLE)
        name = rng.choice([other for other in ATTRIBUTES if other != key])
        return ask(rng, f"the {name} of the country with {key} {attribute(rng.choice(_COUNTRY_LIST), key)}")
    if difficulty == 3:
        return ask(rng, f"the {rng.choice(ATTRIBUTES)} of the country where {rng.choice(NAMES)} lives")
    continent = rng.choice(CONTINENTS)
    inside = rng.choice([n for n in NAMES if attribute(RESIDENTS[n], "continent") == continent])
    outside = rng.choice([n for n in NAMES if attribute(RESIDENTS[n], "continent") != continent])
    first, second = (inside, outside) if rng.random() < 0.5 else (outside, inside)
    if difficulty == 4:
        return f"Who lives in {continent}, {first} or {second}?"
    return f"{first} or {second} lives in {continent}. What is the {rng.choice(INVERTIBLE)} there?"


def _one_hop(rng: Random) -> str:
    draw = rng.randrange(160)
    if draw < 78:
        return f"the {rng.choice(ATTRIBUTES)} of {rng.choice(_COUNTRY_LIST)}"
    if draw < 130:
        key = rng.choice(INVERTIBLE)
        return f"the country with {key} {attribute(rng.choice(_COUNTRY_LIST), key)}"
    return f"the country where {rng.choice(NAMES)} lives"


def write_text(rng: Random, difficulty: int) -> str:
    """Random words in upper case, in the plural, or reversed (4, 6 or 8 letters)."""
    if difficulty == 1:
        return ask(rng, f"the upper case of {random_word(rng, rng.randint(3, 5))}")
    if difficulty == 2:
        ending = rng.choice(("", "", "s", "x", "ch", "sh", "y", "y"))
        return ask(rng, f"the plural of {random_word(rng, rng.randint(4, 5), ending)}")
    return ask(rng, f"the reverse of {random_word(rng, 2 * difficulty - 2)}")


def write_conv(rng: Random, difficulty: int) -> str:
    """Units of time, and times of day."""
    if difficulty == 1:
        return ask(rng, f"{rng.randint(2, 60)} {rng.choice(('hours in minutes', 'minutes in seconds'))}")
    if difficulty == 2:
        body = f"{rng.randint(2, 60)} weeks in days" if rng.random() < 0.5 else f"{rng.randint(2, 30)} days in hours"
        return ask(rng, body)
    hours, minutes = rng.randint(2, 15), rng.randint(2, 59)
    if difficulty == 3:
        if rng.random() < 0.5:
            return ask(rng, f"{hours} hours and {minutes} minutes in minutes")
        return ask(rng, f"{60 * hours + minutes} minutes in hours and minutes")
    clock = f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}"
    if difficulty == 4:
        return ask(rng, f"the time {rng.randint(10, 150)} minutes after {clock}")
    return ask(rng, f"the time {hours} hours and {minutes} minutes after {clock}")


WRITERS: Mapping[str, Callable[[Random, int], str]] = {
    "math": write_math,
    "reason": write_reason,
    "code": write_code,
    "debug": write_debug,
    "format": write_format,
    "know": write_know,
    "text": write_text,
    "conv": write_conv,
}
