"""What `tapir run` shows: a calm live panel on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from tapir.store.step import Observer

PLAIN_EVERY_S = 10.0


class RunView(Observer, Protocol):
    """An observer that is shown while the run goes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def duration(seconds: float) -> str:
    """Seconds as a person writes them: 8.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def finished_line(stage: str, record: dict[str, Any], *, is_replayed: bool) -> str:
    """One line on a whole stage."""
    if is_replayed:
        return f"{stage}: as before ({record['kept']} rows)"
    refused = sum(record["refused"].values())
    losses = ", ".join(f"{count} {reason}" for reason, count in sorted(record["refused"].items()))
    lost = f", {refused} refused ({losses})" if refused else ""
    return f"{stage}: {record['kept']} of {record['rows_in']} rows{lost}, {duration(record['seconds'])}"


class _Rate(ProgressColumn):
    """Rows a second and the time left."""

    def render(self, task: Task) -> Text:
        speed = task.speed or 0.0
        left = f", {duration(task.time_remaining)} left" if task.time_remaining else ""
        return Text(f"{speed:,.0f}/s{left}" if speed else "", style="cyan")


class LiveView:
    """Progress bars for the stages at work, a line for each that is whole."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            _Rate(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, stage: str, total: float | None) -> None:
        """Show a bar for the stage."""
        self._tasks[stage] = self._progress.add_task(escape(stage), total=total or 0, text="")

    def advanced(self, stage: str, done: float, total: float | None, refused: int, text: str) -> None:
        """Move the stage's bar."""
        if stage in self._tasks:
            note = f"{refused} refused" if refused and not text else text
            self._progress.update(self._tasks[stage], completed=done, total=total or 0, text=escape(note))

    def finished(self, stage: str, record: dict[str, Any], *, is_replayed: bool) -> None:
        """Replace the bar by a line."""
        task = self._tasks.pop(stage, None)
        if task is not None:
            self._progress.remove_task(task)
        style = "dim" if is_replayed else "green"
        line = finished_line(stage, record, is_replayed=is_replayed)
        self._progress.console.print(f"[{style}]✓[/] {escape(line)}", highlight=False)

    def said(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(escape(text), highlight=False)


class PlainView:
    """Lines for a log file: a stage's start and end, and a sign of life in between."""

    def __init__(self, file: TextIO | None = None) -> None:
        """`file`: where the lines go; None: to standard output."""
        self._file = file
        self._last: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def started(self, stage: str, total: float | None) -> None:
        """Say that the stage begins."""
        self._started[stage] = self._last[stage] = time.monotonic()
        self.said(f"{stage}: started" + (f", {total:,.0f} rows" if total else ""))

    def advanced(self, stage: str, done: float, total: float | None, refused: int, text: str) -> None:
        """Say how far the stage is, now and then."""
        now = time.monotonic()
        if stage not in self._last or now - self._last[stage] < PLAIN_EVERY_S:
            return
        self._last[stage] = now
        speed = done / (now - self._started[stage])
        left = f", {duration((total - done) / speed)} left" if total and speed else ""
        self.said(f"{stage}: {done:,.0f} of {total or 0:,.0f}, {speed:,.1f}/s{left} {text}".rstrip())

    def finished(self, stage: str, record: dict[str, Any], *, is_replayed: bool) -> None:
        """Say what came of the stage."""
        self.said(finished_line(stage, record, is_replayed=is_replayed))

    def said(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._file, flush=True)


def view(*, is_quiet: bool = False, is_aside: bool = False) -> RunView:
    """The view that fits where the output goes; `is_aside`: to standard error, because the output is for machines."""
    if is_aside:
        return PlainView(sys.stderr)
    console = Console()
    if is_quiet or not sys.stdout.isatty() or console.is_dumb_terminal:
        return PlainView()
    return LiveView(console)
