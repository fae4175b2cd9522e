"""Tiny students and a stage to train them in."""

import os

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from pathlib import Path

import pytest
import torch
from student_support import ROWS, PlainStage

from tapir.testing import tiny_student

torch.set_num_threads(1)  # more threads than free cores wait for each other


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained two-layer Llama."""
    texts = [row.instruction + row.response for row in ROWS]
    return tiny_student(tmp_path_factory.mktemp("llama"), "llama", texts=texts, hidden_size=32, context=256)


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained two-layer Qwen2 whose query heads share key heads."""
    texts = [row.instruction + row.response for row in ROWS]
    directory = tmp_path_factory.mktemp("qwen")
    return tiny_student(directory, "qwen2", texts=texts, hidden_size=32, kv_heads=2, context=256)


@pytest.fixture
def stage(tmp_path: Path) -> PlainStage:
    """A stage with an empty working directory."""
    return PlainStage(tmp_path / "work")
