"""A student that memorises: the whole loop runs on it in seconds, without torch."""

from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tapir.errors import StudentError
from tapir.roles import Stage
from tapir.rows import Answer, Checkpoint, Example, Refused, refuse

FILE = "memory.json"
MOST_LOOKS = 3


class _Memory(NamedTuple):
    """What one lesson has left behind."""

    words: list[str]
    response: str
    looks: int
    """How often it was trained on."""


class TinyStudent:
    """Answers an instruction with the response of the lesson nearest to it. Implements `tapir.roles.Student`.

    An instruction sticks after 1 to `MOST_LOOKS` trainings on it, as a digest of it and `seed` decide, and after one
    where `hardness` is 0. Before that, and for instructions that are no lesson, the answer is the nearest lesson's with
    its words in the wrong order. Words are tokens. An instruction longer than `context` words is refused.
    """

    def __init__(self, seed: int = 0, *, hardness: float = 0.5, context: int = 2048) -> None:
        self.seed = seed
        self.hardness = hardness
        self.context = context

    def identity(self, verb: str) -> Mapping[str, Any]:
        """The seed and how hard it is to teach."""
        return {"student": "tiny", "seed": self.seed, "hardness": self.hardness, "context": self.context}

    def count_tokens(self, rows: Sequence[Example]) -> list[int]:
        """Words of each row."""
        return [len(row.instruction.split()) + len(row.response.split()) for row in rows]

    async def train(self, stage: Stage, lessons: Sequence[Example], start: Checkpoint | None = None) -> Checkpoint:
        """Remember what `start` knows and these lessons; the student is `stage.work / "student"`.

        Raises:
            StudentError: there are no lessons, or `start` is no student of this kind.
        """
        if not lessons:
            raise StudentError("there are no lessons to train on")
        stage.expect(len(lessons))
        known = _load(Path(start.path)) if start else {}
        for done, row in enumerate(lessons, 1):
            looks = known[row.id].looks + 1 if row.id in known else 1
            known[row.id] = _Memory(sorted(set(row.instruction.split())), row.response, looks)
            stage.progress(done, len(lessons), "remembering")
        directory = stage.work / "student"
        directory.mkdir(parents=True, exist_ok=True)
        content = msgspec.json.encode(known, order="sorted")
        (directory / FILE).write_bytes(content)
        stage.note(curve={"step": [1], "loss": [1.0], "tokens": [sum(self.count_tokens(lessons))]})
        return Checkpoint(path=str(directory), digest=blake2b(content, digest_size=16).hexdigest())

    async def answer(
        self, stage: Stage, student: Checkpoint, rows: Sequence[Example]
    ) -> AsyncIterator[Answer | Refused]:
        """The student's own response to every instruction, in the order given.

        Raises:
            StudentError: `student` is no student of this kind.
        """
        stage.expect(len(rows))
        known = _load(Path(student.path))
        for row in rows:
            words = row.instruction.split()
            if len(words) > self.context:
                yield refuse(row, "prompt-too-long", f"{len(words)} words; the student takes {self.context}")
                continue
            text = self._recall(row, known)
            yield Answer(id=row.id, response=text, finish="stop", tokens=len(text.split()) + 1)

    def _recall(self, row: Example, known: Mapping[str, _Memory]) -> str:
        """What the student says to one instruction."""
        memory = known.get(row.id)
        if memory is not None and memory.looks >= self._looks_needed(row.id):
            return memory.response
        words = set(row.instruction.split())
        nearest = memory or max(
            known.values(), key=lambda one: (_similarity(words, one.words), one.response), default=_Memory([], "", 0)
        )
        return _garbled(nearest.response)

    def _looks_needed(self, row: str) -> int:
        """How many trainings it takes until this instruction sticks."""
        draw = int.from_bytes(blake2b(f"{self.seed}:{row}".encode(), digest_size=4).digest()) / 2**32
        return 1 if draw >= self.hardness else 2 + int(draw / self.hardness * (MOST_LOOKS - 1))


def _garbled(text: str) -> str:
    """`text` with its words, or the letters of its only word, in the wrong order; never `text` itself."""
    words = text.split()
    wrong = " ".join(reversed(words)) if len(words) > 1 else text[::-1]
    return wrong if wrong != text else f"{text}?"


def _similarity(words: set[str], other: Sequence[str]) -> float:
    """Share of words in common (Jaccard)."""
    common = len(words.intersection(other))
    return common / (len(words) + len(other) - common) if common else 0.0


def _load(directory: Path) -> dict[str, _Memory]:
    """What a student remembers.

    Raises:
        StudentError: the directory holds no such student.
    """
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=dict[str, _Memory])
    except (OSError, msgspec.DecodeError) as error:
        raise StudentError(f"{directory}: holds no TinyStudent ({error})") from error
