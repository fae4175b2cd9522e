"""The rows that pass between stages: frozen, one type a state, and the schema on disk.

A row's `id` is a digest of its turns, so every state of one instruction, from corpus to lesson, carries the same id
and rows join by it, never by position. A richer state extends the poorer one: a `Judged` row is an `Example`, a
`Labelled` row is `Judged`.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tapir.tasks import Task

Score = Annotated[float, Meta(ge=1, le=10)]
"""A judge's score of one response, on the closed scale 1-10."""


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The root of all rows."""


class Message(Row, frozen=True, kw_only=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


Turns = tuple[Message, ...]
"""The conversation up to and including the user turn that is to be answered."""


class Lineage(Row, frozen=True, kw_only=True):
    """Where a row came from."""

    source: str
    """The file, hub data set or teacher that the text came from."""
    license: str | None = None
    round: int = 0
    """The round that wrote it; 0 for the corpus."""
    parents: tuple[str, ...] = ()
    """Ids of the seeds that it was expanded from."""
    teacher: str | None = None
    """The model that wrote the instruction or the response."""
    prompt: str | None = None
    """Digest of the prompt that the teacher was given."""


class Example(Row, frozen=True, kw_only=True):
    """An instruction x with a response y."""

    id: str
    turns: Turns
    response: str
    lineage: Lineage

    @property
    def instruction(self) -> str:
        """The text of the last user turn."""
        return self.turns[-1].content


class Answer(Row, frozen=True, kw_only=True):
    """The student's own response to the instruction with this id."""

    id: str
    response: str
    finish: Literal["stop", "length"]
    tokens: int
    """Tokens generated, the end-of-turn token included."""


class Judged(Example, frozen=True, kw_only=True):
    """An example with the student's own response, both responses scored by the judge."""

    student_response: str
    teacher_score: Score
    student_score: Score
    rationale: str | None = None
    judge_detail: str | None = None
    """What else the judge's adapter knows of the verdict (scores of a swapped call, say), as JSON."""


class Label(Row, frozen=True, kw_only=True):
    """The task type of the instruction with this id."""

    id: str
    task: Task
    score: float
    """The classifier's confidence in the task, in [0, 1]."""
    margin: float
    """Score minus the runner-up's score, in [0, 1]."""


class Labelled(Judged, frozen=True, kw_only=True):
    """A judged example with its task type."""

    task: Task
    task_score: float
    task_margin: float


class Draw(Row, frozen=True, kw_only=True):
    """One request for new instructions: the seeds to show and how many to write."""

    id: str
    round: int
    task: Task
    seeds: tuple[Example, ...]
    count: int
    seed: int
    """Seed of whatever random choice the teacher makes for this draw."""


class Draft(Row, frozen=True, kw_only=True):
    """A new instruction of the teacher's, not answered yet."""

    id: str
    turns: Turns
    task: Task
    lineage: Lineage

    @property
    def instruction(self) -> str:
        """The text of the last user turn."""
        return self.turns[-1].content


class Lesson(Example, frozen=True, kw_only=True):
    """An example to train on, with the part of the mixture that it belongs to."""

    task: Task | None
    is_hard: bool
    """True for the hard pool D_P (seeds and expansions), False for the easy rows D \\ D_S."""


class Evaluated(Row, frozen=True, kw_only=True):
    """The student's response to one item of an evaluation set, scored."""

    id: str
    set: str
    task: Task | None
    difficulty: int | None
    """The item's own difficulty where the set states one (1-5 in the embedded world)."""
    weight: float
    """Weight of the item in averages that follow the corpus' own distribution; 1 where none is known."""
    instruction: str
    reference: str
    response: str
    score: Score
    is_correct: bool | None
    """Whether the final answer is right; None where only a judge's score exists."""


class Refused(Row, frozen=True, kw_only=True):
    """A row that a stage could not use: never trained on, always reported."""

    id: str
    reason: str
    """A short fixed kind, such as `empty-response`: the report counts by it."""
    detail: str
    """What exactly was wrong, in a sentence."""
    text: str
    """An excerpt of the row, for the reader."""


class Checkpoint(Row, frozen=True, kw_only=True):
    """A student on disk: a Hugging Face directory."""

    path: str
    """The directory; relative to the run directory for students that the run trained."""
    digest: str
    """Digest of the weights, the tokenizer and the configuration."""


EXCERPT_CHARS = 400


def excerpt(text: str) -> str:
    """The first characters of `text`, for a refusal."""
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"


def turns_id(turns: Sequence[Message]) -> str:
    """The id of an instruction: a digest of its turns (24 hexadecimal digits)."""
    state = blake2b(digest_size=12)
    for turn in turns:
        text = turn.content.encode("utf-8", "surrogatepass")
        state.update(f"{turn.role}\x00{len(text)}\x00".encode())
        state.update(text)
    return state.hexdigest()


def user_turn(text: str, system: str | None = None) -> Turns:
    """The turns of a single instruction."""
    turn = Message(role="user", content=text)
    return (Message(role="system", content=system), turn) if system else (turn,)


def example(turns: Turns, response: str, lineage: Lineage) -> Example:
    """An example with the id that its turns give it."""
    return Example(id=turns_id(turns), turns=turns, response=response, lineage=lineage)


def draft(turns: Turns, task: Task, lineage: Lineage) -> Draft:
    """A draft with the id that its turns give it."""
    return Draft(id=turns_id(turns), turns=turns, task=task, lineage=lineage)


def lesson(
    row: Example | Draft, response: str, task: Task | None, *, is_hard: bool, lineage: Lineage | None = None
) -> Lesson:
    """A lesson on the instruction of `row`."""
    return Lesson(
        id=row.id, turns=row.turns, response=response, task=task, is_hard=is_hard, lineage=lineage or row.lineage
    )


def refuse(row: Example | Draft, reason: str, detail: str) -> Refused:
    """The refusal of `row`."""
    return Refused(id=row.id, reason=reason, detail=detail, text=excerpt(row.instruction))


def with_tasks(judged: Iterable[Judged], labels: Iterable[Label]) -> list[Labelled]:
    """Judged rows joined to their labels by id; one without a label is left out (the label stage has refused it)."""
    by_id = {label.id: label for label in labels}
    return [
        Labelled(
            **{name: getattr(row, name) for name in Judged.__struct_fields__},
            task=label.task,
            task_score=label.score,
            task_margin=label.margin,
        )
        for row in judged
        if (label := by_id.get(row.id)) is not None
    ]
