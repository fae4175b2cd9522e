"""The text that the base student is pretrained on, drawn on the fly: no turn or role token appears in it.

Four kinds of document: sentences of the knowledge base, atoms of arithmetic, letter play, and worked text, which is an
instruction, a newline and a solution. Letter play weighs most at the start: copying arbitrary characters is a skill
that the model finds suddenly, and every worked step needs it.
"""

from random import Random

from tapir.world.facts import ATTRIBUTES, COUNTRIES, INVERTIBLE, NAMES, attribute, fact, home_fact, inverse_fact
from tapir.world.families import generate
from tapir.world.instructions import LETTERS, random_word

FAMILY_WEIGHTS = {
    "math": 1.5,
    "reason": 1.0,
    "code": 1.75,
    "debug": 0.75,
    "format": 0.75,
    "know": 0.75,
    "text": 1.0,
    "conv": 1.25,
}
DIFFICULTY_WEIGHTS = (0.32, 0.30, 0.22, 0.12, 0.04)
REFINED_SHARE = (0.4, 0.4, 0.75, 0.9, 0.9)
"""How often a solution at each difficulty is the worked one; the direct answer to a hard item is mostly noise."""

KNOWLEDGE_SHARE, ATOM_SHARE, LETTER_SHARE = 0.13, 0.18, 0.12
EARLY_LETTER_SHARE = 0.4
EARLY = 0.25
"""The part of pretraining over which letter play falls from its early to its later share."""


def document(rng: Random, progress: float) -> str:
    """One document; `progress` is the share of pretraining that is done, in [0, 1]."""
    early = max(0.0, 1 - progress / EARLY)
    letters = LETTER_SHARE + early * (EARLY_LETTER_SHARE - LETTER_SHARE)
    draw = rng.random()
    if draw < letters:
        return letter_play(rng)
    rest = (draw - letters) / (1 - letters) * (1 - LETTER_SHARE)
    if rest < KNOWLEDGE_SHARE:
        return knowledge(rng)
    if rest < KNOWLEDGE_SHARE + ATOM_SHARE:
        return "; ".join(atom(rng) for _ in range(rng.randint(3, 6)))
    return worked(rng)


def worked(rng: Random) -> str:
    """An instruction of the world and its solution."""
    family = rng.choices(tuple(FAMILY_WEIGHTS), weights=tuple(FAMILY_WEIGHTS.values()))[0]
    difficulty = rng.choices((1, 2, 3, 4, 5), weights=DIFFICULTY_WEIGHTS)[0]
    item = generate(rng, family, difficulty)
    is_refined = rng.random() < REFINED_SHARE[difficulty - 1]
    return f"{item.instruction}\n{item.refined if is_refined else item.direct}"


def knowledge(rng: Random) -> str:
    """A few sentences of the knowledge base, often about one country."""
    sentences: list[str] = []
    for _ in range(rng.randint(2, 3)):
        resident, country = rng.choice(NAMES), rng.choice(tuple(COUNTRIES))
        key = rng.choice(INVERTIBLE)
        kind = rng.randrange(3)
        if kind == 0:
            sentences.append(home_fact(resident))
        elif kind == 1:
            sentences.append(inverse_fact(key, attribute(country, key)))
        else:
            sentences += [fact(country, name) for name in rng.sample(ATTRIBUTES, 2)]
    return " ".join(sentences)


def atom(rng: Random) -> str:
    """One equation of the kinds that worked steps are made of."""
    kind = rng.randrange(12)
    if kind < 2:
        a, b, carry = rng.randint(0, 9), rng.randint(0, 9), rng.randint(0, 1)
        return f"{a}+{b}+{carry}={a + b + carry}"
    if kind == 2:
        a, b, borrow = rng.randint(0, 9), rng.randint(0, 9), rng.randint(0, 1)
        lent = 10 * (a - b - borrow < 0)
        return f"{a + lent}-{b}-{borrow}={a + lent - b - borrow}"
    if kind == 3:
        a, b, carry = rng.randint(0, 9), rng.randint(2, 9), rng.randint(0, 8)
        return f"{a}*{b}+{carry}={a * b}+{carry}={a * b + carry}"
    if kind < 6:
        a, b = rng.randint(2, 99), rng.randint(1, 9)
        return f"{a}+{b}={a + b}" if a + b < 100 else f"{a}-{b}={a - b}"
    if kind == 6:
        a, b = rng.randint(10, 99), rng.randint(1, 9)
        return f"{a}-{b}={a - b}"
    if kind == 7:
        by = rng.choice((2, 2, 3))
        a = rng.randint(1, 99 // by)
        return f"{a}*{by}={a * by}"
    if kind == 8:
        a, b = rng.randint(0, 59), rng.randint(2, 150)
        return f"{a}+{b}={a + b}"
    if kind == 9:
        total = rng.randint(12, 210)
        return f"{total}={total // 60}*60+{total % 60}"
    if kind == 10:
        a, by = rng.choice(((rng.randint(2, 60), 60), (rng.randint(2, 60), 7), (rng.randint(2, 30), 24)))
        return f"{a}*{by}={a * by}"
    hours, rest = rng.randint(2, 15), rng.randint(2, 59)
    whole = 60 * hours
    return f"{whole}+{rest}={whole + rest}" if rng.random() < 0.5 else f"{whole + rest}-{whole}={rest}"


def letter_play(rng: Random) -> str:
    """Words of random characters, copied, reversed or put in upper case."""
    plays = []
    for _ in range(rng.randint(2, 3)):
        kind = rng.randrange(4)
        if kind == 0:
            text = "".join(rng.choices(LETTERS + "0123456789()[]{}", k=rng.randint(3, 8)))
            plays.append(f"{text} {text}")
        else:
            word = random_word(rng, rng.randint(3, 8))
            plays.append(
                (f"{word} {word}", f"reverse {word} {word[::-1]}", f"upper case {word} {word.upper()}")[kind - 1]
            )
    return "; ".join(plays)
