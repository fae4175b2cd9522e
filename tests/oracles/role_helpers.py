"""What the tests of the endpoint-backed roles share."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from typing import Any, TypeVar

from tapir.config import (
    EndpointConfig,
    EndpointJudgeConfig,
    EndpointTeacherConfig,
    OracleClassifierConfig,
    RefineConfig,
)
from tapir.oracles.base import Oracle
from tapir.oracles.roles import OracleClassifier, OracleJudge, OracleTeacher
from tapir.roles import Aside
from tapir.rows import Answer, Draft, Draw, Example, Labelled, Lineage, Refused, draft, example, user_turn
from tapir.tasks import Task

T = TypeVar("T")
CORPUS = Lineage(source="corpus", license="MIT")


class Recorder(Aside):
    """A stage that remembers what it is told."""

    def __init__(self) -> None:
        self.notes: dict[str, Any] = {}
        super().__init__("test", Path(), self.notes.update)
        self.expected: int | None = None

    def expect(self, rows: int) -> None:
        self.expected = rows


def endpoint(**settings: Any) -> EndpointConfig:
    return EndpointConfig(
        **{"base_url": "http://judge.test:8000/v1", "model": "big", "structured_output": "never"} | settings
    )


def teacher(oracle: Oracle, refine: RefineConfig | None = None, **settings: Any) -> OracleTeacher:
    config = EndpointTeacherConfig(kind="endpoint", endpoint=endpoint(**settings))
    return OracleTeacher(oracle, config, refine or RefineConfig())


def judge(oracle: Oracle, *, structured_output: str = "never", **settings: Any) -> OracleJudge:
    where = endpoint(structured_output=structured_output)
    return OracleJudge(oracle, EndpointJudgeConfig(kind="endpoint", endpoint=where, **settings))


def classifier(oracle: Oracle, *, max_asks: int = 3, **settings: Any) -> OracleClassifier:
    return OracleClassifier(
        oracle, OracleClassifierConfig(kind="oracle", endpoint=endpoint(**settings), max_asks=max_asks)
    )


def row(instruction: str = "What is 6 times 7?", response: str = "42") -> Example:
    return example(user_turn(instruction), response, CORPUS)


def new(instruction: str = "What is 6 times 8?", task: Task = Task.MATH) -> Draft:
    return draft(user_turn(instruction), task, Lineage(source="big", round=1, parents=("p",)))


def labelled(instruction: str = "What is 6 times 7?", response: str = "42", task: Task = Task.MATH) -> Labelled:
    base = row(instruction, response)
    return Labelled(
        id=base.id,
        turns=base.turns,
        response=response,
        lineage=CORPUS,
        student_response="41",
        teacher_score=9.0,
        student_score=1.0,
        task=task,
        task_score=1.0,
        task_margin=1.0,
    )


def drawn(*seeds: Example, count: int = 2, seed: int = 7, task: Task = Task.MATH, round_: int = 1) -> Draw:
    return Draw(id=f"draw-{seed}", round=round_, task=task, seeds=seeds or (row(),), count=count, seed=seed)


def answer(reference: Example, response: str = "41") -> Answer:
    return Answer(id=reference.id, response=response, finish="stop", tokens=3)


async def stream(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


async def collect(rows: AsyncIterable[T]) -> list[T]:
    return [one async for one in rows]


def reasons(rows: Iterable[object]) -> list[str]:
    return [one.reason for one in rows if isinstance(one, Refused)]
