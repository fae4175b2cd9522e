"""One stage directory: replayed while its inputs and settings are unchanged, filled otherwise."""

import os
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, get_args, get_type_hints

import msgspec

from tapir.errors import RunError
from tapir.oracles.money import at_stage
from tapir.rows import Checkpoint, Refused, Row
from tapir.store.files import digest, read_json, read_record, read_rows, remove, rows_digest, write_json, write_rows
from tapir.store.step import Observer, Rows, StageContext, Step, check_refused, check_sums

R = TypeVar("R", bound=Row)

RETRYABLE = frozenset(
    {
        "timeout",
        "rate-limit",
        "server-error",
        "connect",
        "malformed",
        "rejected",
        "empty",
        "truncated",
        "content-filter",
    }
)
"""Refusals of calls: `retry_refused` runs their stages once more. Calls that got no reply are made again; what was
paid for is in the ledger, and answers as before, the unusable too, until `tapir ledger prune --only-unusable`."""


class RunPlace(Protocol):
    """What a stage needs to know of the run that it belongs to."""

    directory: Path
    observer: Observer
    retry_refused: bool
    stages_run: int

    @property
    def base(self) -> Self | None:
        """The run whose stages this one may take over."""

    def resolve(self, checkpoint: Checkpoint) -> Path:
        """The directory of a student."""

    def log(self, event: str, **values: Any) -> None:
        """Append one event to the log."""

    def supersede(self, path: Path, key: str) -> None:
        """Move an earlier result out of the way."""

    def take_back(self, path: Path, key: str) -> bool:
        """Move an earlier result back to its place."""


class StageRun:
    """One stage directory: replay it, or fill it."""

    def __init__(self, run: RunPlace, number: int, name: str, recipe: Mapping[str, Any]) -> None:
        self._run = run
        self._number = number
        self.name = name if number == 0 else f"round {number}: {name}"
        self._label = f"{number:02d}-{name}"
        self.recipe = recipe
        self.key = digest({"stage": name, "round": number, **recipe})
        self.directory = run.directory / "stages" / self._label
        self.context = StageContext(self.name, self.directory / "work", run.observer)
        record = read_record(self.directory / "stage.json") or {}
        self._is_retried = (
            record.get("key") == self.key and run.retry_refused and bool(RETRYABLE & set(record["refused"]))
        )
        self.tries: int = record.get("tries", 1) + self._is_retried if record.get("key") == self.key else 1
        """Times that this key was run: a stage that takes these rows while they come runs again when it grows."""

    def replay(self) -> tuple[Path, dict[str, Any]] | None:
        """The directory and the record of this stage where it is whole already, here or in the parent run."""
        record = read_record(self.directory / "stage.json")
        if record is not None and record["key"] != self.key:
            self._explain(record)
            self._run.supersede(self.directory, record["key"])
            record = None
        if record is None and not self._is_begun() and self._run.take_back(self.directory, self.key):
            record = read_record(self.directory / "stage.json")
        if self._is_retried:
            return None
        if record is not None:
            return self.directory, record
        if self._run.base is not None:
            parent = self._run.base.directory / "stages" / self._label
            record = read_record(parent / "stage.json")
            if record is not None and record["key"] == self.key:
                return self._share(parent, record), record
        return None

    def _share(self, parent: Path, record: dict[str, Any]) -> Path:
        """Have the parent run's rows here too, as links to the same files; a student stays where it is."""
        if record["row_type"] is None:
            return parent
        remove(self.directory)
        self.directory.mkdir(parents=True)
        for name in ("rows.parquet", "refused.parquet"):
            os.link(parent / name, self.directory / name)
        write_json(self.directory / "stage.json", {**record, "is_shared": True})
        return self.directory

    def _is_begun(self) -> bool:
        return self.directory.exists()

    def _explain(self, old: Mapping[str, Any]) -> None:
        changed = _changes(old.get("recipe", {}), self.recipe)
        self._run.observer.said(f"{self.name} runs again: {', '.join(changed) or 'its code'} changed")

    def _begin(self) -> None:
        """An empty stage directory of this key; work of the same key is kept."""
        begun = self.directory / "begun.json"
        if (read_json(begun) or {}).get("key") != self.key:
            remove(self.directory)
        self.context.work.mkdir(parents=True, exist_ok=True)
        begun.write_bytes(msgspec.json.encode({"key": self.key}))
        self._run.stages_run += 1
        self._run.log("started", stage=self.name)

    async def rows(
        self, verb: Callable[..., AsyncIterator[Any]], inputs: Sequence[Any], step: Step[Any], *, most: float | None
    ) -> Rows[Any]:
        """Run the verb to its end and write what it yields, or replay it."""
        type_ = _row_type(verb)
        whole = self._replayed_rows(type_)
        if whole is not None:
            return whole
        started = time.time()
        self._begin()
        total = next((len(value) for value in inputs if isinstance(value, list | tuple)), None)
        self._run.observer.started(self.name, total)
        if not any(isinstance(value, Step) for value in inputs):
            self.context.expected = total  # of a stream only the role can say how many rows came
        with at_stage(self._label):
            kept, refused = await self._consume(verb, inputs, step, most)
        check_sums(self.name, len(kept), len(refused), self.context.expected)
        if most is not None:
            check_refused(self.name, refused, len(kept) + len(refused), most)
        record = self.write(type_, kept, refused, expected=self.context.expected, started=started)
        self._run.observer.finished(self.name, record, is_replayed=False)
        return Rows(kept)

    def _replayed_rows(self, type_: type[R]) -> Rows[R] | None:
        """The rows of a whole stage; None where it is to run, also because its file was damaged since."""
        replayed = self.replay()
        if replayed is None:
            return None
        directory, record = replayed
        try:
            whole = Rows(read_rows(directory / "rows.parquet", type_))
            deque(read_rows(directory / "refused.parquet", Refused), maxlen=0)
        except RunError:
            self._run.observer.said(f"{self.name} runs again: a file in {directory} cannot be read")
            remove(self.directory)
            return None
        self._run.observer.finished(self.name, record, is_replayed=True)
        return whole

    async def _consume(
        self, verb: Callable[..., AsyncIterator[Any]], inputs: Sequence[Any], step: Step[Any], most: float | None
    ) -> tuple[list[Any], list[Refused]]:
        kept: list[Any] = []
        refused: list[Refused] = []
        stream = verb(self.context, *inputs)
        try:
            async for row in stream:
                if isinstance(row, Refused):
                    refused.append(row)
                    expected = self.context.expected
                    if most is not None and expected is not None:
                        check_refused(self.name, refused, expected, most)
                else:
                    kept.append(row)
                    step.add(row)
                self.context.count(is_refused=isinstance(row, Refused))
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        return kept, refused

    def write(
        self, type_: type[R], rows: Sequence[R], refused: Sequence[Refused], *, expected: int | None, started: float
    ) -> dict[str, Any]:
        """Write the stage; its record comes last."""
        if (read_record(self.directory / "stage.json") or {}).get("key") not in (None, self.key):
            raise RunError(f"{self.directory}: another result is in the way; run the same command again")
        self.directory.mkdir(parents=True, exist_ok=True)
        write_rows(self.directory / "rows.parquet", type_, rows)
        write_rows(self.directory / "refused.parquet", Refused, refused)
        return self._finish(started, row_type=type_.__name__, expected=expected, kept=len(rows), refused=refused)

    async def student(
        self, verb: Callable[..., Coroutine[Any, Any, Checkpoint]], lessons: Sequence[Any], start: Checkpoint | None
    ) -> Checkpoint:
        """Train, then move the student to its place; or find it there."""
        home = Path("students") / f"round-{self._number}"
        target = self._run.directory / home
        replayed = self.replay()
        if replayed is not None:
            directory, record = replayed
            checkpoint = msgspec.convert(record["checkpoint"], Checkpoint)
            self._settle_student(target, mine=directory == self.directory)
            self._run.observer.finished(self.name, record, is_replayed=True)
            self._run.resolve(checkpoint)
            return checkpoint
        started = time.time()
        self._begin()
        self._run.observer.started(self.name, None)
        finished = self._found(target)
        if finished is None:
            self._settle_student(target, mine=False)
            made = await verb(self.context, lessons, start)
            finished = self._place(made, target)
        checkpoint = Checkpoint(path=str(home), digest=finished)
        record = self._finish(
            started, row_type=None, expected=len(lessons), kept=len(lessons), refused=(), checkpoint=checkpoint
        )
        self._run.observer.finished(self.name, record, is_replayed=False)
        return checkpoint

    def _place(self, made: Checkpoint, target: Path) -> str:
        """Move a trained student to its place, with what is needed to know it again."""
        sizes = {path.name: path.stat().st_size for path in sorted(Path(made.path).glob("*.safetensors"))}
        info = {"key": self.key, "digest": made.digest, "sizes": sizes, "notes": self.context.notes}
        write_json(Path(made.path) / "tapir.json", info)
        remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(made.path).replace(target)
        return made.digest

    def _found(self, target: Path) -> str | None:
        """The digest of a student that was moved to its place just before the process died."""
        info = read_json(target / "tapir.json")
        if info is None or info.get("key") != self.key:
            return None
        self.context.notes.update(info["notes"])
        return str(info["digest"])

    def _settle_student(self, target: Path, *, mine: bool) -> None:
        """Have in the student's place the student of this stage's key, or nothing."""
        info = read_json(target / "tapir.json")
        if info is not None and info["key"] != self.key:
            self._run.supersede(target, info["key"])
            info = None
        if info is None and mine:
            self._run.take_back(target, self.key)

    def _finish(
        self,
        started: float,
        *,
        row_type: str | None,
        expected: int | None,
        kept: int,
        refused: Sequence[Refused],
        checkpoint: Checkpoint | None = None,
    ) -> dict[str, Any]:
        record = {
            "name": self._label,
            "round": self._number,
            "key": self.key,
            "tries": self.tries,
            "recipe": self.recipe,
            "row_type": row_type,
            "rows_in": expected if expected is not None else kept + len(refused),
            "kept": kept,
            "refused": dict(Counter(row.reason for row in refused)),
            "started": started,
            "seconds": round(time.time() - started, 3),
            "notes": self.context.notes,
            "checkpoint": msgspec.to_builtins(checkpoint) if checkpoint else None,
            "is_shared": False,
        }
        write_json(self.directory / "stage.json", record)
        remove(self.context.work)
        remove(self.directory / "begun.json")
        counts = {name: record[name] for name in ("rows_in", "kept", "refused", "seconds")}
        self._run.log("finished", stage=self.name, **counts)
        return record


def recipe_of(verb: Callable[..., Any], inputs: Sequence[Any]) -> dict[str, Any]:
    """What makes a stage's result what it is: the role's identity and the inputs' digests."""
    role = getattr(verb, "__self__", None)
    if role is None or not hasattr(role, "identity"):
        raise TypeError(f"{verb!r} is not a verb of a role")
    recipe: dict[str, Any] = {"role": dict(role.identity(verb.__name__))}
    for index, value in enumerate(inputs):
        match value:
            case Rows():
                recipe[f"input {index}"] = value.digest
            case Step():
                recipe[f"input {index}"] = value.key
            case Checkpoint():
                recipe[f"input {index}"] = value.digest
            case list() | tuple():
                recipe[f"input {index}"] = rows_digest(value)
            case _:
                recipe[f"input {index}"] = digest(value)
    return recipe


def _row_type(verb: Callable[..., Any]) -> type[Row]:
    """The type of the rows that a verb keeps, read from its annotation `AsyncIterator[Kept | Refused]`."""
    (yielded,) = get_args(get_type_hints(verb)["return"])
    kinds = [kind for kind in get_args(yielded) or (yielded,) if kind is not Refused]
    if len(kinds) != 1:
        raise TypeError(f"{verb!r} must be annotated as yielding one row type, or refusals")
    kind: type[Row] = kinds[0]
    return kind


def _changes(old: Any, new: Any, name: str = "") -> list[str]:
    """The dotted names of what differs between two recipes."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(key for key in new if key not in old)]
        return [
            change
            for key in names
            for change in _changes(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if msgspec.to_builtins(old) == msgspec.to_builtins(new) else [name.removeprefix("role.")]
