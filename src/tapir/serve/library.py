"""The runs that are served: found by scanning, opened by name, re-read when they have changed."""

import threading
from dataclasses import dataclass
from pathlib import Path

from tapir.errors import ResumeError, RunError
from tapir.report.difficulty import Judgements, read_judgements
from tapir.report.model import Report, read_report
from tapir.report.reading import RunFiles
from tapir.serve.sheets import Sheet, Shelf
from tapir.status import Status, read_status


@dataclass(frozen=True)
class Source:
    """A pile of rows that can be looked through."""

    key: str
    """Its name in addresses: `00-judge`, `00-corpus:refused`, `mixture-1`."""
    title: str
    path: Path
    rows: int
    kind: str
    """`rows`, `refused` or `mixture`."""


class OpenRun:
    """One run: what it is now, its report as last worked out, and its sheets."""

    def __init__(self, directory: Path, shelf: Shelf) -> None:
        self.directory = directory
        self.name = directory.name
        self._shelf = shelf
        self._report: tuple[str, Report] | None = None
        self._status: tuple[str, Status] | None = None
        self._judgements: tuple[str, Judgements | None] | None = None
        self._reading = threading.Lock()

    def files(self) -> RunFiles:
        """The run as it is now."""
        return RunFiles(self.directory)

    def status(self) -> Status:
        """State and results, worked out once a version."""
        version = self.files().version
        if self._status is None or self._status[0] != version:
            self._status = version, read_status(self.directory)
        return self._status[1]

    def judgements(self) -> Judgements | None:
        """The judged rows as numbers; None before the judge is done."""
        run = self.files()
        stages = [one for one in (run.stage("judge"), run.stage("label")) if one]
        key = "|".join(one.key for one in stages)
        if self._judgements is None or self._judgements[0] != key:
            self._judgements = key, read_judgements(run)
        return self._judgements[1]

    def report(self) -> tuple[str, Report]:
        """The version of the run and its report; worked out once a version, by one thread at a time.

        While a newer one is being worked out, or cannot be because the run is just replacing a stage, the older one is
        given.
        """
        version = self.files().version
        known = self._report
        if known is not None and (known[0] == version or not self._reading.acquire(blocking=False)):
            return known
        if known is None:
            self._reading.acquire()
        try:
            if self._report is None or self._report[0] != version:
                self._report = version, read_report(self.directory)
            return self._report
        except RunError:
            if known is None:
                raise
            return known
        finally:
            self._reading.release()

    def sources(self) -> list[Source]:
        """Every pile of rows that is whole."""
        run = self.files()
        found: list[Source] = []
        for stage in run.stages:
            if stage.kept and stage.row_type:
                path = stage.directory / "rows.parquet"
                found.append(Source(stage.label, stage.title, path, stage.kept, "rows"))
            if stage.refused:
                path = stage.directory / "refused.parquet"
                found.append(
                    Source(f"{stage.label}:refused", stage.title, path, sum(stage.refused.values()), "refused")
                )
            if stage.name == "mix":
                path = self.directory / "data" / f"round-{stage.round}.parquet"
                if path.is_file():
                    size = int(stage.notes.get("size", 0))
                    found.append(
                        Source(f"mixture-{stage.round}", f"round {stage.round}: mixture", path, size, "mixture")
                    )
        return [one for one in found if self._is_inside(one.path)]

    def source(self, key: str) -> Source | None:
        """The pile of rows with this name."""
        return next((one for one in self.sources() if one.key == key), None)

    def sheet(self, source: Source) -> Sheet:
        """The rows of a source."""
        return self._shelf.open(source.path)

    def _is_inside(self, path: Path) -> bool:
        """Whether a file lies in the run directory, links resolved: nothing else is read."""
        return path.resolve().is_relative_to(self.directory.resolve())


class Library:
    """All runs below a path: the run itself, or every run directory in it."""

    def __init__(self, path: Path) -> None:
        """Raises:
        ResumeError: there is no run.
        """
        self.path = path.resolve()
        self._shelf = Shelf()
        self._open: dict[Path, OpenRun] = {}
        self.is_single = (self.path / "manifest.json").is_file()
        if not self.runs():
            raise ResumeError(f"{path}: holds no run (no manifest.json); start one with `tapir run CONFIG`")

    def runs(self) -> list[OpenRun]:
        """The runs there are now, by name."""
        places = [self.path] if self.is_single else sorted(path.parent for path in self.path.glob("*/manifest.json"))
        return [self._open.setdefault(place, OpenRun(place, self._shelf)) for place in places]

    def run(self, name: str) -> OpenRun:
        """The run of this name.

        Raises:
            RunError: there is none; a name is looked up, never made into a path.
        """
        found = next((one for one in self.runs() if one.name == name), None)
        if found is None:
            raise RunError(f"there is no run {name!r} here")
        return found
