"""The paper's classifier end to end: a DeBERTa of random weights, fine-tuned by the command, labelling in a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from tapir.algorithm import distill
from tapir.build import open_roles
from tapir.classifiers.encoder import EncoderClassifier
from tapir.classifiers.tag_cli import tag
from tapir.config import RunConfig, parse_config
from tapir.evaluation.evaluator import SetEvaluator
from tapir.presets import preset_text
from tapir.rows import Label, Labelled
from tapir.store import RunStore
from tapir.store.files import read_json, read_rows
from tapir.tasks import Task
from tapir.testing import TinyStudent
from tapir.world.roles import WorldCorpus

app = typer.Typer()
app.command()(tag)
KINDS = {Task.MATH: "Work out the sum of {} and {}.", Task.WRITING: "Write a poem on {} and {}."}
COUNT = 40


class Quiet:
    """An observer that shows nothing."""

    def started(self, *_: object) -> None: ...

    def advanced(self, *_: object) -> None: ...

    def finished(self, *_: object, **__: object) -> None: ...

    def said(self, *_: object) -> None: ...


def tapir_tag(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def deberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DeBERTa-v2 (the architecture of v3) of one layer of 32 units, and a tokenizer of words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import DebertaV2Config, DebertaV2Model, PreTrainedTokenizerFast

    home = tmp_path_factory.mktemp("deberta")
    words = [*"0123456789.", *{word for kind in KINDS.values() for word in kind.replace(".", "").split()}]
    vocabulary = {word: at for at, word in enumerate(dict.fromkeys(["[PAD]", "[UNK]", *sorted(words)]))}
    pieces = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)])
    PreTrainedTokenizerFast(tokenizer_object=pieces, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(home)
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        relative_attention=True, position_biased_input=False, pos_att_type=["p2c", "c2p"], max_position_embeddings=64,
    )  # fmt: skip
    DebertaV2Model(config).save_pretrained(home)
    return home


@pytest.fixture(scope="module")
def tuned(deberta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder that `tapir tag --train --model` makes of it."""
    from tapir.classifiers import encoder

    home = tmp_path_factory.mktemp("tuned")
    rows = [{"instruction": text.format(n, n + 1), "task": task} for task, text in KINDS.items() for n in range(COUNT)]
    (home / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.MonkeyPatch.context() as patch:  # random weights have further to go than pretrained ones
        quick = encoder.FineTuning(epochs=12, learning_rate=5e-3, batch_size=16)
        patch.setattr(encoder, "FineTuning", lambda: quick)
        shown = tapir_tag("--train", home / "rows.jsonl", "--no-seeds", "--model", deberta, "--out", home / "out")
    assert "tasks.classifier: {kind: deberta, model:" in shown
    return home / "out"


def test_the_command_labels_and_measures_with_it(tuned: Path, tmp_path: Path) -> None:
    unseen = [{"instruction": text.format(90 + n, n), "task": task} for task, text in KINDS.items() for n in range(5)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row | {"output": "Yes."}) for row in unseen))
    found = json.loads(tapir_tag(tmp_path / "rows.jsonl", "--model", tuned, "--json"))
    assert (found["rows"], found["tasks"]) == (10, {"Math": 5, "Writing": 5})
    assert tapir_tag("--eval", tmp_path / "rows.jsonl", "--model", tuned).startswith("10 rows: accuracy 1.000")


def config(tmp_path: Path, model: Path) -> RunConfig:
    tree = yaml.safe_load(preset_text("world")) | {"runs": str(tmp_path), "compare": []}
    tree["tasks"] = {"classifier": {"kind": "deberta", "model": str(model)}}
    tree["curriculum"] = {"rounds": 1, "tokens_per_round": 3000}
    tree["expand"] = {"new_per_round": 20}
    return parse_config(tree, "test")


async def go(cfg: RunConfig) -> int:
    async with RunStore(cfg.directory, Quiet()) as run, open_roles(cfg, print) as roles:
        assert isinstance(roles.classifier, EncoderClassifier)
        student = TinyStudent()
        evaluator = SetEvaluator([], student, roles.judge)
        small = replace(roles, corpus=WorldCorpus(0, COUNT), student=student, evaluator=evaluator)
        await distill(cfg, small, run)
        return run.stages_run


async def test_a_run_labels_with_it_and_replays(tuned: Path, tmp_path: Path) -> None:
    cfg = config(tmp_path, tuned)
    assert await go(cfg) > 0
    stage = cfg.directory / "stages" / "00-label"
    record = read_json(stage / "stage.json")
    assert record is not None and record["recipe"]["role"]["kind"] == "deberta"
    labels = list(read_rows(stage / "rows.parquet", Label))
    assert len(labels) == COUNT
    assert {label.task for label in labels} <= set(KINDS)
    seeds = list(read_rows(cfg.directory / "stages" / "00-select" / "rows.parquet", Labelled))
    by_id = {label.id: label.task for label in labels}
    assert seeds and all(seed.task is by_id[seed.id] for seed in seeds)
    assert await go(cfg) == 0
