"""Base models, devices, and the students that tests are made of."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tapir.errors import StudentError
from tapir.students import devices
from tapir.students.checkpoints import student_digest
from tapir.students.sources import base_model, source_digest
from tapir.testing import tiny_student
from tapir.testing.student import read_texts


def test_a_directory_is_made_absolute_and_a_hub_id_left_alone(llama, monkeypatch):
    monkeypatch.chdir(llama.parent)
    assert base_model(llama.name) == str(llama.resolve())
    assert base_model("owner/model") == "owner/model"
    assert source_digest("owner/model") == "owner/model"


@pytest.mark.parametrize("model", ["/nowhere/model", "./nowhere", "~/nowhere/model"])
def test_a_directory_that_is_not_there_is_no_hub_id(model):
    with pytest.raises(StudentError, match=f"student.model '{model}': is no directory; give one with config.json"):
        base_model(model)


def test_a_device_that_is_none_or_not_there_is_named():
    assert devices.pick_device("cpu") == "cpu"
    for wanted, said in (("gpu", "is no device"), ("cpu:3", "this machine has 1"), ("cuda:99", "this machine has")):
        with pytest.raises(StudentError, match=f"student.device '{wanted}': {said}.*; remove the setting or use cpu"):
            devices.pick_device(wanted)


def test_the_worlds_base_is_written_once_and_opens(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = base_model("world"), base_model("world")
    assert first == second
    assert sum(1 for _ in (tmp_path / "tapir").iterdir()) == 1
    assert AutoModelForCausalLM.from_pretrained(first).config.vocab_size == len(AutoTokenizer.from_pretrained(first))


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StudentError, match="set XDG_CACHE_HOME"):
        base_model("world")


def test_a_model_that_changed_has_another_digest(tmp_path, llama):
    before = source_digest(str(llama))
    tiny_student(tmp_path, seed=1, hidden_size=32)
    changed = source_digest(str(tmp_path))
    tiny_student(tmp_path, seed=2, hidden_size=32)
    assert len({before, changed, source_digest(str(tmp_path))}) == 3


@pytest.mark.parametrize(
    ("has_bf16", "trains", "answers"),
    [(True, ("bf16", "fp32"), ("bf16", "bf16")), (False, ("fp16", "fp32"), ("fp16", "fp32"))],
)
def test_the_number_format_follows_the_device(monkeypatch, has_bf16, trains, answers):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    monkeypatch.setattr(devices, "_cpu_has_bf16", lambda: has_bf16)
    assert tuple(devices.training_precision("auto", device) for device in ("cuda", "cpu")) == trains
    assert tuple(devices.answering_precision("auto", device) for device in ("cuda", "cpu")) == answers
    assert devices.training_precision("fp16", "cpu") == "fp16"


def test_the_same_arguments_give_the_same_student(tmp_path):
    digests = [
        student_digest(tiny_student(tmp_path / f"{i}", "qwen2", hidden_size=32, seed=s))
        for i, s in enumerate((0, 0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_texts_come_from_lines_and_from_every_string_of_json(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.json").write_text(json.dumps([{"x": "three", "y": ["four", 5]}]))
    (tmp_path / "c.jsonl").write_text('{"x": "five"}\n{"x": {"y": "six"}}\n')
    paths = [tmp_path / name for name in ("a.txt", "b.json", "c.jsonl")]
    assert list(read_texts(paths)) == ["one", "two", "three", "four", "five", "six"]
    assert list(read_texts(paths, limit=3)) == ["one", "two", "three"]


def test_a_student_is_made_from_the_command_line(tmp_path):
    (tmp_path / "texts.txt").write_text("some text\n" * 50)
    arguments = ["--out", tmp_path / "made", "--texts", tmp_path / "texts.txt", "--hidden-size", "24", "--layers", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tapir.testing.student", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "M parameters" in done.stdout
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    assert tokenizer.decode(tokenizer("some text ✓ ok")["input_ids"]) == "some text ✓ ok"
