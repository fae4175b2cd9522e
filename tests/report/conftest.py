"""Runs to report on, made once: by roles in memory, and by hand from the embedded world's texts."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from browsing import browser  # noqa: F401
from sample_run import Quiet, Sample, leave, made, make_run, memory_config

from memory_roles import memory_roles
from tapir.algorithm import distill
from tapir.store import RunStore


async def run_memory(runs: Path) -> Path:
    """A whole run of roles in memory."""
    cfg = memory_config(runs)
    async with RunStore(cfg.directory, Quiet()) as run:
        run.write_manifest(cfg.model_dump(mode="json"), {"python": "3.11"})
        await distill(cfg, memory_roles(), run)
    leave(cfg.directory)
    return cfg.directory


@pytest.fixture(scope="session")
def memory_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of roles in memory; not to be changed."""
    return made(run_memory(tmp_path_factory.mktemp("memory")))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with rivals, refusals and both orders judged; not to be changed."""
    run = made(make_run(tmp_path_factory.mktemp("sample"), Sample()))
    leave(run)
    return run


@pytest.fixture
def own_sample(sample: Path, tmp_path: Path) -> Path:
    """A copy of the sample run, to be changed."""
    return Path(shutil.copytree(sample, tmp_path / "own"))
