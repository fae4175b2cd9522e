"""The key-less teacher: a second, larger instruction set stands in for the model that would write new instructions.

To expand a seed is to draw one of its nearest neighbours among the pool's rows of the same task; to refine is to give
the pool's own response. A pool row serves one draw: what the run holds already is taken, and is never given again.
"""

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import numpy as np

from tapir.classifiers import features
from tapir.classifiers.embedding import SentenceEncoder, encoder_named
from tapir.classifiers.features import Floats, Sparse
from tapir.classifiers.local import instruction_text
from tapir.config import PoolTeacherConfig
from tapir.roles import Aside, Classifier, Corpus, Stage
from tapir.rows import Draft, Draw, Example, Label, Labelled, Lesson, Lineage, Refused, draft, excerpt, lesson, refuse
from tapir.tasks import Task


class PoolTeacher:
    """Gives instructions and responses from `pool`; never a seed, nor a row that is taken."""

    def __init__(
        self,
        config: PoolTeacherConfig,
        pool: Corpus,
        classifier: Classifier,
    ) -> None:
        self._config = config
        self._pool = pool
        self._classifier = classifier
        self._rows: dict[str, Example] = {}
        self._shelves: dict[Task, _Shelf] = {}
        self._idf: Floats = np.zeros(0, dtype=np.float32)

    def identity(self, verb: str) -> Mapping[str, Any]:
        """The pool; for expanding also what labels it and how neighbours are found."""
        if verb == "respond":
            return {"kind": "pool", "response": "own"}
        found: dict[str, Any] = {"kind": "pool", "pool": self._pool.identity("read")}
        if verb == "expand":
            encoder = self._encoder
            found |= {
                "classifier": self._classifier.identity("label"),
                "neighbours": self._config.neighbours,
                "encoder": encoder.identity if encoder else None,
            }
        return found

    async def respond(self, stage: Stage, rows: Sequence[Example]) -> AsyncIterator[Example | Refused]:
        """Each row's own response: the pool has no other to the corpus' instructions."""
        stage.expect(len(rows))
        for row in rows:
            yield row

    async def expand(self, stage: Stage, plan: Sequence[Draw], taken: Sequence[str]) -> AsyncIterator[Draft | Refused]:
        """For each draft asked for, one pool row of the draw's task that is not taken, near to the draw's seeds."""
        stage.expect(sum(draw.count for draw in plan))
        await self._label_pool(stage)
        used = {*taken, *(seed.id for draw in plan for seed in draw.seeds)}
        for draw in plan:
            shelf = self._shelves.get(draw.task)
            ranked = self._ranked(shelf, draw.seeds) if shelf else []
            random = Random(draw.seed)
            for index in range(draw.count):
                near = _first(ranked, used, self._config.neighbours)
                if not near:
                    yield _exhausted(draw, index)
                    continue
                row = random.choice(near)
                used.add(row.id)
                lineage = Lineage(
                    source=row.lineage.source,
                    license=row.lineage.license,
                    round=draw.round,
                    parents=tuple(seed.id for seed in draw.seeds),
                )
                yield draft(row.turns, draw.task, lineage)

    async def refine(self, stage: Stage, rows: Sequence[Labelled | Draft]) -> AsyncIterator[Lesson | Refused]:
        """A seed's own response; to a draft the pool's."""
        stage.expect(len(rows))
        await self._read_pool()
        for row in rows:
            if isinstance(row, Labelled):
                yield lesson(row, row.response, row.task, is_hard=True)
            elif (source := self._rows.get(row.id)) is not None:
                yield lesson(row, source.response, row.task, is_hard=True)
            else:
                yield refuse(row, "not-in-pool", f"{self._config.path} holds no response to this instruction")

    async def _read_pool(self) -> None:
        if self._rows:
            return
        rows = [row async for row in self._pool.read(Aside("pool")) if isinstance(row, Example)]
        self._rows = {row.id: row for row in rows if row.response.strip()}

    async def _label_pool(self, stage: Stage) -> None:
        """Put the pool's rows on shelves, one for each task."""
        if self._shelves:
            return
        await self._read_pool()
        aside = Aside.within(stage, "pool")
        rows = list(self._rows.values())
        stage.progress(0, len(rows), "labelling the pool")
        counted = features.stack(list(features.counts([instruction_text(row) for row in rows])))
        self._idf = features.inverse_frequency(counted)
        place = {row.id: at for at, row in enumerate(rows)}
        members: dict[Task, list[int]] = defaultdict(list)
        async for label in self._classifier.label(aside, rows):
            if isinstance(label, Label):
                members[label.task].append(place[label.id])
        for task, found in members.items():
            vectors = features.tfidf(features.take(counted, np.array(found)), self._idf)
            self._shelves[task] = _Shelf([rows[at] for at in found], vectors)
        stage.note(pool_rows=len(rows))

    def _ranked(self, shelf: "_Shelf", seeds: Sequence[Example]) -> "Sequence[Example]":
        """The shelf's rows, nearest to any of the seeds first; what repeats a seed word for word is left out."""
        texts = [instruction_text(seed) for seed in seeds]
        vectors = features.tfidf(features.stack(list(features.counts(texts))), self._idf)
        cosine = shelf.vectors.times(_columns(vectors)).max(axis=1)
        order = np.argsort(-self._similarity(shelf, texts, cosine), kind="stable")
        said = {_words(text) for text in texts}
        return [shelf.rows[at] for at in order if _words(instruction_text(shelf.rows[at])) not in said]

    def _similarity(self, shelf: "_Shelf", texts: Sequence[str], cosine: Floats) -> Floats:
        """Cosine of n-grams, averaged with that of embeddings where there is an encoder."""
        if self._encoder is None:
            return cosine
        if shelf.embedded is None:
            shelf.embedded = self._encoder.embed([instruction_text(row) for row in shelf.rows])
        meaning: Floats = (shelf.embedded @ self._encoder.embed(texts).T).max(axis=1)
        return cosine + meaning

    @cached_property
    def _encoder(self) -> SentenceEncoder | None:
        return encoder_named(self._config.encoder)


@dataclass
class _Shelf:
    """The pool's rows of one task."""

    rows: list[Example]
    vectors: Sparse
    embedded: Floats | None = None
    """Filled when a draw first needs it."""


def _words(text: str) -> tuple[str, ...]:
    """A text without case, spacing and punctuation."""
    return tuple(re.findall(r"\w+", text.lower()))


def _first(ranked: Sequence[Example], taken: set[str], count: int) -> list[Example]:
    """The first `count` rows that are not taken."""
    found: list[Example] = []
    for row in ranked:
        if row.id not in taken:
            found.append(row)
            if len(found) == count:
                break
    return found


def _columns(vectors: Sparse) -> Floats:
    """Sparse rows as the columns of a dense matrix."""
    dense = np.zeros((features.BUCKETS, len(vectors)), dtype=np.float32)
    dense[vectors.columns, vectors.row_of] = vectors.values
    return dense


def _exhausted(draw: Draw, index: int) -> Refused:
    return Refused(
        id=f"{draw.id}-{index}",
        reason="pool-exhausted",
        detail=f"the pool has no unused row of task {draw.task} left for round {draw.round}",
        text=excerpt(draw.seeds[0].instruction) if draw.seeds else "",
    )
