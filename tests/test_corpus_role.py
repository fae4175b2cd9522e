"""The corpus role: each instruction once, a reproducible draw, sums that add up; and the report of `tapir check`."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tapir.config import CorpusConfig, NearDuplicateConfig
from tapir.contamination import EvaluationIndex
from tapir.corpus import FileCorpus
from tapir.corpus.file_corpus import _Sample
from tapir.corpus.render import show
from tapir.corpus.report import inspect, lengths
from tapir.errors import DataError
from tapir.rows import Example, Lineage, Refused, example, refuse, turns_id, user_turn


class RecordingStage:
    """A stage that remembers what it was told."""

    name = "corpus"

    def __init__(self, work: Path) -> None:
        self.work = work
        self.expected: int | None = None
        self.notes: dict[str, Any] = {}
        self.shown: list[tuple[float, float, str]] = []

    def expect(self, rows: int) -> None:
        self.expected = rows

    def note(self, **values: Any) -> None:
        self.notes.update(values)

    def progress(self, done: float, total: float, text: str = "") -> None:
        self.shown.append((done, total, text))


def read(
    path: Path, seed: int = 0, evaluation: EvaluationIndex | None = None, **settings: Any
) -> tuple[list[Example | Refused], RecordingStage]:
    stage = RecordingStage(path.parent)
    corpus = FileCorpus(CorpusConfig(path=str(path), **settings), seed, evaluation)

    async def collect() -> list[Example | Refused]:
        return [row async for row in corpus.read(stage)]

    rows = asyncio.run(collect())
    assert stage.expected == len(rows)
    json.dumps(stage.notes)
    return rows, stage


def jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def row(instruction: str, output: str = "An answer.", **more: Any) -> dict[str, Any]:
    return {"instruction": instruction, "output": output, **more}


LONG = "Write a short and friendly letter to the owner of the little bookshop at the corner of our street"


def test_rows_come_in_file_order_and_every_row_is_kept_or_refused(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "rows.jsonl",
        [row("Add 2 and 3."), "{broken", row("Add 2 and 3.", "5"), row(LONG), row(LONG.upper() + "!"), row("", "x")],
    )
    rows, stage = read(path)
    assert [one.instruction if isinstance(one, Example) else one.reason for one in rows] == [
        "Add 2 and 3.",
        "broken-json",
        "duplicate",
        LONG,
        "near-duplicate",
        "empty-instruction",
    ]
    first, fourth = rows[0], rows[3]
    assert isinstance(rows[2], Refused)
    assert rows[2].detail == f"repeats the instruction of row {first.id}"
    assert isinstance(rows[4], Refused)
    assert rows[4].detail == f"repeats row {fourth.id} with similarity 1.00"
    assert stage.notes["read"] == 6
    assert stage.notes["files"] == [{"name": "rows.jsonl", "format": "jsonl", "rows": 6}]


def test_near_duplicates_are_kept_where_the_configuration_says_so(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [row(LONG), row(LONG + "!")])
    assert [type(one) for one in read(path, near_duplicates=None)[0]] == [Example, Example]
    near = NearDuplicateConfig(similarity=1.0)
    assert [type(one) for one in read(path, near_duplicates=near)[0]] == [Example, Refused]


def test_the_same_question_under_another_system_prompt_is_another_row(tmp_path: Path) -> None:
    rows = [row(LONG, system="Answer in French."), row(LONG, system="Answer in German."), row(LONG)]
    assert [type(one) for one in read(jsonl(tmp_path / "rows.jsonl", rows))[0]] == [Example] * 3


def test_rows_that_repeat_an_evaluation_item_are_contaminated(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [row("Please: " + LONG), row("Add 2 and 3.")])
    rows, _ = read(path, evaluation=EvaluationIndex([LONG]))
    assert isinstance(rows[0], Refused)
    assert rows[0].reason == "contaminated"
    assert rows[0].detail == (
        "shares 'write a short and friendly letter to the owner of the little bookshop' with an evaluation item"
    )
    assert isinstance(rows[1], Example)


def test_ids_of_the_file_decide_nothing(tmp_path: Path) -> None:
    rows = [row("a b c", id="1"), row("d e f", id="1"), row("a b c", id="2"), row("g h i", id="../../../etc/passwd")]
    kept = read(jsonl(tmp_path / "rows.jsonl", rows))[0]
    assert [type(one) for one in kept] == [Example, Example, Refused, Example]
    assert [one.id for one in kept if isinstance(one, Example)] == [
        turns_id(user_turn(text)) for text in ("a b c", "d e f", "g h i")
    ]


def test_a_draw_depends_on_rows_and_seed_and_not_on_their_order(tmp_path: Path) -> None:
    rows = [row(f"Instruction number {index} about {index * 7919}") for index in range(200)]
    one, stage = read(jsonl(tmp_path / "a.jsonl", rows), seed=1, limit=50)
    other, _ = read(jsonl(tmp_path / "b.jsonl", rows[::-1]), seed=1, limit=50)
    assert len(one) == 50
    assert stage.notes["not_drawn"] == 150
    assert {item.id for item in one} == {item.id for item in other}
    texts = [item.instruction for item in one if isinstance(item, Example)]
    assert texts == [item["instruction"] for item in rows if item["instruction"] in set(texts)]
    assert {item.id for item in one} != {item.id for item in read(tmp_path / "a.jsonl", seed=2, limit=50)[0]}


def test_a_larger_limit_draws_a_superset(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [row(f"Instruction number {index}") for index in range(100)])
    small = {item.id for item in read(path, limit=20, near_duplicates=None)[0]}
    assert small < {item.id for item in read(path, limit=60, near_duplicates=None)[0]}


def test_a_limit_beyond_the_rows_keeps_them_all(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [row("a b c"), row("d e f"), "{"])
    rows, stage = read(path, limit=99)
    assert [type(one) for one in rows] == [Example, Example, Refused]
    assert stage.notes["not_drawn"] == 0


def test_refused_rows_are_drawn_in_proportion(tmp_path: Path) -> None:
    rows = [row(f"Instruction number {index}", "" if index % 2 else "yes") for index in range(2000)]
    drawn, _ = read(jsonl(tmp_path / "a.jsonl", rows), limit=100, near_duplicates=None)
    accepted = [one for one in drawn if isinstance(one, Example)]
    assert len(accepted) == 100
    assert 60 < len(drawn) - 100 < 150


def test_a_sample_forgets_refused_rows_that_are_out_of_reach() -> None:
    sample = _Sample(5, seed=0)
    for index in range(20_000):
        made = example(user_turn(f"row {index}"), "r", Lineage(source="s"))
        sample.add(refuse(made, "duplicate", "d") if index % 2 else made)
        assert len(sample._refused) < 2500
    assert sum(isinstance(one, Example) for one in sample.rows()) == 5
    assert sample.count == len(sample.rows())


def test_the_identity_follows_content_settings_and_seed_and_not_the_place(tmp_path: Path) -> None:
    rows = [row("a b c")]
    (tmp_path / "x").mkdir()
    one = FileCorpus(CorpusConfig(path=str(jsonl(tmp_path / "rows.jsonl", rows))))
    moved = FileCorpus(CorpusConfig(path=str(jsonl(tmp_path / "x" / "rows.jsonl", rows))), seed=5)
    assert one.identity("read") == moved.identity("read")
    json.dumps(one.identity("read"))
    drawn = [FileCorpus(CorpusConfig(path=str(tmp_path / "rows.jsonl"), limit=3), seed) for seed in (1, 2)]
    assert drawn[0].identity("read") != drawn[1].identity("read")
    before = one.identity("read")
    jsonl(tmp_path / "rows.jsonl", [row("a b d")])
    assert one.identity("read") != before
    index = EvaluationIndex(["What is it?"])
    assert FileCorpus(CorpusConfig(path=str(tmp_path / "rows.jsonl")), 0, index).identity("read") != one.identity(
        "read"
    )


def test_a_file_in_which_no_row_has_known_columns_is_rejected(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [{"name": "Ann"}, {"name": "Bob"}])
    with pytest.raises(
        DataError, match=r"rows.jsonl: no columns with instructions and responses; found 'name'; rename"
    ):
        read(path)


def test_reading_lets_the_event_loop_turn(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [row(f"Instruction number {i} of {i * 31}") for i in range(5000)])
    turns = 0

    async def main() -> None:
        nonlocal turns

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(tick())
        stage = RecordingStage(tmp_path)
        async for _ in FileCorpus(CorpusConfig(path=str(path))).read(stage):
            pass
        task.cancel()
        assert stage.shown
        assert all(0 <= done <= total for done, total, _ in stage.shown)

    asyncio.run(main())
    assert turns >= 3


def test_the_report_counts_rows_repairs_and_refusals_with_examples(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "rows.jsonl",
        [
            row(" Add 2 and 3. ", "5", input="<noinput>", license="MIT"),
            row("Переведи: дом", "house"),
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]},
            {
                "conversations": [
                    {"from": "system", "value": "S"},
                    {"from": "human", "value": "a b"},
                    {"from": "gpt", "value": "c"},
                    {"from": "human", "value": "d"},
                    {"from": "gpt", "value": "e f"},
                ]
            },
            row("Add 2 and 3.", "five"),
            "{broken",
        ],
    )
    report = inspect(CorpusConfig(path=str(path), limit=2, license="CC0"))
    assert (report.rows, report.accepted, report.refused_rows, report.repaired_rows, report.limit) == (6, 3, 3, 1, 2)
    assert {kind: found.count for kind, found in report.repairs.items()} == {
        "outer-whitespace": 1,
        "placeholder-input": 1,
    }
    assert report.repairs["outer-whitespace"].examples[0].before == "' Add 2 and 3. '"
    assert {kind: found.count for kind, found in report.refused.items()} == {
        "broken-json": 1,
        "duplicate": 1,
        "no-response": 1,
    }
    assert report.shapes == {"alpaca": 2, "sharegpt": 1}
    assert (report.system_rows, report.multi_turn_rows) == (1, 1)
    assert report.scripts == {"Latin": 2, "Cyrillic": 1}
    assert report.licenses == {"CC0": 2, "MIT": 1}
    assert report.sources == {"rows.jsonl": 3}
    assert report.response_words.quantiles["1"] == 2
    assert report.files[0].rows == 6
    assert json.loads(report.to_json())["refused"]["no-response"]["examples"][0]["detail"] == (
        "rows.jsonl, line 3: no turn is by the assistant"
    )


def test_the_report_is_shown_without_reading_markup_in_the_data(tmp_path: Path) -> None:
    name = "[red]rows[blink].jsonl"
    path = jsonl(tmp_path / name, [row("[bold]Hi[/bold]\x1b[31m ", "\x07ho"), row("x", "[/nosuch]<nooutput>"), "{"])
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        show(inspect(CorpusConfig(path=str(path))), console)
        text = console.export_text()
    assert "3 rows read, 2 accepted (1 of them repaired), 1 refused (33.3%)" in text
    assert name in text
    assert "[bold]Hi[/bold]" in text
    assert "\x1b" not in text


def test_lengths_of_nothing_are_zero() -> None:
    assert lengths([]).mean == 0
    assert lengths([3, 1, 2]).quantiles["0.5"] == 2
