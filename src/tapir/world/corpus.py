"""The embedded world's raw corpus D (skewed, direct answers) and its balanced test set."""

from collections.abc import Collection, Mapping
from random import Random

from tapir.world.families import DIFFICULTIES, FAMILIES, Item, generate

FAMILY_SKEW: Mapping[str, float] = {
    "know": 0.26,
    "text": 0.24,
    "format": 0.14,
    "conv": 0.14,
    "reason": 0.07,
    "math": 0.07,
    "debug": 0.04,
    "code": 0.04,
}
DIFFICULTY_SKEW = (0.60, 0.22, 0.10, 0.05, 0.03)
CORPUS_ROWS = 3000
PER_CELL = 40
_TRIES = 50
"""Draws after which a family at a difficulty counts as used up: the lists of easy facts are finite."""


def raw_corpus(seed: int, n: int = CORPUS_ROWS) -> list[Item]:
    """D: `n` different instructions, mostly easy and rarely math, reasoning or code; their answers are the direct ones.

    Where an easy cell has no new instruction left, the next harder one of the same family is drawn from.
    """
    rng = Random(f"world/corpus/{seed}")
    seen: set[str] = set()
    items = []
    for _ in range(n):
        family = rng.choices(tuple(FAMILY_SKEW), weights=tuple(FAMILY_SKEW.values()))[0]
        difficulty = rng.choices(DIFFICULTIES, weights=DIFFICULTY_SKEW)[0]
        item = _new(rng, family, difficulty, seen)
        while item.instruction in seen and difficulty < 5:
            difficulty += 1
            item = _new(rng, family, difficulty, seen)
        seen.add(item.instruction)
        items.append(item)
    return items


def balanced_test_set(seed: int, per_cell: int = PER_CELL, exclude: Collection[str] | None = None) -> list[Item]:
    """Items for evaluation, `per_cell` of every family at every difficulty, of another random source than D's.

    Instructions in `exclude` (None: those of `raw_corpus(seed)`) and repeats are drawn again, as far as the finite
    lists of easy facts and units allow: know and conv at difficulty 1 and 2 overlap with D by construction.
    """
    rng = Random(f"world/test/{seed}")
    seen = set(exclude) if exclude is not None else {item.instruction for item in raw_corpus(seed)}
    items = []
    for family in FAMILIES:
        for difficulty in DIFFICULTIES:
            for _ in range(per_cell):
                item = _new(rng, family, difficulty, seen)
                seen.add(item.instruction)
                items.append(item)
    return items


def _new(rng: Random, family: str, difficulty: int, seen: Collection[str]) -> Item:
    """An item whose instruction is not in `seen`; after many tries one that is."""
    item = generate(rng, family, difficulty)
    for _ in range(_TRIES):
        if item.instruction not in seen:
            break
        item = generate(rng, family, difficulty)
    return item


def corpus_weights() -> dict[tuple[str, int], float]:
    """The share that D's own skew gives to each family and difficulty; sums to 1.

    Accuracy averaged with these weights is accuracy on questions like D's: it falls when a student forgets D.
    """
    return {
        (family, difficulty): share * level
        for family, share in FAMILY_SKEW.items()
        for difficulty, level in zip(DIFFICULTIES, DIFFICULTY_SKEW, strict=True)
    }
