"""`tapir tag`."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tapir.classifiers.heads import load_heads
from tapir.classifiers.tag_cli import tag
from tapir.errors import ConfigError, DataError
from tapir.rows import turns_id, user_turn

from classifier_support import TINY_ROWS  # isort: skip

app = typer.Typer()
app.command()(tag)


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "labelled.jsonl"
    lines = [json.dumps({"instruction": text, "task": task, "source": "tiny"}) for task, text in TINY_ROWS]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    rows = [{"instruction": text, "input": "", "output": "An answer."} for _, text in TINY_ROWS]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_data_set_is_labelled_and_written(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "tags.jsonl"
    shown = run(data, "--encoder", "none", "--out", out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["instruction"] for row in rows] == [text for _, text in TINY_ROWS]
    assert [row["task"] for row in rows] == [task for task, _ in TINY_ROWS]
    assert rows[0]["id"] == turns_id(user_turn(TINY_ROWS[0][1]))
    assert "8 rows, mean margin" in shown


def test_labels_are_summed_up_as_json(data: Path) -> None:
    found = json.loads(run(data, "--encoder", "none", "--json"))
    assert (found["rows"], found["refused"], found["tasks"]) == (8, 0, {"Math": 4, "Writing": 4})


def test_heads_trained_from_rows_label_by_them(labelled: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "heads"
    run("--train", labelled, "--no-seeds", "--encoder", "none", "--out", out)
    assert len(load_heads(out).tasks) == 2
    assert json.loads(run(data, "--model", out, "--json"))["tasks"] == {"Math": 4, "Writing": 4}


def test_a_classifier_is_measured_and_its_confusion_drawn(labelled: Path, tmp_path: Path) -> None:
    svg = tmp_path / "confusion.svg"
    assert run("--eval", labelled, "--encoder", "none", "--svg", svg).startswith(
        "8 rows: accuracy 1.000, macro-F1 1.000"
    )
    assert svg.read_text().startswith("<svg")
    assert json.loads(run("--eval", labelled, "--encoder", "none", "--json"))["sources"] == {"tiny": [8, 1.0]}


def test_exactly_one_thing_is_asked_for(data: Path, labelled: Path) -> None:
    with pytest.raises(ConfigError, match="one of the three"):
        run()
    with pytest.raises(ConfigError, match="one of the three"):
        run(data, "--eval", labelled)


def test_training_needs_a_place_to_write(labelled: Path) -> None:
    with pytest.raises(ConfigError, match="--out DIR"):
        run("--train", labelled)


def test_a_file_without_instructions_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    with pytest.raises(DataError, match=r"empty\.jsonl"):
        run(path)
