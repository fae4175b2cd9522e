"""One training stage on this machine: pre-flight, what is left of an earlier attempt, training, the result."""

import shutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from tapir.rows import Example
from tapir.students.adapters import context_of
from tapir.students.checkpoints import forget_checkpoints
from tapir.students.jobs import Curve, Job, Watch, job_digest
from tapir.students.launch import fit_launched, needs_launch
from tapir.students.preflight import preflight
from tapir.students.tokens import ChatTokenizer, Encoded, load_tokenizer

JOB = "job"


class Trained(NamedTuple):
    """What a finished training stage tells, as JSON values."""

    curve: dict[str, Any]
    preflight: dict[str, Any]


def train_here(
    job: Job,
    lessons: Sequence[Example],
    progress: Callable[[float, float, str], None],
    should_stop: Callable[[], bool],
) -> Trained | None:
    """Train `job` on `lessons`, going on where an earlier attempt was killed; None where stopped.

    Raises:
        StudentError: the rows do not pass the pre-flight, or training failed.
    """
    chat = load_tokenizer(job.model, trust_remote_code=job.trust_remote_code)
    report = preflight(chat, lessons, job.config, context_of(job.model, job.trust_remote_code))
    report.check()
    _adopt(job, job_digest(job, report.encoded))
    curve = _finished(job)
    if curve is None:
        watch = Watch(lambda step, steps, loss: progress(step, steps, f"loss {loss:.3f}"), should_stop)
        curve = _fit(job, report.encoded, chat, watch)
    if curve is None:
        return None
    return Trained(msgspec.to_builtins(curve), report.summary())


def _fit(job: Job, rows: Sequence[Encoded], chat: ChatTokenizer, watch: Watch) -> Curve | None:
    """Train in this process, or in processes of its own."""
    if needs_launch(job):
        return fit_launched(job, rows, watch)
    from tapir.students.trl import fit

    return fit(job, rows, chat, watch)


def _adopt(job: Job, digest: str) -> None:
    """Make the working directory this job's: what an attempt at another job has left is removed."""
    job.work.mkdir(parents=True, exist_ok=True)
    owner = job.work / JOB
    if owner.is_file() and owner.read_text(encoding="utf-8") == digest:
        return
    forget_checkpoints(job.work)
    shutil.rmtree(job.student, ignore_errors=True)
    job.curve.unlink(missing_ok=True)
    owner.write_text(digest, encoding="utf-8")


def _finished(job: Job) -> Curve | None:
    """The curve of a job whose student is there already; None where it is not."""
    if not job.student.is_dir():
        return None
    return msgspec.json.decode(job.curve.read_bytes(), type=Curve)
