"""What tests of students share: rows, settings, and a stage without a run."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from tapir.config import StudentConfig
from tapir.rows import Answer, Checkpoint, Example, Lineage, Refused, example, user_turn
from tapir.students import HuggingFaceStudent


class PlainStage:
    """A stage that keeps what it is told."""

    name = "stage"

    def __init__(self, work: Path) -> None:
        self.work = work
        self.expected: int | None = None
        self.notes: dict[str, Any] = {}
        self.seen: list[tuple[float, float, str]] = []
        work.mkdir(parents=True, exist_ok=True)

    def expect(self, rows: int) -> None:
        self.expected = rows

    def note(self, **values: Any) -> None:
        self.notes.update(values)

    def progress(self, done: float, total: float, text: str = "") -> None:
        self.seen.append((done, total, text))


async def reaches(stage: PlainStage, step: float) -> None:
    """Wait until progress of at least `step` was told, from whatever thread."""
    while not any(done >= step for done, _, _ in stage.seen):  # noqa: ASYNC110 - told from threads
        await asyncio.sleep(0.001)


def sums(count: int, seed: int = 0) -> list[Example]:
    """Additions with worked answers of very different lengths."""
    random = Random(seed)
    rows = []
    for number in range(count):
        parts = [random.randint(0, 99) for _ in range(random.choice((2, 2, 3, 6)))]
        question = f"({number}) What is {' + '.join(map(str, parts))}?"
        steps = "; ".join(f"{sum(parts[:i])} + {parts[i]} = {sum(parts[: i + 1])}" for i in range(1, len(parts)))
        rows.append(example(user_turn(question), steps, Lineage(source="sums")))
    return rows


ROWS: Sequence[Example] = sums(120)


def config(model: Path, **settings: Any) -> StudentConfig:
    """A student that trains in a second; `train` and `generation` settings come in under their own names."""
    train = {"learning_rate": 5e-3, "batch_size": 16, "warmup_epochs": 2.0, "warmup_steps": 2}
    return StudentConfig.model_validate(
        {
            "model": str(model),
            "threads": 1,
            "device": "cpu",
            "train": train | settings.pop("train", {}),
            "generation": {"max_new_tokens": 24, "batch_size": 32} | settings.pop("generation", {}),
            **settings,
        }
    )


def answers(
    settings: StudentConfig, student: Checkpoint, rows: Sequence[Example], stage: PlainStage, seed: int = 0
) -> list[Answer | Refused]:
    """What the student says to `rows`."""

    async def collect() -> list[Answer | Refused]:
        return [row async for row in HuggingFaceStudent(settings, seed).answer(stage, student, rows)]

    return asyncio.run(collect())
