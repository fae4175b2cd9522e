"""How far a run is, told to other processes."""

from pathlib import Path

import pytest
from sample_run import Quiet

from tapir.report.progress import FILE, ProgressFile, read_progress


class Heard(Quiet):
    """Counts what is passed on."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def started(self, stage: str, total: float | None) -> None:
        self.calls.append("started")

    def advanced(self, stage: str, done: float, total: float | None, refused: int, text: str) -> None:
        self.calls.append("advanced")

    def finished(self, stage: str, record: dict[str, object], *, is_replayed: bool) -> None:
        self.calls.append("finished")

    def said(self, text: str) -> None:
        self.calls.append("said")


def test_nothing_told_is_nothing_read(tmp_path: Path) -> None:
    assert read_progress(tmp_path) == ([], [])


def test_progress_is_told_and_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("tapir.report.progress.time.time", lambda: clock[0])
    heard = Heard()
    told = ProgressFile(heard, tmp_path / "run")
    told.started("judge", 100)
    clock[0] += 10
    told.advanced("judge", 40, 100, 2, "")
    told.said("a line")
    (course,), said = read_progress(tmp_path / "run")
    assert (course.stage, course.done, course.total, course.refused, course.seconds) == ("judge", 40, 100, 2, 10)
    assert course.rate == 4
    assert course.left_s == 15
    assert said == ["a line"]
    told.finished("judge", {}, is_replayed=False)
    assert read_progress(tmp_path / "run")[0] == []
    assert heard.calls == ["started", "advanced", "said", "finished"]


def test_progress_is_written_once_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("tapir.report.progress.time.time", lambda: clock[0])
    told = ProgressFile(Quiet(), tmp_path)
    told.started("judge", None)
    before = (tmp_path / FILE).read_bytes()
    clock[0] += 0.5
    told.advanced("judge", 1, None, 0, "")
    assert (tmp_path / FILE).read_bytes() == before
    clock[0] += 0.6
    told.advanced("judge", 2, None, 0, "")
    (course,), _ = read_progress(tmp_path)
    assert course.done == 2
    assert course.left_s is None
