"""The command line as a user meets it: help, mistakes, and a run from start to report."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tapir.presets import preset_text

ROOT = Path(__file__).parent.parent


def tapir(*words: str | Path, cwd: Path | None = None, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tapir", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def test_help_names_every_command() -> None:
    done = tapir("--help")
    assert done.returncode == 0
    for name in ("init", "check", "run", "status", "report", "export", "evaluate", "serve", "tag", "score", "ledger"):
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE), name


def test_neither_import_nor_help_loads_what_is_heavy() -> None:
    heavy = ("torch", "transformers", "pyarrow", "aiohttp", "numpy", "pydantic")
    code = f"import sys, tapir, tapir.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "none.yaml"), 2, "none.yaml: cannot be read"),
        (("run",), 2, "Missing argument"),
        (("run", "x.yaml", "--fast"), 2, "No such option"),
        (("status", "nowhere"), 7, "is no run directory"),
        (("report", "nowhere"), 7, "is no run directory"),
        (("export", "nowhere"), 7, "is no run directory"),
        (("check", "none.jsonl"), 2, "none.jsonl"),
        (("init", "x.yaml", "--preset", "fast"), 2, "is not one of"),
        (("evaluate", "nowhere"), 7, "is no run directory"),
    ],
)
def test_a_users_mistake_ends_in_one_line_and_a_code(
    tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    done = tapir(*words, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert message in done.stderr


def test_init_then_check_the_world(tmp_path: Path) -> None:
    assert tapir("init", "my.yaml", "--preset", "world", cwd=tmp_path).returncode == 0
    done = tapir("check", "my.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["is_ready"] and found["rows"] == 3000 and found["total"]["calls"] == 0
    assert found["evaluation_items"] == 1600
    assert not (tmp_path / "runs" / "demo").exists()


def test_check_names_a_missing_key_and_spends_nothing(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"instruction": "Name a colour.", "output": "Blue."}\n' * 3)
    text = preset_text("paper").replace("hub:tatsu-lab/alpaca", "data.jsonl").replace("path/or/hub-id", "world")
    (tmp_path / "my.yaml").write_text(text.replace("OPENAI_API_KEY", "NO_SUCH_KEY"))
    done = tapir("check", "my.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert any("NO_SUCH_KEY is not set" in problem for problem in found["problems"])
    assert found["refused"] == {"duplicate": 2}


def test_check_tells_what_a_data_file_holds(tmp_path: Path) -> None:
    lines = ['{"instruction": "Name a colour.", "output": "Blue."}', '{"instruction": "", "output": "x"}', "{broken"]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    found = json.loads(tapir("check", "data.jsonl", "--json", cwd=tmp_path).stdout)
    assert (found["rows"], found["accepted"]) == (3, 1)
    assert sum(kind["count"] for kind in found["refused"].values()) == 2


@pytest.mark.slow
def test_a_small_world_runs_from_start_to_report(tmp_path: Path) -> None:
    small = ["curriculum.tokens_per_round=6000", "curriculum.rounds=1", "student.train.warmup_epochs=0.2"]
    small += ["expand.new_per_round=60", "compare=[sft]", "compare_processes=1", "student.generation.max_new_tokens=12"]
    words = [word for setting in small for word in ("--set", setting)]
    tapir("init", "my.yaml", "--preset", "world", cwd=tmp_path)
    first = tapir("run", "my.yaml", *words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr + first.stdout
    assert (tmp_path / "runs/demo/report.html").stat().st_size > 10_000
    second = tapir("run", "my.yaml", *words, cwd=tmp_path)
    assert "nothing to do" in second.stdout
    found = json.loads(tapir("status", "runs/demo", "--json", cwd=tmp_path).stdout)
    assert found["is_finished"]
    assert set(found["evaluation"]) == {"s0", "tapir-1", "tapir", "sft"}
    assert set(found["evaluation"]["tapir"]) >= {"all", "easy", "hard", "core", "d_like"}
    out = tapir("export", "runs/demo", "--round", "1", "--format", "alpaca", cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert list((tmp_path / "runs/demo/export").iterdir())
