"""The embedded world: eight families of verifiable tasks, each at five difficulties.

`generate` draws an instruction and solves it; `solve` solves any instruction of the world from its text alone, which
is what a teacher behind an endpoint needs; `like` draws a new instruction like a given one.
"""

from collections.abc import Mapping
from random import Random

import msgspec

from tapir.errors import DataError
from tapir.tasks import Task
from tapir.world.instructions import WRITERS
from tapir.world.solutions import SOLVERS

FAMILY_TASKS: Mapping[str, Task] = {
    "math": Task.MATH,
    "reason": Task.REASONING,
    "code": Task.CODE_GENERATION,
    "debug": Task.CODE_DEBUG,
    "format": Task.COMPLEX_FORMAT,
    "know": Task.COMMON_SENSE,
    "text": Task.GRAMMAR,
    "conv": Task.PHYSICS,
}
FAMILIES: tuple[str, ...] = tuple(FAMILY_TASKS)
DIFFICULTIES = (1, 2, 3, 4, 5)
ANSWER_MARK = "Answer: "


class Item(msgspec.Struct, frozen=True):
    """An instruction of the world with both of the teacher's answers."""

    family: str
    difficulty: int
    instruction: str
    direct: str
    """The final answer alone."""
    refined: str
    """Worked steps and the final answer; the direct answer where steps do not help (text, format)."""

    @property
    def task(self) -> Task:
        """The task type that the family stands for."""
        return FAMILY_TASKS[self.family]


def generate(rng: Random, family: str, difficulty: int) -> Item:
    """A random item of a family at a difficulty of 1-5."""
    return solve(WRITERS[family](rng, difficulty))


def solve(instruction: str) -> Item:
    """The item that an instruction of the world is.

    Raises:
        DataError: the text is not an instruction of the world.
    """
    for family, solver in SOLVERS.items():
        solution = solver(instruction)
        if solution is not None:
            level, steps, direct = solution
            refined = f"{steps} {ANSWER_MARK}{direct}" if steps else direct
            return Item(family, level, instruction, direct, refined)
    raise DataError(f"not an instruction of the embedded world: {instruction[:80]!r}; see tapir.world.instructions")


def like(item: Item, rng: Random) -> Item:
    """A new item of the same family, one easier (p .1), equal (.7) or one harder (.2), within 1-5."""
    step = rng.choices((-1, 0, 1), weights=(0.1, 0.7, 0.2))[0]
    return generate(rng, item.family, min(5, max(1, item.difficulty + step)))
