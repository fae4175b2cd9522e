"""From a configuration to the roles that fill it. Nothing here is loaded before it is needed."""

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
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
from tapir.roles import Aside, Classifier, Corpus, Judge, Roles, Teacher
from tapir.rows import Example
from tapir.store.files import digest, remove

if TYPE_CHECKING:
    from tapir.oracles.ledger_file import LedgerFile
    from tapir.oracles.money import Budget
    from tapir.students import HuggingFaceStudent

WORLD = "world"
SCRATCH = "scratch"


class Oracles:
    """The endpoints of a run, opened when a role asks for them, over one ledger and one budget."""

    def __init__(self, cfg: RunConfig, stack: AsyncExitStack) -> None:
        self._cfg = cfg
        self._stack = stack
        self._shared: tuple[LedgerFile, Budget] | None = None

    async def open(self, endpoint: EndpointConfig, role: str) -> Oracle:
        """The oracle of one role.

        Raises:
            ConfigError: the endpoint wants a key and there is none.
        """
        from tapir.oracles.build import open_oracle
        from tapir.oracles.ledger_file import LEDGER, LedgerFile
        from tapir.oracles.money import Budget

        if self._shared is None:
            self._cfg.runs.mkdir(parents=True, exist_ok=True)
            ledger = self._stack.enter_context(LedgerFile(self._cfg.runs / LEDGER))
            budget = Budget(self._cfg.budget, self._cfg.name, ledger.spent(self._cfg.name))
            self._shared = ledger, budget
        ledger, budget = self._shared
        return await self._stack.enter_async_context(open_oracle(endpoint, role=role, ledger=ledger, budget=budget))


@asynccontextmanager
async def open_oracles(cfg: RunConfig) -> AsyncIterator[Oracles]:
    """The endpoints of a run; their connections and the ledger are closed on leaving."""
    async with AsyncExitStack() as stack:
        yield Oracles(cfg, stack)


@asynccontextmanager
async def open_roles(cfg: RunConfig) -> AsyncIterator[Roles]:
    """The roles of a run; their connections are closed on leaving.

    Raises:
        ConfigError: a role cannot be what the configuration asks for.
    """
    async with open_oracles(cfg) as oracles:
        student = build_student(cfg)
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
        from tapir.world.roles import WorldCorpus

        return WorldCorpus(seed)
    from tapir.corpus import FileCorpus

    return FileCorpus(cfg, seed)


def build_student(cfg: RunConfig) -> "HuggingFaceStudent":
    """The small model."""
    from tapir.students import HuggingFaceStudent

    student = cfg.student
    if student.model == SCRATCH:
        student = student.model_copy(update={"model": str(_from_scratch(cfg))})
    return HuggingFaceStudent(student, cfg.seed)


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

        return world_set(cfg.seed)
    data = CorpusConfig(path=one.path, limit=one.limit, near_duplicates=None)
    rows = [row async for row in build_corpus(data, cfg.seed).read(Aside(one.name)) if isinstance(row, Example)]
    if not rows:
        raise DataError(f"{one.path}: holds no item to evaluate on; see what is wrong with `tapir check {one.path}`")
    return EvaluationSet(one.name, [Item(row) for row in rows])
