"""What the algorithm asks of the outside world: five roles, each a Protocol.

A role's verbs take the stage they run in and typed rows, and yield typed rows or refusals, in an order that depends
on the input alone. `identity(verb)` is everything besides the input that decides the output of that verb (model,
prompt digest, sampling, seed): the run store compares it to know whether a stage must run again. It holds no secret.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from tapir.rows import Answer, Checkpoint, Draft, Draw, Evaluated, Example, Judged, Label, Labelled, Lesson, Refused


class Stage(Protocol):
    """The stage that a role's verb runs in, as the role sees it."""

    @property
    def name(self) -> str:
        """What the stage is called."""

    @property
    def work(self) -> Path:
        """A directory that survives a kill and is removed when the stage is whole: checkpoints, parts."""

    def expect(self, rows: int) -> None:
        """Say how many rows go in; rows kept and refused must add up to it in the end."""

    def note(self, **values: Any) -> None:
        """Keep JSON values beside the rows, for the report."""

    def progress(self, done: float, total: float, text: str = "") -> None:
        """Show progress that is not counted in rows yielded (training steps, calls)."""


class Aside:
    """A stage within a stage, or none at all: rows read or scored there are counted by nobody."""

    def __init__(self, name: str, work: Path = Path(), notes: Callable[..., None] | None = None) -> None:
        self.name = name
        self.work = work
        self._notes = notes

    @classmethod
    def within(cls, stage: Stage, name: str) -> Self:
        """A part of `stage` with a working directory of its own; its notes are the stage's."""
        work = stage.work / name
        work.mkdir(parents=True, exist_ok=True)
        return cls(stage.name, work, stage.note)

    def expect(self, rows: int) -> None:
        """Counted by nobody."""

    def note(self, **values: Any) -> None:
        """Pass notes on, where they are wanted."""
        if self._notes is not None:
            self._notes(**values)

    def progress(self, done: float, total: float, text: str = "") -> None:
        """Not shown."""


class Role(Protocol):
    """What every role can say of itself."""

    def identity(self, verb: str) -> Mapping[str, Any]:
        """Everything besides the input that decides the output of `verb`; JSON values, no secrets."""


class Student(Role, Protocol):
    """A model that is trained and asked."""

    async def train(self, stage: Stage, lessons: Sequence[Example], start: Checkpoint | None = None) -> Checkpoint:
        """Fine-tune `start` (None: the base model) on `lessons`; resumes from what `stage.work` holds."""

    def answer(self, stage: Stage, student: Checkpoint, rows: Sequence[Example]) -> AsyncIterator[Answer | Refused]:
        """The student's own response to every instruction."""

    def count_tokens(self, rows: Sequence[Example]) -> list[int]:
        """Tokens of instruction and response of each row, as trained on."""


class Teacher(Role, Protocol):
    """The large model, or what stands in for it."""

    def respond(self, stage: Stage, rows: Sequence[Example]) -> AsyncIterator[Example | Refused]:
        """The teacher's own response to each instruction, as the reference that the student is scored against."""

    def expand(self, stage: Stage, plan: Sequence[Draw], taken: Sequence[str]) -> AsyncIterator[Draft | Refused]:
        """New instructions like the seeds of each draw; `stage.expect` counts the drafts asked for.

        `taken`: ids that were given before in this run, for a teacher that would give them again.
        """

    def refine(self, stage: Stage, rows: Sequence[Labelled | Draft]) -> AsyncIterator[Lesson | Refused]:
        """A response in the style that the task type needs, for seeds and for drafts."""


class Judge(Role, Protocol):
    """Scores responses on 1-10."""

    def score(
        self, stage: Stage, references: Sequence[Example], answers: AsyncIterable[Answer]
    ) -> AsyncIterator[Judged | Refused]:
        """Score each reference and the student's answer to it, as the answers come."""


class Classifier(Role, Protocol):
    """Tells the task type of an instruction."""

    def label(self, stage: Stage, rows: Sequence[Example | Draft]) -> AsyncIterator[Label | Refused]:
        """The task type of each instruction."""


class Corpus(Role, Protocol):
    """The raw instruction set D."""

    def read(self, stage: Stage) -> AsyncIterator[Example | Refused]:
        """The accepted rows, each instruction once, and a refusal for every other row."""


class Evaluator(Role, Protocol):
    """Held-out sets with a way to score them."""

    def run(self, stage: Stage, student: Checkpoint, held_out: Sequence[Example]) -> AsyncIterator[Evaluated | Refused]:
        """Answer and score every item of every evaluation set, and of the rows held out from the corpus."""

    def instructions(self) -> Sequence[str]:
        """The text of every evaluation item: what training data must not contain."""

    def publish(self, student: Checkpoint, rows: Sequence[Evaluated]) -> None:
        """Put what `run` found where the student's users read it."""


@dataclass(frozen=True)
class Roles:
    """The roles of one run."""

    corpus: Corpus
    student: Student
    teacher: Teacher
    judge: Judge
    classifier: Classifier
    evaluator: Evaluator
