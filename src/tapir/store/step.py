"""One stage at work: it streams rows as they come, and is whole on disk when the last has come."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from tapir.errors import RunError
from tapir.rows import Refused, Row
from tapir.store.files import rows_digest

R = TypeVar("R", bound=Row)


class Rows(tuple[R, ...], Generic[R]):
    """The rows of a whole stage, with their digest."""

    @cached_property
    def digest(self) -> str:
        """Digest of the rows in their order."""
        return rows_digest(self)


class Observer(Protocol):
    """Whoever watches a run: the terminal, a log, a test."""

    def started(self, stage: str, total: float | None) -> None:
        """A stage begins; `total` rows are expected where known."""

    def advanced(self, stage: str, done: float, total: float | None, refused: int, text: str) -> None:
        """A stage has come so far."""

    def finished(self, stage: str, record: dict[str, Any], *, is_replayed: bool) -> None:
        """A stage is whole; `record` is its stage.json."""

    def said(self, text: str) -> None:
        """A line for the user."""


class StageContext:
    """What a role sees of the stage that it runs in."""

    def __init__(self, name: str, work: Path, observer: Observer) -> None:
        self.name = name
        self.work = work
        self.expected: int | None = None
        self.notes: dict[str, Any] = {}
        self.kept = 0
        self.refused = 0
        self._observer = observer
        self._loop = asyncio.get_running_loop()

    def expect(self, rows: int) -> None:
        """Say how many rows go in; rows kept and refused must add up to it in the end."""
        self.expected = rows
        self._tell(self.kept + self.refused, rows, "")

    def note(self, **values: Any) -> None:
        """Keep JSON values beside the rows, for the report."""
        self.notes.update(values)

    def progress(self, done: float, total: float, text: str = "") -> None:
        """Show progress that is not counted in rows yielded; may be called from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, done, total, text)

    def count(self, *, is_refused: bool) -> None:
        """One more row has come out."""
        self.refused += is_refused
        self.kept += not is_refused
        self._tell(self.kept + self.refused, self.expected, "")

    def _tell(self, done: float, total: float | None, text: str) -> None:
        self._observer.advanced(self.name, done, total, self.refused, text)


class Step(Generic[R]):
    """A stage's rows: await it for all of them, or iterate over it while they come.

    The same handle may be awaited and iterated any number of times. As an input of another stage it counts by its key
    (what made it) rather than by its rows, which are not known before it ends.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._rows: list[R] = []
        self._whole: Rows[R] | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[Rows[R]] | None = None

    def start(self, work: Callable[["Step[R]"], Any]) -> asyncio.Task[Rows[R]]:
        """Start the work that fills this step; it returns the whole rows."""

        async def run() -> Rows[R]:
            try:
                self._whole = await work(self)
                return self._whole
            finally:
                self._wake()

        self._task = asyncio.create_task(run())
        return self._task

    def add(self, row: R) -> None:
        """A row has come."""
        self._rows.append(row)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def __await__(self) -> Generator[Any, None, Rows[R]]:
        assert self._task is not None
        return asyncio.shield(self._task).__await__()

    async def __aiter__(self) -> AsyncIterator[R]:
        assert self._task is not None
        seen = 0
        while True:
            news = self._news
            rows = self._rows if self._whole is None else self._whole
            while seen < len(rows):
                yield rows[seen]
                seen += 1
                rows = self._rows if self._whole is None else self._whole
            if self._task.done() or self._whole is not None:
                await self
                if seen >= len(self._whole or ()):
                    return
            else:
                await news.wait()


def check_sums(name: str, kept: int, refused: int, expected: int | None) -> None:
    """Every row that goes in comes out.

    Raises:
        RunError: rows kept and refused do not add up to those expected.
    """
    if expected is not None and kept + refused != expected:
        raise RunError(
            f"stage {name}: {expected} rows went in, {kept} were kept and {refused} refused: rows are missing"
        )


def check_refused(name: str, refused: Sequence[Refused], total: int, most: float) -> None:
    """Not too many rows are refused.

    Raises:
        RunError: more than the share `most` of `total` rows is.
    """
    if len(refused) <= most * total:
        return
    counts = Counter(row.reason for row in refused).most_common(4)
    kinds = ", ".join(f"{count} {reason}" for reason, count in counts)
    raise RunError(
        f"stage {name}: {len(refused)} of {total} rows refused ({kinds}), more than max_refused_fraction {most:g} "
        f"allows; the last: {refused[-1].detail}. Mend the cause or raise the setting, then run the same command again"
    )
