"""What a training stage is asked to do, and what it tells: plain values that cross threads and processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import msgspec

from tapir.config import TrainConfig
from tapir.students.batches import Step, plan_steps
from tapir.students.tokens import Encoded

STUDENT = "student"
"""The finished student's directory under the stage's work."""

NOT_DECIDING = frozenset({"checkpoint_steps", "report_to", "micro_batch_size", "processes", "accelerate_config"})
"""Training settings that do not decide the student (up to rounding): how the work is cut, kept and shown."""


@dataclass(frozen=True)
class Job:
    """One training stage, besides its rows."""

    model: str
    """Directory or hub id that training starts from; a kept adapter's directory goes on with that adapter."""
    start: str
    """Digest of that model."""
    work: Path
    config: TrainConfig
    epochs: float
    seed: int
    device: str
    threads: int | None
    trust_remote_code: bool

    @property
    def student(self) -> Path:
        """Where the finished student goes."""
        return self.work / STUDENT

    @property
    def curve(self) -> Path:
        """Where its curve goes, just before."""
        return self.work / "curve.json"


class Curve(msgspec.Struct, frozen=True):
    """What the trainer logged, one entry a step."""

    step: list[int]
    loss: list[float]
    learning_rate: list[float]
    gradient_norm: list[float]
    tokens: list[int]
    """Tokens seen so far: prompts included, padding not."""


@dataclass(frozen=True)
class Watch:
    """How a training stage is followed and stopped from outside; both are called at every step."""

    on_step: Callable[[int, int, float], None]
    """Step, steps in all, loss."""
    should_stop: Callable[[], bool]


def plan_job(job: Job, rows: Sequence[Encoded], devices: int = 1) -> list[Step]:
    """The optimiser steps of `job` over `rows`."""
    return plan_steps(
        [row.size for row in rows],
        epochs=job.epochs,
        rows=job.config.batch_size,
        tokens=job.config.batch_tokens,
        micro=job.config.micro_batch_size,
        devices=devices,
        seed=job.seed,
    )


def job_digest(job: Job, rows: Sequence[Encoded]) -> str:
    """Digest of everything that decides the student; checkpoints of another job are not gone on with."""
    settings = job.config.model_dump(mode="json", exclude=set(NOT_DECIDING))
    state = blake2b(digest_size=16)
    state.update(msgspec.json.encode([job.start, settings, job.epochs, job.seed], order="sorted"))
    for row in rows:
        state.update(msgspec.msgpack.encode(row))
    return state.hexdigest()
