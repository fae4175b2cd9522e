"""A run on disk: its stages, students and mixtures, and what it takes to continue it after any interruption.

Layout (one directory a run)::

    manifest.json            resolved configuration, package versions; enough to run it again
    stages/RR-name/          RR: the round, 00 for what comes before round 1
        rows.parquet         the rows kept
        refused.parquet      the rows refused, with reasons
        stage.json           written last: its presence means the stage is whole
        work/                checkpoints and parts, only while the stage runs
    students/round-R/        a Hugging Face directory
    data/round-R.parquet     the exact training mixture
    arms/NAME/               the same again, for each rival that the run is compared with
    superseded/              results of earlier settings, taken back when the settings are
    log.jsonl                what happened when
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from tapir.errors import StudentError
from tapir.rows import Checkpoint, Lesson, Refused, Row
from tapir.store.files import read_json, remove, rows_digest, write_json, write_rows
from tapir.store.lock import Lock
from tapir.store.stage import StageRun, recipe_of
from tapir.store.step import Observer, Step
from tapir.version import __version__

R = TypeVar("R", bound=Row)


class RunStore:
    """The directory of one run, locked while it is open.

    Open it with `async with`: leaving it stops what is still running.
    """

    def __init__(
        self,
        directory: Path,
        observer: Observer,
        *,
        max_refused_fraction: float = 1.0,
        retry_refused: bool = False,
        base: Self | None = None,
    ) -> None:
        self.directory = directory
        self.observer = observer
        self.max_refused_fraction = max_refused_fraction
        self.retry_refused = retry_refused
        self.base = base
        """The run whose stages this one may take over (an arm's parent)."""
        self._lock = Lock(directory / ".lock")
        self._tasks: set[asyncio.Task[Any]] = set()
        self.stages_run = 0
        """Stages that were run rather than replayed since the run was opened."""

    async def __aenter__(self) -> Self:
        self._lock.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = [task for task in self._tasks if not task.done()]
        for task in running:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lock.release()

    def round(self, number: int) -> "Round":
        """Where the stages of round `number` live; 0 for what comes before round 1."""
        return Round(self, number)

    def resolve(self, checkpoint: Checkpoint) -> Path:
        """The directory of a student: this run's own, or its parent's."""
        for store in (self, self.base):
            if store is not None:
                path = store.directory / checkpoint.path
                info = read_json(path / "tapir.json") or {}
                if info.get("digest") == checkpoint.digest:
                    self._check_sizes(path, info.get("sizes", {}))
                    return path
        raise StudentError(
            f"{self.directory / checkpoint.path}: the student is gone; delete its stage to train it again"
        )

    @staticmethod
    def _check_sizes(student: Path, sizes: Mapping[str, int]) -> None:
        """That a student's weights are as long as they were: a look that costs nothing, however large they are.

        Raises:
            StudentError: one is gone or was cut off.
        """
        for name, size in sizes.items():
            path = student / name
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                what = "is gone" if found is None else f"has {found} bytes instead of {size}"
                raise StudentError(f"{path}: {what}; delete {student} and its stage directory to train it again")

    def located(self, checkpoint: Checkpoint) -> Checkpoint:
        """The same student with the path of its directory, for a role that opens it."""
        return Checkpoint(path=str(self.resolve(checkpoint)), digest=checkpoint.digest)

    def write_manifest(self, config: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        """Keep what it takes to run this again."""
        manifest = {"tapir": __version__, "config": config, "versions": versions}
        self.directory.mkdir(parents=True, exist_ok=True)
        write_json(self.directory / "manifest.json", manifest)

    def log(self, event: str, **values: Any) -> None:
        """Append one event to log.jsonl."""
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **values}
        with (self.directory / "log.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")

    def watch(self, task: asyncio.Task[Any]) -> None:
        """Stop this task when the run is left."""
        self._tasks.add(task)

    def supersede(self, path: Path, key: str) -> None:
        """Move an earlier result out of the way, so that it can be taken back."""
        target = self._superseded(path, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(target)
        path.replace(target)

    def take_back(self, path: Path, key: str) -> bool:
        """Move the result of this key back to its place, where there is one."""
        source = self._superseded(path, key)
        if not source.exists():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        source.replace(path)
        return True

    def _superseded(self, path: Path, key: str) -> Path:
        return self.directory / "superseded" / f"{path.parent.name}-{path.name}-{key[:12]}"


class Round:
    """The stages of one round. A stage runs once; while its inputs and settings stay the same it replays its rows."""

    def __init__(self, run: RunStore, number: int) -> None:
        self._run = run
        self._number = number

    def step(
        self,
        name: str,
        verb: Callable[..., AsyncIterator[Any]],
        *inputs: Any,
        may_refuse: bool = False,
    ) -> Step[Any]:
        """Start a role's verb on `inputs`, or replay its rows.

        An input is rows (count by content), another step (counts by its key; its rows stream in) or a JSON-like value.
        `may_refuse` lifts max_refused_fraction for stages whose job is to refuse.
        """
        stage = StageRun(self._run, self._number, name, recipe_of(verb, inputs))
        work = partial(stage.rows, verb, inputs, most=None if may_refuse else self._run.max_refused_fraction)
        step: Step[Any] = Step(f"{stage.key}:{stage.tries}")
        self._run.watch(step.start(work))
        return step

    async def train(
        self,
        name: str,
        verb: Callable[..., Coroutine[Any, Any, Checkpoint]],
        lessons: Sequence[Any],
        start: Checkpoint | None = None,
    ) -> Checkpoint:
        """Train the student of this round, or find it trained."""
        inputs = (lessons, start)
        stage = StageRun(self._run, self._number, name, recipe_of(verb, inputs))
        resolved = None if start is None else self._run.located(start)
        task = asyncio.create_task(stage.student(verb, lessons, resolved))
        self._run.watch(task)
        return await task

    def keep(self, name: str, type_: type[R], rows: Sequence[R], refused: Sequence[Refused] = (), **notes: Any) -> None:
        """Keep what a pure function decided, for the report: it is worked out anew in every run."""
        recipe = {"rows": rows_digest(rows), "refused": rows_digest(refused), "notes": notes}
        stage = StageRun(self._run, self._number, name, recipe)
        if stage.replay() is None:
            stage.context.notes.update(notes)
            stage.write(type_, rows, refused, expected=len(rows) + len(refused), started=time.time())

    def mixture(self, lessons: Sequence[Lesson]) -> None:
        """Write the exact training set of this round to data/round-R.parquet."""
        path = self._run.directory / "data" / f"round-{self._number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, Lesson, lessons)
