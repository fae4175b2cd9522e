"""Evaluation sets, answered by a student and scored by the run's judge."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapir.evaluation.results import by_set
from tapir.roles import Aside, Judge, Stage, Student
from tapir.rows import Checkpoint, Evaluated, Example, Judged, Refused
from tapir.store.files import rows_digest
from tapir.students.card import add_scores
from tapir.tasks import Task


@dataclass(frozen=True)
class Item:
    """One evaluation item: an instruction with its reference response."""

    example: Example
    task: Task | None = None
    difficulty: int | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class EvaluationSet:
    """A named list of items, and where the right answer can be told, the function that tells it."""

    name: str
    items: Sequence[Item]
    is_correct: Callable[[Example, str], bool] | None = None


HELD_OUT = "held-out"
"""The name of the set that `evaluation.held_out` splits off the corpus."""


class SetEvaluator:
    """Answers and scores every item of every set."""

    def __init__(self, sets: Sequence[EvaluationSet], student: Student, judge: Judge) -> None:
        self._sets = sets
        self._student = student
        self._judge = judge

    def identity(self, verb: str) -> Mapping[str, Any]:
        """The items, how they are answered and how they are scored."""
        return {
            "sets": {one.name: rows_digest([item.example for item in one.items]) for one in self._sets},
            "student": dict(self._student.identity("answer")),
            "judge": dict(self._judge.identity("score")),
        }

    def instructions(self) -> Sequence[str]:
        """The text of every item."""
        return [item.example.instruction for one in self._sets for item in one.items]

    async def run(
        self, stage: Stage, student: Checkpoint, held_out: Sequence[Example] = ()
    ) -> AsyncIterator[Evaluated | Refused]:
        """Answer and score every item of every set, and of the rows held out from the corpus."""
        sets = list(self._sets)
        if held_out:
            sets.append(EvaluationSet(HELD_OUT, [Item(row) for row in held_out]))
        stage.expect(sum(len(one.items) for one in sets))
        for one in sets:
            async for row in self._run_set(one, stage, student):
                yield row

    def publish(self, student: Checkpoint, rows: Sequence[Evaluated]) -> None:
        """Put what `run` found onto the student's card."""
        judge = self._judge.identity("score")
        name = judge.get("model") or (f"the {judge['kind']} judge" if "kind" in judge else "the run's judge")
        add_scores(Path(student.path), by_set(rows), str(name))

    async def _run_set(
        self, one: EvaluationSet, stage: Stage, student: Checkpoint
    ) -> AsyncIterator[Evaluated | Refused]:
        references = [item.example for item in one.items]
        by_id = {item.example.id: item for item in one.items}
        refused: list[Refused] = []

        async def answers() -> AsyncIterator[Any]:
            async for row in self._student.answer(Aside.within(stage, one.name), student, references):
                if isinstance(row, Refused):
                    refused.append(row)
                else:
                    yield row

        async for row in self._judge.score(Aside.within(stage, one.name), references, answers()):
            yield row if isinstance(row, Refused) else _evaluated(row, by_id[row.id], one)
        for row in refused:
            yield row


def _evaluated(row: Judged, item: Item, one: EvaluationSet) -> Evaluated:
    return Evaluated(
        id=row.id,
        set=one.name,
        task=item.task,
        difficulty=item.difficulty,
        weight=item.weight,
        instruction=row.instruction,
        reference=row.response,
        response=row.student_response,
        score=row.student_score,
        is_correct=one.is_correct(item.example, row.student_response) if one.is_correct else None,
    )
