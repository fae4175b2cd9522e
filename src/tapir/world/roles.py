"""The embedded world in the roles of a run: corpus, teacher, judge, classifier and evaluation set.

All of them are exact, free and deterministic. A row that is not of the world is refused, never guessed.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from tapir.config import RefineConfig
from tapir.errors import DataError
from tapir.evaluation.evaluator import EvaluationSet
from tapir.evaluation.evaluator import Item as EvaluationItem
from tapir.roles import Stage
from tapir.rows import (
    Answer,
    Draft,
    Draw,
    Example,
    Judged,
    Label,
    Labelled,
    Lesson,
    Lineage,
    Refused,
    draft,
    example,
    lesson,
    refuse,
    user_turn,
)
from tapir.world.corpus import CORPUS_ROWS, PER_CELL, balanced_test_set, corpus_weights, raw_corpus
from tapir.world.facts import WORLD_VERSION
from tapir.world.families import Item, like, solve
from tapir.world.judging import is_correct, score

SOURCE = "world"
"""The name of the world as corpus, teacher and evaluation set."""
NOT_OF_WORLD = "not-of-the-world"


def corpus_rows(seed: int, n: int = CORPUS_ROWS) -> list[Example]:
    """The raw corpus as rows, with direct responses."""
    lineage = Lineage(source=SOURCE, license="Apache-2.0")
    return [example(user_turn(item.instruction), item.direct, lineage) for item in raw_corpus(seed, n)]


class WorldCorpus:
    """The raw corpus D of the world."""

    def __init__(self, seed: int, n: int = CORPUS_ROWS) -> None:
        self._seed = seed
        self._n = n

    def identity(self, verb: str) -> Mapping[str, Any]:
        """World, seed and size."""
        return {"world": WORLD_VERSION, "seed": self._seed, "rows": self._n}

    async def read(self, stage: Stage) -> AsyncIterator[Example | Refused]:
        """Every row of D; none is refused."""
        stage.expect(self._n)
        for row in corpus_rows(self._seed, self._n):
            yield row


class WorldTeacher:
    """Solves every instruction of the world, and writes new ones."""

    def __init__(self, refine: RefineConfig | None = None) -> None:
        self._refine = refine or RefineConfig()

    def identity(self, verb: str) -> Mapping[str, Any]:
        """The world's version, and for `refine` what is answered plainly."""
        settings: dict[str, Any] = {"world": WORLD_VERSION}
        if verb == "refine":
            settings["enabled"] = self._refine.enabled
            settings["plain_tasks"] = sorted(self._refine.plain_tasks)
        return settings

    async def respond(self, stage: Stage, rows: Sequence[Example]) -> AsyncIterator[Example | Refused]:
        """The refined response to each instruction."""
        stage.expect(len(rows))
        for row in rows:
            item = _item(row)
            if isinstance(item, Refused):
                yield item
                continue
            yield Example(id=row.id, turns=row.turns, response=item.refined, lineage=_taught(row.lineage))

    async def expand(self, stage: Stage, plan: Sequence[Draw], taken: Sequence[str]) -> AsyncIterator[Draft | Refused]:
        """New instructions like a random seed of each draw, as hard, a little easier or a little harder.

        What a draw gives depends on that draw alone, so that it is the same behind an endpoint; repeats are left to
        the admission of drafts.
        """
        stage.expect(sum(draw.count for draw in plan))
        for draw in plan:
            for row in write_like(draw.seeds, draw.count, draw.seed):
                if isinstance(row, Refused):
                    yield row
                    continue
                seed, item = row
                lineage = Lineage(source=SOURCE, round=draw.round, parents=(seed.id,), teacher=SOURCE)
                yield draft(user_turn(item.instruction), item.task, lineage)

    async def refine(self, stage: Stage, rows: Sequence[Labelled | Draft]) -> AsyncIterator[Lesson | Refused]:
        """Worked steps and the answer, for the families that they help.

        Where refinement is off, or the task is answered plainly, drafts get the direct answer and seeds keep theirs.
        """
        stage.expect(len(rows))
        for row in rows:
            item = _item(row)
            if isinstance(item, Refused):
                yield item
                continue
            is_plain = not self._refine.enabled or row.task in self._refine.plain_tasks
            plain = row.response if isinstance(row, Labelled) else item.direct
            response = plain if is_plain else item.refined
            yield lesson(row, response, row.task, is_hard=True, lineage=_taught(row.lineage))


class WorldJudge:
    """Checks the final answer and gives partial credit for steps."""

    def identity(self, verb: str) -> Mapping[str, Any]:
        """The world's version."""
        return {"world": WORLD_VERSION}

    async def score(
        self, stage: Stage, references: Sequence[Example], answers: AsyncIterable[Answer]
    ) -> AsyncIterator[Judged | Refused]:
        """Both scores of each row that has a reference and an answer; the others were refused before."""
        by_id = {row.id: row for row in references}
        stage.expect(len(references))
        judged = 0
        async for answer in answers:
            row = by_id.get(answer.id)
            if row is None:
                continue
            judged += 1
            item = _item(row)
            if isinstance(item, Refused):
                yield item
                continue
            yield Judged(
                id=row.id,
                turns=row.turns,
                response=row.response,
                lineage=row.lineage,
                student_response=answer.response,
                teacher_score=score(item, row.response),
                student_score=score(item, answer.response),
            )
        stage.expect(judged)


class WorldClassifier:
    """Knows the task type of every instruction of the world."""

    def identity(self, verb: str) -> Mapping[str, Any]:
        """The world's version."""
        return {"world": WORLD_VERSION}

    async def label(self, stage: Stage, rows: Sequence[Example | Draft]) -> AsyncIterator[Label | Refused]:
        """The task type, with full confidence."""
        stage.expect(len(rows))
        for row in rows:
            item = _item(row)
            if isinstance(item, Refused):
                yield item
                continue
            yield Label(id=row.id, task=item.task, score=1.0, margin=1.0)


def evaluation_set(seed: int, per_cell: int = PER_CELL, limit: int | None = None) -> EvaluationSet:
    """The balanced test set, or `limit` items drawn from it in their order.

    Weights follow D's own skew, so the weighted accuracy tells what was forgotten of D.
    """
    weights = corpus_weights()
    lineage = Lineage(source=SOURCE, license="Apache-2.0")
    items = [
        EvaluationItem(
            example=example(user_turn(item.instruction), item.refined, lineage),
            task=item.task,
            difficulty=item.difficulty,
            weight=weights[item.family, item.difficulty],
        )
        for item in balanced_test_set(seed, per_cell)
    ]
    if limit is not None and limit < len(items):
        drawn = Random(f"world/test/limit/{seed}").sample(range(len(items)), limit)
        items = [items[index] for index in sorted(drawn)]
    return EvaluationSet(SOURCE, items, is_correct=_is_correct)


def _is_correct(row: Example, response: str) -> bool:
    return is_correct(solve(row.instruction), response)


def _item(row: Example | Draft) -> Item | Refused:
    try:
        return solve(row.instruction)
    except DataError as error:
        return refuse(row, NOT_OF_WORLD, str(error))


def write_like(seeds: Sequence[Example], count: int, seed: int) -> Iterator[tuple[Example, Item] | Refused]:
    """`count` new items, each like one of `seeds` drawn at random, and the seed that it is like; pure in its input."""
    rng = Random(f"world/expand/{seed}")
    for _ in range(count):
        parent = rng.choice(seeds)
        item = _item(parent)
        yield item if isinstance(item, Refused) else (parent, like(item, rng))


def _taught(lineage: Lineage) -> Lineage:
    return Lineage(
        source=lineage.source,
        license=lineage.license,
        round=lineage.round,
        parents=lineage.parents,
        teacher=SOURCE,
        prompt=lineage.prompt,
    )
