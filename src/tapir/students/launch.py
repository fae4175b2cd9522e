"""A training stage in several processes: `accelerate launch` starts this module again in each of them."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tapir.config import TrainConfig
from tapir.errors import StudentError
from tapir.students.jobs import Curve, Job, Watch
from tapir.students.tokens import Encoded, first_line, load_tokenizer

POLL_S = 0.1
STOP_S = 60.0
_PR_SET_PDEATHSIG = 1


class Paper(msgspec.Struct):
    """What the processes are handed, as a file."""

    job: dict[str, Any]
    rows: list[Encoded]


def needs_launch(job: Job) -> bool:
    """Whether the stage runs in processes of its own: asked for, or several GPUs are there for the trainer to see."""
    if job.config.processes > 1 or job.config.accelerate_config is not None:
        return True
    if not job.device.startswith("cuda"):
        return False
    import torch

    return torch.cuda.device_count() > 1


def fit_launched(job: Job, rows: Sequence[Encoded], watch: Watch) -> Curve | None:
    """Train in the processes that `accelerate launch` starts; None where `watch` stopped them.

    They die with this process, and stop at the next step, with a checkpoint, when `watch` says so.

    Raises:
        StudentError: they failed; the message ends with their last words.
    """
    place = job.work / "launch"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    paper = Paper(_job_values(job), list(rows))
    (place / "paper").write_bytes(msgspec.msgpack.encode(paper))
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            _command(job, place),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        try:
            _follow(process, place, watch)
        finally:
            _end(process)
    if process.returncode != 0 and not (place / "stop").exists():
        raise StudentError(f"training in {job.config.processes} processes failed: {_last_words(place)}")
    return msgspec.json.decode(job.curve.read_bytes(), type=Curve) if job.student.is_dir() else None


def _command(job: Job, place: Path) -> list[str]:
    """The launching command: the user's accelerate file, or one machine with so many processes."""
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    if job.config.accelerate_config is not None:
        launch += ["--config_file", str(job.config.accelerate_config)]
        if job.config.processes > 1:
            launch += ["--num_processes", str(job.config.processes)]
    else:
        launch += ["--num_processes", str(job.config.processes), "--num_machines", "1", "--mixed_precision", "no"]
        launch += ["--dynamo_backend", "no", *(["--cpu"] if job.device == "cpu" else [])]
    return [*launch, "-m", "tapir.students.launch", str(place)]


def _follow(process: "subprocess.Popen[bytes]", place: Path, watch: Watch) -> None:
    """Pass progress on, and the wish to stop, until the processes end."""
    seen = 0
    asked: float | None = None
    while process.poll() is None:
        time.sleep(POLL_S)
        seen = _report(place / "steps", seen, watch)
        if asked is None and watch.should_stop():
            (place / "stop").touch()
            asked = time.monotonic()
        if asked is not None and time.monotonic() - asked > STOP_S:
            return
    _report(place / "steps", seen, watch)


def _report(path: Path, seen: int, watch: Watch) -> int:
    """Tell the steps written after the first `seen`; how many there are now."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return seen
    for line in lines[seen:]:
        step, steps, loss = line.split()
        watch.on_step(int(step), int(steps), float(loss))
    return len(lines)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Leave no process behind."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_words(place: Path) -> str:
    """The error of a worker, or the last line that the processes wrote."""
    failure = place / "failure"
    if failure.is_file():
        return failure.read_text(encoding="utf-8")
    lines = (place / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line.strip() for line in lines if "Error" in line]
    return f"{(errors or lines or ['no output'])[-1].strip()} (all of it: {place / 'log'})"


def die_with_parent() -> None:
    """Ask the kernel to end this process when the thread that started it dies, however it dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _job_values(job: Job) -> dict[str, Any]:
    """A job as plain values."""
    values = {name: getattr(job, name) for name in Job.__dataclass_fields__}
    return values | {"work": str(job.work), "config": job.config.model_dump(mode="json")}


def _job(values: dict[str, Any]) -> Job:
    """The job in plain values."""
    config = TrainConfig.model_validate(values["config"])
    return Job(**(values | {"work": Path(values["work"]), "config": config}))


def work(place: Path) -> None:
    """Be one of the processes: train, and write what the one that waits wants to know.

    Raises:
        StudentError: training failed.
    """
    die_with_parent()
    paper = msgspec.msgpack.decode((place / "paper").read_bytes(), type=Paper)
    job = _job(paper.job)
    chat = load_tokenizer(job.model, trust_remote_code=job.trust_remote_code)
    from tapir.students.trl import fit

    is_first = os.environ.get("RANK", "0") == "0"
    with (place / "steps").open("a", encoding="utf-8") as steps:
        fit(job, paper.rows, chat, Watch(_writer(steps) if is_first else _ignore, (place / "stop").exists))


def _writer(steps: Any) -> Callable[[int, int, float], None]:
    """A follower that writes every step down."""

    def on_step(step: int, total: int, loss: float) -> None:
        steps.write(f"{step} {total} {loss}\n")
        steps.flush()

    return on_step


def _ignore(step: int, total: int, loss: float) -> None:
    """A follower of the processes that nobody asks."""


def main() -> None:
    """Train as one of the processes; a failure leaves its line for the one that waits."""
    place = Path(sys.argv[1])
    try:
        work(place)
    except StudentError as error:
        (place / "failure").write_text(first_line(error), encoding="utf-8")
        raise


if __name__ == "__main__":
    main()
