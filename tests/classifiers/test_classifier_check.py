"""What the shipped heads must reach on prompts that the project wrote before it looked at any label of theirs."""

from pathlib import Path

import pytest

from tapir.classifiers.embedding import has_bundled
from tapir.classifiers.evaluate import evaluate_classifier
from tapir.classifiers.local import LocalClassifier
from tapir.classifiers.train import read_tagged, seeds
from tapir.config import LocalClassifierConfig
from tapir.tasks import Task

CHECK = read_tagged(Path(__file__).parents[1] / "data" / "task_labels_check.jsonl")


def test_the_check_rows_cover_every_task_and_none_is_a_seed() -> None:
    assert {row.task for row in CHECK} == set(Task)
    words = {" ".join(row.instruction.lower().split()) for row in seeds()}
    assert [row.instruction for row in CHECK if " ".join(row.instruction.lower().split()) in words] == []


@pytest.mark.parametrize(
    ("encoder", "least"),
    [
        ("none", 0.87),
        pytest.param("auto", 0.92, marks=pytest.mark.skipif(not has_bundled(), reason="needs the extra embed")),
    ],
)
async def test_check_rows_get_their_task(encoder: str, least: float) -> None:
    found = await evaluate_classifier(LocalClassifier(LocalClassifierConfig(encoder=encoder)), CHECK)
    assert found.accuracy >= least
    for task in (Task.MATH, Task.REASONING, Task.CODE_GENERATION, Task.CODE_DEBUG):
        assert found.tasks[task].recall >= 0.7
