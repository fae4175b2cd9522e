"""What the tests of this directory share."""

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

from tapir.roles import Aside
from tapir.rows import Draft, Example, Label, Lineage, Refused, example, user_turn
from tapir.tasks import Task

TINY_ROWS = [
    (Task.MATH, "What is 3 + 4?"),
    (Task.MATH, "Calculate 12 * 7 - 5."),
    (Task.MATH, "How much is 15% of 80?"),
    (Task.MATH, "Solve 2x + 3 = 9 for x."),
    (Task.WRITING, "Write a poem about the sea."),
    (Task.WRITING, "Compose a short story about a lost dog."),
    (Task.WRITING, "Draft a letter to my landlord."),
    (Task.WRITING, "Write a slogan for a bakery."),
]


def shared_data() -> Path:
    """The folder of data that is not part of the repository; it need not exist."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    return Path(os.environ.get("TAPIR_SHARED_DATA", default))


def examples(texts: Iterable[str]) -> list[Example]:
    return [example(user_turn(text), "", Lineage(source="test")) for text in texts]


class Noting(Aside):
    """A stage that keeps what it is told."""

    def __init__(self, work: Path = Path()) -> None:
        super().__init__("test", work)
        self.expected = 0
        self.notes: dict[str, Any] = {}

    def expect(self, rows: int) -> None:
        self.expected = rows

    def note(self, **values: Any) -> None:
        self.notes |= values


class Fixed:
    """A classifier that gives each text the label, or the refusal, that it is told to."""

    def __init__(self, labels: dict[str, tuple[Task, float] | None]) -> None:
        self.labels = labels
        self.asked: list[str] = []

    def identity(self, verb: str) -> dict[str, Any]:
        return {"fixed": len(self.labels), "verb": verb}

    async def label(self, stage: Any, rows: Sequence[Example | Draft]) -> AsyncIterator[Label | Refused]:
        for row in rows:
            self.asked.append(row.instruction)
            found = self.labels[row.instruction]
            if found is None:
                yield Refused(id=row.id, reason="unreadable", detail="no task named", text=row.instruction)
            else:
                yield Label(id=row.id, task=found[0], score=(1 + found[1]) / 2, margin=found[1])
