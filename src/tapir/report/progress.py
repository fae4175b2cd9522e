"""How far a run is, kept on disk while it goes: what lets a page in another process show it live."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tapir.store.files import read_json
from tapir.store.step import Observer

FILE = "progress.json"
EVERY_S = 1.0
LINES = 20


@dataclass
class _Course:
    started: float
    done: float = 0.0
    total: float | None = None
    refused: int = 0
    text: str = ""


@dataclass
class _Progress:
    time: float
    stages: dict[str, _Course] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


class ProgressFile:
    """An observer that passes everything on, and keeps RUN/progress.json up to date, at most once a second."""

    def __init__(self, observer: Observer, directory: Path) -> None:
        self._observer = observer
        self._path = directory / FILE
        self._now = _Progress(time.time())
        self._written = 0.0

    def started(self, stage: str, total: float | None) -> None:
        """A stage begins."""
        self._now.stages[stage] = _Course(time.time(), total=total)
        self._write(at_once=True)
        self._observer.started(stage, total)

    def advanced(self, stage: str, done: float, total: float | None, refused: int, text: str) -> None:
        """A stage has come so far."""
        course = self._now.stages.get(stage)
        if course is not None:
            course.done, course.total, course.refused, course.text = done, total, refused, text
            self._write()
        self._observer.advanced(stage, done, total, refused, text)

    def finished(self, stage: str, record: dict[str, Any], *, is_replayed: bool) -> None:
        """A stage is whole."""
        self._now.stages.pop(stage, None)
        self._write(at_once=not is_replayed)
        self._observer.finished(stage, record, is_replayed=is_replayed)

    def said(self, text: str) -> None:
        """A line for the user."""
        self._now.said = [*self._now.said[1 - LINES :], text]
        self._write(at_once=True)
        self._observer.said(text)

    def _write(self, *, at_once: bool = False) -> None:
        now = time.time()
        if not at_once and now - self._written < EVERY_S:
            return
        self._written = self._now.time = now
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f"{FILE}.part")
        part.write_bytes(msgspec.json.encode(self._now))
        part.replace(self._path)


@dataclass(frozen=True)
class Course:
    """A stage at work."""

    stage: str
    started: float
    done: float
    total: float | None
    refused: int
    text: str
    seconds: float
    """Since it began, up to the last word from the run."""

    @property
    def rate(self) -> float:
        """Rows, or steps, a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until it is done at this rate; None where that cannot be told."""
        if self.total is None or not self.rate:
            return None
        return max(0.0, self.total - self.done) / self.rate


def read_progress(directory: Path) -> tuple[list[Course], list[str]]:
    """The stages at work and the latest lines, as the run last told; empty where it tells nothing."""
    told = read_json(directory / FILE)
    if told is None:
        return [], []
    time_ = float(told["time"])
    courses = [
        Course(
            stage=str(name),
            started=float(one["started"]),
            done=float(one["done"]),
            total=None if one["total"] is None else float(one["total"]),
            refused=int(one["refused"]),
            text=str(one["text"]),
            seconds=time_ - float(one["started"]),
        )
        for name, one in told["stages"].items()
    ]
    return courses, [str(line) for line in told["said"]]
