"""From a configuration to the roles that fill it. Nothing here is loaded before it is needed."""

import os
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tapir.config import (
    CascadeClassifierConfig,
    CorpusConfig,
    EncoderClassifierConfig,
    EndpointConfig,
    EndpointJudgeConfig,
    EndpointTeacherConfig,
    EvaluationSetConfig,
    LocalClassifierConfig,
    OracleClassifierConfig,
    PoolTeacherConfig,
    ReferenceJudgeConfig,
    RunConfig,
)
from tapir.errors import DataError
from tapir.evaluation.evaluator import EvaluationSet, Item, SetEvaluator
from tapir.oracles.base import Oracle
from tapir.quote import endpoints
from tapir.roles import Aside, Classifier, Corpus, Judge, Roles, Teacher
from tapir.rows import Example
from tapir.store.files import digest, remove

if TYPE_CHECKING:
    from tapir.oracles.ledger_file import LedgerFile
    from tapir.oracles.limiter import Limiter
    from tapir.oracles.money import Budget
    from tapir.students import HuggingFaceStudent

Say = Callable[[str], None]

WORLD = "world"
SCRATCH = "scratch"


class Oracles:
    """The endpoints of a run, opened when a role asks for them, over one ledger, one budget and a limiter a server."""

    def __init__(self, cfg: RunConfig, stack: AsyncExitStack, say: Say) -> None:
        self._cfg = cfg
        self._stack = stack
        self._say = say
        self._shared: tuple[LedgerFile, Budget] | None = None
        self._limiters: dict[Hashable, Limiter] = {}

    async def open(self, endpoint: EndpointConfig, role: str) -> Oracle:
        """The oracle of one role, until the run ends.

        Raises:
            ConfigError: the endpoint wants a key and there is none.
        """
        return await self._stack.enter_async_context(self.opened(endpoint, role))

    def opened(
        self, endpoint: EndpointConfig, role: str, *, as_is: bool = False
    ) -> AbstractAsyncContextManager[Oracle]:
        """The oracle of one role, while the context lasts; `as_is` as for `open_oracle`."""
        from tapir.oracles.build import open_oracle

        ledger, budget = self._open_ledger()
        limiter = self._limiter(endpoint)
        return open_oracle(endpoint, role=role, ledger=ledger, budget=budget, limiter=limiter, as_is=as_is)

    def _open_ledger(self) -> "tuple[LedgerFile, Budget]":
        """The ledger beside the run, and what is left of the budget; says what was found wrong with the file."""
        from tapir.oracles.ledger_file import LEDGER, LedgerFile
        from tapir.oracles.money import Budget

        if self._shared is None:
            ledger = self._stack.enter_context(LedgerFile(self._cfg.runs / LEDGER))
            for notice in ledger.notices:
                self._say(notice)
            self._shared = ledger, Budget(self._cfg.budget, self._cfg.name, ledger.spent(self._cfg.name))
        return self._shared

    def _limiter(self, endpoint: EndpointConfig) -> "Limiter":
        """The limiter of the endpoint's server, shared by all roles that ask there."""
        from tapir.oracles.limiter import Limiter, limits_of, server_of

        server = server_of(endpoint)
        if server not in self._limiters:
            users = [one for one in endpoints(self._cfg).values() if server_of(one) == server]
            self._limiters[server] = Limiter(limits_of(users or [endpoint]))
        return self._limiters[server]


@asynccontextmanager
async def open_oracles(cfg: RunConfig, say: Say) -> AsyncIterator[Oracles]:
    """The endpoints of a run; their connections and the ledger are closed on leaving. `say` tells the user a line."""
    async with AsyncExitStack() as stack:
        yield Oracles(cfg, stack, say)


@asynccontextmanager
async def open_roles(cfg: RunConfig, say: Say) -> AsyncIterator[Roles]:
    """The roles of a run; their connections are closed on leaving. `say` tells the user a line.

    Raises:
        ConfigError: a role cannot be what the configuration asks for.
    """
    async with open_oracles(cfg, say) as oracles:
        student = build_student(cfg, oracles)
        classifier = await build_classifier(cfg, oracles)
        judge = await build_judge(cfg, oracles)
        sets = [await evaluation_set(one, cfg) for one in cfg.evaluation.sets]
        yield Roles(
            corpus=build_corpus(cfg.corpus, cfg.seed),
            student=student,
            teacher=await build_teacher(cfg, oracles, classifier),
            judge=judge,
            classifier=classifier,
            evaluator=SetEvaluator(sets, student, judge),
        )


def build_corpus(cfg: CorpusConfig, seed: int) -> Corpus:
    """The raw instruction set."""
    if cfg.path == WORLD:
        from tapir.world.corpus import CORPUS_ROWS
        from tapir.world.roles import WorldCorpus

        return WorldCorpus(seed, min(cfg.limit or CORPUS_ROWS, CORPUS_ROWS))
    from tapir.corpus import FileCorpus

    return FileCorpus(cfg, seed)


def build_student(cfg: RunConfig, oracles: Oracles | None = None) -> "HuggingFaceStudent":
    """The small model; with `oracles`, one that is asked at an endpoint is asked through ledger and budget.

    The ledger's key holds the digest of the student's weights (`answer_by_endpoint`), so that no round gets the
    answers of another under the same name. Without such a digest, leave `oracles` out.
    """
    from tapir.students import HuggingFaceStudent
    from tapir.students.endpoint import open_plainly

    student = cfg.student
    if student.model == SCRATCH:
        student = student.model_copy(update={"model": str(_from_scratch(cfg))})
    opener = open_plainly if oracles is None else partial(oracles.opened, role="student", as_is=True)
    return HuggingFaceStudent(student, cfg.seed, opener)


def _from_scratch(cfg: RunConfig) -> Path:
    """An untrained student whose tokenizer knows the corpus; made once beside the runs that use it."""
    from tapir.testing.student import tiny_student

    shape = cfg.student.scratch.model_dump()
    corpus = build_corpus(cfg.corpus, cfg.seed)
    made_of = digest({"shape": shape, "seed": cfg.seed, "corpus": dict(corpus.identity("read"))})
    directory = cfg.runs / f"scratch-{made_of[:12]}"
    if not directory.is_dir():
        draft = directory.with_name(f"{directory.name}.{os.getpid()}")
        tiny_student(draft, texts=_texts(cfg), seed=cfg.seed, **shape)
        try:
            draft.replace(directory)
        except OSError:  # another process was first
            remove(draft)
    return directory


def _texts(cfg: RunConfig) -> Iterator[str]:
    """The texts of the corpus, for a tokenizer."""
    if cfg.corpus.path == WORLD:
        from tapir.world.roles import corpus_rows

        rows: Iterable[Example] = corpus_rows(cfg.seed)
    else:
        from tapir.corpus.file_corpus import cleaned_rows, data_set

        rows = (row for _, row in cleaned_rows(data_set(cfg.corpus), cfg.corpus) if isinstance(row, Example))
    for row in rows:
        yield from (*(turn.content for turn in row.turns), row.response)


async def build_teacher(cfg: RunConfig, oracles: Oracles, classifier: Classifier) -> Teacher:
    """The large model, or what stands in for it."""
    match cfg.teacher:
        case EndpointTeacherConfig(endpoint=endpoint):
            from tapir.oracles.roles import OracleTeacher

            return OracleTeacher(await oracles.open(endpoint, "teacher"), cfg.teacher, cfg.refine)
        case PoolTeacherConfig() as pool:
            from tapir.pool import PoolTeacher

            data = CorpusConfig(path=pool.path, near_duplicates=None)
            return PoolTeacher(pool, build_corpus(data, cfg.seed), classifier)
        case _:
            from tapir.world.roles import WorldTeacher

            return WorldTeacher(cfg.refine)


async def build_judge(cfg: RunConfig, oracles: Oracles) -> Judge:
    """What scores responses."""
    match cfg.judge:
        case EndpointJudgeConfig(endpoint=endpoint):
            from tapir.oracles.roles import OracleJudge

            return OracleJudge(await oracles.open(endpoint, "judge"), cfg.judge)
        case ReferenceJudgeConfig() as reference:
            from tapir.reference import ReferenceJudge

            return ReferenceJudge(reference)
        case _:
            from tapir.world.roles import WorldJudge

            return WorldJudge()


async def build_classifier(cfg: RunConfig, oracles: Oracles) -> Classifier:
    """What tells task types."""
    match cfg.tasks.classifier:
        case LocalClassifierConfig() as local:
            from tapir.classifiers.local import LocalClassifier

            return LocalClassifier(local)
        case EncoderClassifierConfig() as encoder:
            from tapir.classifiers.encoder import EncoderClassifier

            return EncoderClassifier(encoder)
        case OracleClassifierConfig() as oracle:
            from tapir.oracles.roles import OracleClassifier

            return OracleClassifier(await oracles.open(oracle.endpoint, "classifier"), oracle)
        case CascadeClassifierConfig() as cascade:
            from tapir.classifiers.cascade import CascadeClassifier
            from tapir.classifiers.local import LocalClassifier
            from tapir.oracles.roles import OracleClassifier

            second = OracleClassifier(await oracles.open(cascade.endpoint, "classifier"), cascade)
            return CascadeClassifier(cascade, LocalClassifier(cascade.local), second)
        case _:
            from tapir.world.roles import WorldClassifier

            return WorldClassifier()


async def evaluation_set(one: EvaluationSetConfig, cfg: RunConfig) -> EvaluationSet:
    """The items of one evaluation set.

    Raises:
        DataError: the file holds no usable item.
    """
    if one.path == WORLD:
        from tapir.world.roles import evaluation_set as world_set

        return world_set(cfg.seed, limit=one.limit)
    data = CorpusConfig(path=one.path, limit=one.limit, near_duplicates=None)
    rows = [row async for row in build_corpus(data, cfg.seed).read(Aside(one.name)) if isinstance(row, Example)]
    if not rows:
        raise DataError(f"{one.path}: holds no item to evaluate on; see what is wrong with `tapir check {one.path}`")
    return EvaluationSet(one.name, [Item(row) for row in rows])
