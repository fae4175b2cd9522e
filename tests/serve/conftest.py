"""Runs behind the guarded application, asked without a network."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from browsing import browser  # noqa: F401
from sample_run import Sample, leave, made, make_run
from serve_support import ATTACKS, ORIGIN, PORT, TOKEN
from starlette.testclient import TestClient

from tapir.serve import guarded
from tapir.serve.library import Library


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, `one` with hostile and planted rows; not to be changed."""
    home = tmp_path_factory.mktemp("runs")
    target = {"Math": 0.3, "Reasoning": 0.2, "Law": 0.3, "Grammar": 0.1, "Code Debug": 0.1, "Sport": 0.1}
    for name, sample, changes in (
        (
            "one",
            Sample(rows=400, new=60, rounds=2, done=2, per_cell=2, arms=("sft",), planted=ATTACKS),
            {"tasks": {"classifier": {"kind": "world"}, "target": target}},
        ),
        ("two", Sample(rows=120, new=20, rounds=1, done=1, per_cell=2, arms=()), {"difficulty": {"threshold": 3}}),
    ):
        leave(made(make_run(home, sample, name=name, **changes)))
    return home


@pytest.fixture
def own_runs(runs: Path, tmp_path: Path) -> Path:
    """A copy of the runs, to be changed."""
    return Path(shutil.copytree(runs, tmp_path / "own"))


@pytest.fixture(scope="session")
def library(runs: Path) -> Library:
    return Library(runs)


@pytest.fixture
def client(library: Library) -> Iterator[TestClient]:
    """A browser of this machine."""
    app = guarded(library, "127.0.0.1", PORT, TOKEN)
    with TestClient(app, base_url=ORIGIN, raise_server_exceptions=True) as found:
        yield found
