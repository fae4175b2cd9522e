"""The student of a run: any Hugging Face causal LM, trained and asked."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import cached_property, partial
from typing import Any

from tapir.config import StudentConfig
from tapir.roles import Stage
from tapir.rows import Answer, Checkpoint, Example, Refused
from tapir.students.adapters import context_of
from tapir.students.answering import answer_here
from tapir.students.card import write_card
from tapir.students.checkpoints import student_digest
from tapir.students.devices import pick_device
from tapir.students.endpoint import Opener, answer_by_endpoint, open_plainly
from tapir.students.jobs import NOT_DECIDING, Job
from tapir.students.preflight import PreflightReport, preflight
from tapir.students.sources import base_model, source_digest
from tapir.students.threads import in_thread
from tapir.students.tokens import ChatTokenizer, load_tokenizer
from tapir.students.training import train_here


class HuggingFaceStudent:
    """Trains with TRL's SFTTrainer; answers with transformers or a server. Implements `tapir.roles.Student`.

    Nothing is loaded before a verb is called; paths of checkpoints are directories that can be opened as they are.
    """

    def __init__(self, config: StudentConfig, seed: int = 0, open_oracle: Opener = open_plainly) -> None:
        """`open_oracle` opens the server of engine `endpoint` (through a ledger and a budget, say)."""
        self.config = config
        self.seed = seed
        self._open_oracle = open_oracle
        self._tokens: dict[tuple[str, str], int] = {}
        """Tokens of the rows counted so far: a round counts most of them again."""

    @cached_property
    def base(self) -> str:
        """The directory or hub id of the base model.

        Raises:
            StudentError: the embedded world's base is asked for and damaged.
        """
        return base_model(self.config.model)

    @cached_property
    def chat(self) -> ChatTokenizer:
        """The base model's tokenizer, which every student of the run shares.

        Raises:
            StudentError: there is none that can be used.
        """
        return load_tokenizer(self.base, trust_remote_code=self.config.trust_remote_code)

    def identity(self, verb: str) -> Mapping[str, Any]:
        """What decides a trained student (`train`) or its answers (`answer`), besides rows and starting checkpoint."""
        shared = {"model": self.config.model, "seed": self.seed}
        if verb == "train":
            settings = self.config.train.model_dump(mode="json", exclude=set(NOT_DECIDING))
            return {**shared, "base": source_digest(self.base), **settings}
        endpoint = self.config.endpoint if self.config.engine == "endpoint" else None
        served = {"base_url": endpoint.base_url, "served": endpoint.model} if endpoint else {}
        return {**shared, "engine": self.config.engine, **served, **self.config.generation.model_dump(mode="json")}

    def count_tokens(self, rows: Sequence[Example]) -> list[int]:
        """Tokens of each row as trained on: prompt as rendered, response, end of turn; nothing is cut."""
        known = self._tokens
        new = {(row.id, row.response): row for row in rows if (row.id, row.response) not in known}
        known.update(zip(new, (made.size for made in self.chat.encode(list(new.values()))), strict=True))
        return [known[row.id, row.response] for row in rows]

    def preflight(self, rows: Sequence[Example]) -> PreflightReport:
        """What training the base model on these rows would mean.

        Raises:
            StudentError: the device is not there, or the base model's tokenizer or configuration cannot be used.
        """
        pick_device(self.config.device)
        return preflight(self.chat, rows, self.config.train, context_of(self.base, self.config.trust_remote_code))

    async def train(self, stage: Stage, lessons: Sequence[Example], start: Checkpoint | None = None) -> Checkpoint:
        """Fine-tune `start` (None: the base model, for `warmup_epochs`) on `lessons`.

        The student is written to `stage.work / "student"`. A stage that was killed goes on from its newest whole
        checkpoint, and on CPU ends with the weights, bit for bit, of one that was not.

        Raises:
            StudentError: the rows do not pass the pre-flight, or training failed.
        """
        config = self.config
        stage.expect(len(lessons))
        job = Job(
            model=start.path if start else self.base,
            start=start.digest if start else source_digest(self.base),
            work=stage.work,
            config=config.train,
            epochs=config.train.epochs if start else config.train.warmup_epochs,
            seed=self.seed,
            device=pick_device(config.device),
            threads=config.threads,
            trust_remote_code=config.trust_remote_code,
        )
        trained = await in_thread(lambda should_stop: train_here(job, lessons, stage.progress, should_stop))
        if trained is None:
            raise asyncio.CancelledError
        write_card(job.student, job, self.config.model, lessons, trained.curve)
        stage.note(curve=trained.curve, preflight=trained.preflight)
        return Checkpoint(path=str(job.student), digest=student_digest(job.student))

    async def answer(
        self, stage: Stage, student: Checkpoint, rows: Sequence[Example]
    ) -> AsyncIterator[Answer | Refused]:
        """The student's own response to every instruction, in an order that depends on rows and settings alone.

        Raises:
            StudentError: the student cannot be loaded or served, or one row alone does not fit into memory.
            OracleError: the server cannot be asked.
        """
        stage.expect(len(rows))
        async with self._answers(stage, student, rows) as answers:
            async for row in answers:
                yield row

    @asynccontextmanager
    async def _answers(
        self, stage: Stage, student: Checkpoint, rows: Sequence[Example]
    ) -> AsyncIterator[AsyncIterator[Answer | Refused]]:
        """The stream of answers, from the engine that the configuration names; closed on leaving."""
        config = self.config
        ask = partial(answer_by_endpoint, stage, generation=config.generation, seed=self.seed, student=student)
        if config.engine == "vllm":
            from tapir.students.vllm import serving

            async with (
                serving(config.vllm, student, stage.work) as endpoint,
                aclosing(ask(endpoint=endpoint, rows=rows, open_oracle=open_plainly)) as answers,
            ):
                yield answers
        elif config.endpoint is not None and config.engine == "endpoint":
            answered = ask(endpoint=config.endpoint, rows=rows, open_oracle=self._open_oracle)
            async with aclosing(answered) as answers:
                yield answers
        else:
            async with aclosing(answer_here(stage, config, self.seed, student, rows)) as answers:
                yield answers
