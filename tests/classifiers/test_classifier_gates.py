"""What the shipped heads must reach on the development split, which they were not trained on."""

import json
from collections import defaultdict

import pytest

from tapir.classifiers.embedding import has_bundled
from tapir.classifiers.evaluate import Evaluation, evaluate_classifier
from tapir.classifiers.local import LocalClassifier
from tapir.classifiers.train import Tagged, seeds
from tapir.config import LocalClassifierConfig
from tapir.tasks import Task

from classifier_support import shared_data  # isort: skip

LABELS = shared_data() / "task_labels_train.jsonl"
pytestmark = pytest.mark.skipif(not LABELS.exists(), reason=f"{LABELS} is not there")


def development() -> list[Tagged]:
    rows = [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]
    return [
        Tagged(instruction=row["instruction"], task=Task(row["task"]), source=row["source"])
        for row in rows
        if row["split"] == "dev"
    ]


async def measured(encoder: str) -> Evaluation:
    return await evaluate_classifier(LocalClassifier(LocalClassifierConfig(encoder=encoder)), development())


async def test_n_grams_alone() -> None:
    found = await measured("none")
    assert found.accuracy >= 0.64
    assert found.macro_f1 >= 0.64
    assert found.sources["alpaca-llm-label"][1] >= 0.55


@pytest.mark.skipif(not has_bundled(), reason="needs the extra embed")
async def test_with_embeddings() -> None:
    found = await measured("auto")
    assert found.accuracy >= 0.74
    assert found.macro_f1 >= 0.74
    assert found.sources["alpaca-llm-label"][1] >= 0.65
    assert found.tasks[Task.MATH].recall >= 0.85
    assert found.tasks[Task.CODE_GENERATION].recall >= 0.80
    assert found.tasks[Task.CODE_DEBUG].recall >= 0.80
    assert found.tasks[Task.REASONING].recall >= 0.60


def test_no_seed_repeats_a_row_of_the_development_split() -> None:
    """Apart from short questions that any two people would ask in the same words."""
    words = defaultdict(set)
    for row in development():
        if row.source != "seed_templates":
            words[frozenset(row.instruction.lower().split())].add(row.instruction)
    repeated = [row.instruction for row in seeds() if frozenset(row.instruction.lower().split()) in words]
    assert repeated == []
