"""The paper's kind of classifier, with a tiny random encoder."""

from pathlib import Path

import msgspec
import pytest

from tapir.classifiers.encoder import EncoderClassifier, FineTuning, fine_tune
from tapir.classifiers.tag import classifier_for, fine_tune_file
from tapir.classifiers.train import Tagged
from tapir.config import EncoderClassifierConfig
from tapir.errors import ConfigError
from tapir.rows import Label, Refused

from classifier_support import TINY_ROWS, Noting, examples  # isort: skip

TINY = [Tagged(instruction=text, task=task) for task, text in TINY_ROWS]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers of 32 units with random weights, and a tokenizer over the rows' words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    home = tmp_path_factory.mktemp("tiny-bert")
    words = sorted(
        {word for row in TINY for word in row.instruction.lower().replace("?", " ?").replace(".", " .").split()}
    )
    pieces = [
        *words,
        *"abcdefghijklmnopqrstuvwxyz0123456789+*-%=?.",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"),
    ]
    vocabulary = {
        piece: i for i, piece in enumerate(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]))
    }
    BertTokenizer(vocab=vocabulary).save_pretrained(home)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(home)
    return home


@pytest.fixture(scope="module")
def tuned(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned")
    fine_tune(TINY, str(encoder), out, FineTuning(epochs=60, learning_rate=3e-3, batch_size=4))
    return out


async def test_a_fine_tuned_encoder_labels_the_rows_it_has_seen_in_their_order(tuned: Path) -> None:
    classifier = EncoderClassifier(EncoderClassifierConfig(kind="deberta", model=str(tuned), batch_size=3))
    rows = examples([row.instruction for row in TINY])
    found = [one async for one in classifier.label(Noting(), rows)]
    assert [one.id for one in found] == [row.id for row in rows]
    assert [one.task for one in found if isinstance(one, Label)] == [row.task for row in TINY]
    assert all(0 <= one.margin <= one.score <= 1 for one in found if isinstance(one, Label))


async def test_a_row_without_text_is_refused(tuned: Path) -> None:
    classifier = EncoderClassifier(EncoderClassifierConfig(kind="deberta", model=str(tuned)))
    (found,) = [one async for one in classifier.label(Noting(), examples([" "]))]
    assert isinstance(found, Refused)


def test_fine_tuning_twice_gives_the_same_weights(encoder: Path, tmp_path: Path) -> None:
    settings = FineTuning(epochs=2, batch_size=4, seed=5)
    for name in ("a", "b"):
        fine_tune(TINY, str(encoder), tmp_path / name, settings)
    kind = {"kind": "deberta"}
    first, second = (EncoderClassifier(EncoderClassifierConfig(**kind, model=str(tmp_path / n))) for n in ("a", "b"))
    assert first.identity("label") == second.identity("label")


def test_classes_that_are_no_task_types_are_a_configuration_error(encoder: Path, tmp_path: Path) -> None:
    import json

    fine_tune(TINY, str(encoder), tmp_path, FineTuning(epochs=1))
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"id2label": {"0": "good", "1": "bad"}}))
    with pytest.raises(ConfigError, match="no task types"):
        _ = EncoderClassifier(EncoderClassifierConfig(kind="deberta", model=str(tmp_path))).tasks


def test_one_task_type_trains_no_classifier(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two types"):
        fine_tune(TINY[:4], str(encoder), tmp_path)


def test_a_model_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="no/such-model"):
        fine_tune(TINY, "no/such-model", tmp_path)


def test_the_command_fine_tunes_and_finds_the_encoder_again(encoder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"\n".join(msgspec.json.encode(row) for row in TINY))
    fine_tune_file(rows, tmp_path / "out", str(encoder), with_seeds=False)
    assert isinstance(classifier_for(tmp_path / "out"), EncoderClassifier)
