"""Exports open in other tools, and read back as the same rows."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapir import export as export_module
from tapir.config import CorpusConfig
from tapir.corpus import Cleaning, FileCorpus, clean, read_rows
from tapir.errors import ConfigError, DataError
from tapir.export import INFO, export_round, write_export
from tapir.rows import Example, Lesson, Lineage, Message, Turns, example, lesson, user_turn
from tapir.store.files import write_rows
from tapir.tasks import Task

FORMATS = ("messages", "alpaca", "sharegpt")
LINEAGE = Lineage(source="seed.jsonl", license="MIT", round=2, parents=("a1", "b2"), teacher="gpt-x", prompt="d1")


def turns(*texts: str, system: str | None = None) -> Turns:
    roles = ("user", "assistant")
    said = tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(texts))  # type: ignore[arg-type]
    return (Message(role="system", content=system), *said) if system else said


def rows() -> list[Lesson]:
    plain = example(user_turn("Add 2 and 3."), "5", LINEAGE)
    chat = example(turns("Hi", "Hello!", "Who are you?", system="Be brief."), "A tapir.\nGrüße 🦛", Lineage(source="t"))
    return [
        lesson(plain, "5", Task.MATH, is_hard=True),
        lesson(chat, chat.response, None, is_hard=False),
    ]


def read_back(path: Path) -> list[Example]:
    """What the corpus reader makes of a file; nothing may be refused or repaired."""
    found = []
    for raw in read_rows(path):
        cleaned = clean(raw, Cleaning())
        assert isinstance(cleaned.row, Example), cleaned.row
        assert cleaned.repairs == ()
        found.append(cleaned.row)
    return found


def as_examples(lessons: list[Lesson]) -> list[Example]:
    return [Example(id=row.id, turns=row.turns, response=row.response, lineage=row.lineage) for row in lessons]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("format_", FORMATS)
def test_rows_read_back_as_they_were(format_: str, as_json: bool, tmp_path: Path) -> None:
    path = write_export(rows(), tmp_path / "out", "demo", format_, as_json=as_json)
    assert path.name == f"demo-{format_}.{'json' if as_json else 'jsonl'}"
    assert read_back(path) == as_examples(rows())


def test_the_whole_directory_is_a_corpus(tmp_path: Path) -> None:
    write_export(rows(), tmp_path, "demo", "messages")

    class Stage:
        name, work = "corpus", tmp_path

        def expect(self, rows: int) -> None:
            assert rows == 2

        def note(self, **values: Any) -> None:
            assert values["repairs"] == {"skipped-file": 2}

        def progress(self, done: float, total: float, text: str = "") -> None: ...

    async def collect() -> list[Any]:
        return [row async for row in FileCorpus(CorpusConfig(path=str(tmp_path))).read(Stage())]

    assert asyncio.run(collect()) == as_examples(rows())


def test_each_format_has_its_shape(tmp_path: Path) -> None:
    found = {
        format_: json.loads(write_export(rows(), tmp_path, "demo", format_).read_text("utf-8").splitlines()[1])
        for format_ in FORMATS
    }
    assert found["messages"]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "A tapir.\nGrüße 🦛"},
    ]
    assert [turn["from"] for turn in found["sharegpt"]["conversations"]] == ["system", "human", "gpt", "human", "gpt"]
    assert {name: found["alpaca"][name] for name in ("instruction", "input", "output", "system", "history")} == {
        "instruction": "Who are you?",
        "input": "",
        "output": "A tapir.\nGrüße 🦛",
        "system": "Be brief.",
        "history": [["Hi", "Hello!"]],
    }


def test_lineage_travels_in_columns_of_its_own(tmp_path: Path) -> None:
    row = json.loads(write_export(rows(), tmp_path, "demo").read_text("utf-8").splitlines()[0])
    del row["messages"]
    assert row == {
        "id": rows()[0].id,
        "task": "Math",
        "is_hard": True,
        "round": 2,
        "source": "seed.jsonl",
        "license": "MIT",
        "teacher": "gpt-x",
        "parents": ["a1", "b2"],
        "prompt_digest": "d1",
    }


@pytest.mark.parametrize("format_", FORMATS)
def test_llama_factory_finds_its_columns_and_tags(format_: str, tmp_path: Path) -> None:
    path = write_export(rows(), tmp_path, "demo", format_)
    entry = json.loads((tmp_path / "dataset_info.json").read_text("utf-8"))[f"demo-{format_}"]
    assert entry == {"file_name": path.name, **INFO[format_]}  # type: ignore[index]
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        assert set(entry["columns"].values()) <= set(row)
        if entry["formatting"] == "alpaca":
            continue
        tags = entry["tags"]
        said = [turn[tags["role_tag"]] for turn in row[entry["columns"]["messages"]]]
        said = said[1:] if said[0] == tags["system_tag"] else said
        assert said == [tags["user_tag"], tags["assistant_tag"]] * (len(said) // 2)


def test_datasets_and_trl_take_the_messages_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    data_utils = pytest.importorskip("trl.data_utils")
    datasets.disable_progress_bars()
    path = write_export(rows(), tmp_path, "demo")
    loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 2
    assert data_utils.is_conversational(loaded[0])
    assert "prompt" not in loaded.column_names
    assert "tools" not in loaded.column_names


def test_other_entries_of_dataset_info_stay(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    write_export(rows(), tmp_path, "demo", "messages")
    write_export(rows(), tmp_path, "demo", "alpaca")
    info = json.loads((tmp_path / "dataset_info.json").read_text("utf-8"))
    assert list(info) == ["mine", "demo-messages", "demo-alpaca"]


@pytest.mark.parametrize("content", ["{broken", "[]"])
def test_a_foreign_dataset_info_is_not_overwritten(content: str, tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text(content)
    with pytest.raises(DataError, match=r"dataset_info.json: is not"):
        write_export(rows(), tmp_path, "demo")
    assert (tmp_path / "dataset_info.json").read_text() == content


def test_a_failure_leaves_the_old_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_export(rows(), tmp_path, "demo")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module.os, "fsync", full)
    with pytest.raises(DataError, match="cannot be written \\(No space left on device\\)"):
        write_export(rows()[:1], tmp_path, "demo")
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_alpaca_refuses_turns_that_it_cannot_hold(tmp_path: Path) -> None:
    odd = (*turns("Hi", "Ho"), Message(role="system", content="S"), Message(role="user", content="x"))
    row = example(odd, "y", LINEAGE)
    with pytest.raises(DataError, match="turns by user, assistant, system, user do not fit alpaca"):
        write_export([row], tmp_path, "demo", "alpaca")
    assert not list(tmp_path.iterdir())
    assert write_export([row], tmp_path, "demo", "messages").exists()


def test_wrong_formats_and_empty_exports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format 'csv' is none of messages, alpaca, sharegpt"):
        write_export(rows(), tmp_path, "demo", "csv")
    with pytest.raises(DataError, match="there are no rows to export"):
        write_export([], tmp_path, "demo")
    with pytest.raises(DataError, match="cannot be written as JSON"):
        write_export([example(user_turn("a\ud800"), "b", LINEAGE)], tmp_path, "demo")


def test_the_card_is_valid_and_shows_texts_as_they_stand(tmp_path: Path) -> None:
    odd = example(user_turn("x"), "y", Lineage(source="<img src=x>|[a](b)\nc", license="MIT"))
    write_export([*rows(), odd], tmp_path, "demo")
    _, head, body = (tmp_path / "README.md").read_text("utf-8").split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "other",
        "pretty_name": "demo",
        "task_categories": ["text-generation"],
        "tags": ["tapir", "distillation", "instruction-tuning"],
        "configs": [{"config_name": "default", "data_files": "demo-messages.jsonl"}],
    }
    assert "3 instructions with responses, 1 of them hard" in body
    assert "| MIT | 2 |" in body
    assert "| \\<img src=x\\>\\|\\[a\\](b) c | 1 |" in body
    assert 'load_dataset("json", data_files=\'demo-messages.jsonl\', split="train")' in body


def test_a_round_of_a_run_is_exported(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine"
    (run / "data").mkdir(parents=True)
    (run / "manifest.json").write_text("{}")
    write_rows(run / "data" / "round-2.parquet", Lesson, rows())
    path = export_round(run, 2, "sharegpt")
    assert path == run / "export" / "mine-round-2-sharegpt.jsonl"
    assert read_back(path) == as_examples(rows())
    assert export_round(run, 2, out=tmp_path / "o").parent == tmp_path / "o"
    with pytest.raises(DataError, match=r"round 1 has no training set yet \(rounds that have one: 2\)"):
        export_round(run, 1)


TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), min_size=1, max_size=30
).map(lambda text: f"Say {text} now.")
CHATS = st.builds(
    lambda said, system: turns(*said[: len(said) - 1 + len(said) % 2], system=system),
    st.lists(TEXTS, min_size=1, max_size=5),
    st.none() | TEXTS,
)
LINEAGES = st.builds(
    Lineage,
    source=TEXTS,
    license=st.none() | TEXTS,
    round=st.integers(0, 9),
    parents=st.lists(st.text("abcdef0123456789", min_size=1, max_size=24), max_size=3).map(tuple),
    teacher=st.none() | TEXTS,
    prompt=st.none() | st.text("0123456789abcdef", min_size=1, max_size=32),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(chats=st.lists(st.tuples(CHATS, TEXTS, LINEAGES), min_size=1, max_size=5), format_=st.sampled_from(FORMATS))
def test_any_rows_read_back_as_they_were(chats: list[Any], format_: str, tmp_path: Path) -> None:
    made = [example(said, response, lineage) for said, response, lineage in chats]
    assert read_back(write_export(made, tmp_path, "demo", format_)) == made
