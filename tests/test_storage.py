"""A file that cannot be written is told from a defect, whichever library says so."""

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tapir.config import parse_config
from tapir.errors import ResumeError
from tapir.evaluation.command import evaluate_student
from tapir.status import read_status
from tapir.storage import write_error
from tapir.store import RunStore
from test_config import tree
from test_store import Quiet


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/a/b"),
            "/a/b: cannot be written (No space left on device); make room there, then run the same command again",
        ),
        (
            RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "a file: cannot be written (Error while serializing: I/O error: No space left on device (os error 28)); "
            "make room there, then run the same command again",
        ),
        (
            sqlite3.OperationalError("attempt to write a readonly database"),
            "a file: cannot be written (attempt to write a readonly database); give a place that can be written, "
            "then run the same command again",
        ),
    ],
)
def test_what_cannot_be_written_is_named_with_the_next_step(error: Exception, message: str) -> None:
    assert str(write_error(error)) == message


@pytest.mark.parametrize("error", [ValueError("no space"), KeyError("x"), OSError("odd"), OSError(errno.EBADF, "bad")])
def test_defects_are_no_refusals_to_write(error: Exception) -> None:
    assert write_error(error) is None


def test_a_place_for_runs_that_cannot_be_ends_the_command_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    (tmp_path / "my.yaml").write_text(
        "{name: t, runs: file, corpus: {path: world}, student: {model: world}, teacher: {kind: world}, "
        "judge: {kind: world}}"
    )
    done = subprocess.run(
        [sys.executable, "-m", "tapir", "run", "my.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 6
    assert done.stderr.splitlines()[-1].startswith("error: file/t: cannot be written (Not a directory); check the path")
    assert "Traceback" not in done.stderr


def test_output_in_a_locale_without_utf_8_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"instruction": "Wo?", "output": "Là →"}\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tapir", "check", "d.jsonl"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert "1 rows read, 1 accepted" in done.stdout


async def test_a_run_that_was_moved_is_evaluated_where_it_is_now(tmp_path: Path) -> None:
    cfg = parse_config(tree(runs=str(tmp_path)), "test")
    async with RunStore(cfg.directory, Quiet()) as run:
        run.write_manifest(cfg.model_dump(mode="json"), {})
    moved = cfg.directory.rename(tmp_path / "moved")
    with pytest.raises(ResumeError, match=f"^{moved}: has no student yet"):
        evaluate_student(moved)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"config": 5}', '{"config": {"name": "t"}}'])
def test_a_damaged_manifest_is_named_with_the_next_step(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ResumeError, match=r"manifest\.json: is damaged; run `tapir run CONFIG` once more to write it"):
        read_status(tmp_path)
