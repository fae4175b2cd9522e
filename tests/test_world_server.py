"""The whole loop over real endpoints gives what it gives in process, also when calls fail."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tapir.algorithm import distill
from tapir.build import open_roles
from tapir.config import RunConfig, apply_override, parse_config
from tapir.evaluation.evaluator import SetEvaluator
from tapir.rows import Checkpoint, Draft, Labelled, Lesson
from tapir.store import RunStore
from tapir.store.files import read_rows
from tapir.testing import TinyStudent, WorldServer
from tapir.world.roles import WorldCorpus
from test_store import Quiet

EXAMPLES = Path(__file__).parent.parent / "examples"


def config(tmp_path: Path, *settings: str) -> RunConfig:
    tree = yaml.safe_load((EXAMPLES / "world-endpoint.yaml").read_text())
    for setting in (f"runs={tmp_path}", "expand.new_per_round=60", "curriculum.tokens_per_round=4000", *settings):
        apply_override(tree, setting)
    return parse_config(tree, "examples/world-endpoint.yaml")


async def go(cfg: RunConfig) -> Checkpoint:
    async with RunStore(cfg.directory, Quiet()) as run, open_roles(cfg, print) as roles:
        student = TinyStudent()
        small = replace(
            roles, corpus=WorldCorpus(0, 200), student=student, evaluator=SetEvaluator([], student, roles.judge)
        )
        return await distill(cfg, small, run)


def kept(cfg: RunConfig) -> dict[str, Sequence[Any]]:
    """What the run decided and wrote, without the names of who wrote it."""
    stages = cfg.directory / "stages"
    seeds = read_rows(stages / "00-select/rows.parquet", Labelled)
    drafts = read_rows(stages / "01-admit/rows.parquet", Draft)
    lessons = read_rows(cfg.directory / "data/round-1.parquet", Lesson)
    return {
        "seeds": [(row.id, row.teacher_score, row.student_score) for row in seeds],
        "drafts": [(row.id, row.lineage.parents) for row in drafts],
        "training set": [(row.id, row.response, row.task, row.is_hard) for row in lessons],
    }


@pytest.mark.parametrize("faults", [0.0, 0.05])
async def test_endpoints_give_the_same_seeds_and_the_same_data(tmp_path: Path, faults: float) -> None:
    inside = config(tmp_path / "inside", "teacher={kind: world}", "judge={kind: world}")
    await go(inside)
    with WorldServer(faults=faults) as server:
        outside = config(
            tmp_path / "outside",
            f"teacher.endpoint.base_url={server.base_url}",
            f"judge.endpoint.base_url={server.base_url}",
        )
        await go(outside)
        paid = sum(server.asked.values())
        await go(outside)
        assert sum(server.asked.values()) == paid, "a second run asks nothing"
    found = kept(inside)
    assert found["seeds"] and found["drafts"]
    assert kept(outside) == found
