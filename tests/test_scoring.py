"""`tapir score`: any data set's responses, scored by a configuration's judge."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tapir.config import RunConfig, parse_config
from tapir.errors import BudgetError, ConfigError, DataError, RunError
from tapir.rows import Refused
from tapir.scoring import Scored, score_file
from tapir.store.files import read_rows
from tapir.testing import FaultyServer
from tapir.testing.acts import Act, Call, reply

ROWS = [
    {"instruction": "Name a colour.", "output": "Blue.", "mine": "Blue."},
    {"instruction": "Name a colour.", "output": "Some shade of red, I think.", "mine": "Red."},
    {"instruction": "What is 6 times 7?", "output": "42", "mine": "The answer is forty-two."},
    {"instruction": "What is 1 + 1?", "output": "2", "mine": ""},
    {"instruction": "", "output": "2", "mine": "2"},
]
_ANSWER = re.compile(r"<<<(ANSWER(?: [AB])?) #(\w+)\n(.*?)\n\1 #\2>>>", re.DOTALL)


def verdict(call: Call) -> Act:
    """A judge that gives a point for every three letters."""
    points = {name: min(10, 1 + len(text) // 3) for name, _, text in _ANSWER.findall(call.prompt)}
    if "ANSWER" in points:
        return reply(f"So many letters.\nFINAL-SCORE: {points['ANSWER']}")
    return reply(f"So many letters.\nFINAL-SCORES: A={points['ANSWER A']} B={points['ANSWER B']}")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tree(tmp_path: Path, judge: dict[str, Any], **settings: Any) -> dict[str, Any]:
    world = {"kind": "world"}
    return {
        "name": "mine",
        "runs": str(tmp_path / "runs"),
        "corpus": {"path": "world"},
        "student": {"model": "world"},
        "teacher": world,
        "judge": judge,
        **settings,
    }


def config(tmp_path: Path, judge: dict[str, Any], **settings: Any) -> RunConfig:
    return parse_config(tree(tmp_path, judge, **settings), "test")


def chat(server: FaultyServer, **settings: Any) -> dict[str, Any]:
    endpoint = {"base_url": server.base_url, "model": "m", "structured_output": "never", **settings}
    return {"kind": "endpoint", "endpoint": endpoint}


def lines(path: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_a_chat_model_scores_responses_alone_once_and_for_all(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", ROWS)
    with FaultyServer(verdict) as server:
        cfg = config(tmp_path, chat(server))
        first = score_file(data, cfg)
        asked = len(server.calls)
        assert score_file(data, cfg) == first
        assert len(server.calls) == asked == 4
    assert (first.rows, first.scored, first.refused) == (5, 4, {"empty-instruction": 1})
    assert first.out == str(tmp_path / "rows-scores.jsonl")
    found = lines(first.out)
    assert [(row["place"], row["response"], row["score"]) for row in found] == [
        ("rows.jsonl, line 1", "Blue.", 2.0),
        ("rows.jsonl, line 2", "Some shade of red, I think.", 10.0),
        ("rows.jsonl, line 3", "42", 1.0),
        ("rows.jsonl, line 4", "2", 1.0),
    ]
    assert found[0]["id"] == found[1]["id"]
    assert found[0]["mfd"] is None and found[0]["rationale"] == "So many letters."
    assert first.mean == 3.5
    assert first.histogram == {1: 2, 2: 1, 3: 0, 4: 0, 5: 0, 6: 0, 7: 0, 8: 0, 9: 0, 10: 1}
    assert [row["reason"] for row in lines(str(first.refused_out))] == ["empty-instruction"]


def test_two_responses_go_in_one_call_and_give_the_mfd(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", ROWS)
    with FaultyServer(verdict) as server:
        found = score_file(data, config(tmp_path, chat(server)), response="mine", against="output")
        prompts = [call.prompt for call in server.calls]
    assert len(prompts) == 3
    shown = [{name: text for name, _, text in _ANSWER.findall(prompt)} for prompt in prompts]
    assert {"ANSWER A": "42", "ANSWER B": "The answer is forty-two."} in shown
    rows = lines(found.out)
    assert [(row["response"], row["against"], row["score"], row["against_score"], row["mfd"]) for row in rows] == [
        ("Blue.", "Blue.", 2.0, 2.0, 0.0),
        ("Red.", "Some shade of red, I think.", 2.0, 10.0, 8.0),
        ("The answer is forty-two.", "42", 9.0, 1.0, -8.0),
    ]
    assert (found.rows, found.scored, found.mean_mfd) == (5, 3, 0.0)
    assert found.refused == {"empty-response": 1, "empty-instruction": 1}


def test_the_key_less_judge_scores_against_a_column(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", ROWS)
    cfg = config(tmp_path, {"kind": "reference"})
    found = score_file(data, cfg, against="mine")
    rows = lines(found.out)
    assert rows[0]["score"] == 10.0
    assert all(row["against_score"] == 10.0 and row["mfd"] == 10.0 - row["score"] for row in rows)
    assert 1.0 <= rows[1]["score"] < 10.0
    assert found.refused == {"no-reference": 1, "empty-instruction": 1}
    with pytest.raises(ConfigError, match="name the column that holds the other one with --against"):
        score_file(data, cfg)


def test_tables_are_read_with_the_named_columns_and_written(tmp_path: Path) -> None:
    data, out = tmp_path / "rows.parquet", tmp_path / "deep" / "out.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), data)
    found = score_file(data, config(tmp_path, {"kind": "reference"}), response="mine", against="output", out=out)
    rows = list(read_rows(out, Scored))
    assert found.scored == len(rows) == 3
    assert rows[0].score == 10.0 and rows[0].place == "rows.parquet, row 1"
    assert found.refused_out == str(out.with_name("out-refused.jsonl"))
    assert pq.read_schema(out).names == list(Scored.__struct_fields__)


def test_a_verdict_that_cannot_be_read_is_a_refused_row(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", [{"instruction": f"Count to {n}.", "output": "1 " * n} for n in range(2, 12)])

    def judge(call: Call) -> Act:
        return reply("I like it.") if "Count to 7." in call.prompt else verdict(call)

    with FaultyServer(judge) as server:
        found = score_file(data, config(tmp_path, chat(server)))
        assert (found.rows, found.scored, found.refused) == (10, 9, {"unreadable-verdict": 1})
        (refused,) = lines(str(found.refused_out))
        assert Refused(**refused).detail.startswith("rows.jsonl, line 6: ")
        with pytest.raises(RunError, match=r"more than max_refused_fraction 0\.05 allows"):
            score_file(data, config(tmp_path, chat(server), max_refused_fraction=0.05))


def test_a_budget_stops_it_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", [{"instruction": f"Count to {n}.", "output": "1 " * n} for n in range(2, 12)])
    with FaultyServer(verdict) as server:
        with pytest.raises(BudgetError):
            score_file(data, config(tmp_path, chat(server), budget={"max_calls": 4}))
        assert len(server.calls) == 4
        assert score_file(data, config(tmp_path, chat(server), budget={"max_calls": 10})).scored == 10
        assert len(server.calls) == 10


def test_wrong_columns_and_names_are_told(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", ROWS)
    cfg = config(tmp_path, {"kind": "reference"})
    with pytest.raises(DataError, match="no row has a column 'theirs'"):
        score_file(data, cfg, against="theirs")
    with pytest.raises(ConfigError, match=r"must end in .jsonl or .parquet"):
        score_file(data, cfg, against="mine", out=tmp_path / "out.csv")
    with pytest.raises(DataError, match="holds no row to score"):
        score_file(write(tmp_path / "bad.jsonl", ROWS[4:]), cfg, against="mine")


def test_the_command_prints_what_became_of_the_rows(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(tree(tmp_path, {"kind": "reference"})))
    words = [sys.executable, "-m", "tapir", "score", str(data), "--config", str(tmp_path / "my.yaml")]
    done = subprocess.run([*words, "--against", "mine"], capture_output=True, text=True, timeout=60, check=True)
    assert "5 rows: 3 scored, 1 refused (no-reference), 1 refused (empty-instruction)" in done.stdout
    assert "of the references 10.00" in done.stdout
    done = subprocess.run(
        [*words, "--against", "mine", "--json"], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["scored"] == 3
    wrong = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)


def test_a_notebook_can_score(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(tree(tmp_path, {"kind": "reference"})))
    code = (
        "import asyncio, pathlib, sys, tapir\n"
        "async def cell():\n"
        "    cfg = tapir.load_config(pathlib.Path('my.yaml'))\n"
        "    return tapir.score('rows.jsonl', cfg, against='mine', is_aside=True)\n"
        "print(asyncio.run(cell()).scored)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=data.parent
    )
    assert done.stdout.strip() == "3"
