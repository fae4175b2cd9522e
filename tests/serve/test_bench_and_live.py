"""The threshold bench, the live state, and runs side by side."""

import json
import sqlite3
import time
from pathlib import Path

import pytest
from sample_run import Quiet
from serve_support import ORIGIN, PORT, TOKEN
from starlette.testclient import TestClient

from tapir.oracles.base import Completion, Usage
from tapir.oracles.ledger_file import insert
from tapir.oracles.ledger_schema import SCHEMA, Booking, Entry
from tapir.report.progress import ProgressFile
from tapir.report.reading import stage_title
from tapir.rows import Example, Lineage, user_turn
from tapir.serve import guarded
from tapir.serve.bench import bench_data, near_line
from tapir.serve.compare import compare
from tapir.serve.library import Library
from tapir.serve.live import read_live
from tapir.store.files import write_rows


def paid(runs: Path) -> Path:
    """Let run `two` have an endpoint as teacher, with prices, and a ledger beside it."""
    manifest = runs / "two" / "manifest.json"
    tree = json.loads(manifest.read_text())
    endpoint = {"base_url": "http://h/v1", "model": "m", "price": {"input_per_million": 1.0, "output_per_million": 4.0}}
    tree["config"]["teacher"] = {"kind": "endpoint", "endpoint": endpoint}
    manifest.write_text(json.dumps(tree))
    with sqlite3.connect(runs / "ledger.sqlite") as database:
        database.executescript(SCHEMA)
        reply = Completion(text="x", finish="stop", usage=Usage(input_tokens=1000, output_tokens=2000), model="m")
        booking = Booking("two", "teacher", "01-expand")
        entries = [
            Entry(key=bytes([n]), completion=reply, cost=0.009, created_s=0.0, booking=booking, asked="m")
            for n in range(4)
        ]
        insert(database, entries, [("two", "teacher", "01-expand", 0, 0, 0, 0, 0, 0.0, 6, 900, 0.01)])
    database.close()
    return runs / "two"


def test_the_bench_gets_every_row_once(library: Library) -> None:
    run = library.run("one")
    rows = run.judgements()
    assert rows is not None
    data = bench_data(run.files(), rows)
    assert sum(sum(one["rows"]) for one in data["tasks"]) == data["rows"] == len(rows.ids)
    hard = sum(n for one in data["tasks"] for mfd, n in zip(one["mfd"], one["rows"], strict=True) if mfd > 2)
    select = run.files().stage("select")
    assert select is not None and hard == select.kept
    assert data["calls"]["is_paid"] is False


def test_the_bench_prices_seeds_and_new_instructions(own_runs: Path) -> None:
    paid(own_runs)
    run = Library(own_runs).run("two")
    rows = run.judgements()
    assert rows is not None
    calls = bench_data(run.files(), rows)["calls"]
    assert calls["is_paid"] is True
    assert calls["per_seed"] == 1
    assert calls["expand_per_new"] == pytest.approx(1 / 5)
    assert calls["per_new"] == pytest.approx(1 / 5 + 1)
    assert calls["per_new_cost"] > calls["per_seed_cost"] > 0
    measured = 4 * (1000 * 1.0 + 2000 * 4.0) / 1e6 / 20
    assert calls["per_new_cost"] - calls["per_seed_cost"] == pytest.approx(measured, rel=0.35)


def test_examples_are_the_nearest_on_each_side(library: Library) -> None:
    run = library.run("one")
    rows = run.judgements()
    assert rows is not None
    above, below = near_line(run, rows, 2.0, "")
    assert [one.mfd for one in above] == sorted(one.mfd for one in above)
    assert above[0].mfd == min(value for value in rows.mfd if value > 2)
    assert below[0].mfd == max(value for value in rows.mfd if value <= 2)
    assert {one.task for one in near_line(run, rows, 2.0, "Math")[0]} == {"Math"}
    assert near_line(run, rows, 9.0, "")[0] == []


def test_the_live_state_of_a_finished_run(library: Library) -> None:
    run = library.run("one")
    live = read_live(run.files(), run.status())
    assert (live.state, live.rounds_done, live.rounds) == ("finished", 2, 2)
    assert live.at_work == ()
    assert live.spent == ""
    assert 0 < len(live.refusals) <= 8


def test_the_live_state_of_a_run_at_work(own_runs: Path) -> None:
    home = paid(own_runs)
    for stage in ("01-evaluate", "01-train"):
        (home / "stages" / stage / "stage.json").unlink()
    (home / ".lock").write_text("1\n", encoding="ascii")
    told = ProgressFile(Quiet(), home)
    told.started("round 1: expand", 20)
    time.sleep(0.01)
    told.said("short of Math 2")
    told._written = 0
    told.advanced("round 1: expand", 5, 20, 1, "")
    run = Library(own_runs).run("two")
    live = read_live(run.files(), run.status())
    assert live.state == "running"
    (work,) = live.at_work
    assert work.share == 0.25
    assert work.text.startswith("5 of 20")
    assert "1 refused" in work.text
    assert live.said == ("short of Math 2",)
    assert live.spent.startswith("0.04 USD in 4 calls; 6 answered by the ledger")
    assert "about 0.14 USD when the stages at work are done" in live.spent


def test_without_a_word_from_the_run_what_has_begun_is_shown(own_runs: Path) -> None:
    home = own_runs / "two"
    (home / "stages" / "01-evaluate" / "stage.json").unlink()
    (home / "stages" / "01-evaluate" / "begun.json").write_text("{}")
    (home / ".lock").write_text("1\n", encoding="ascii")
    run = Library(own_runs).run("two")
    live = read_live(run.files(), run.status())
    assert [one.stage for one in live.at_work] == ["01-evaluate"]


def test_the_version_changes_when_a_stage_becomes_whole(own_runs: Path) -> None:
    client = TestClient(guarded(Library(own_runs), "127.0.0.1", PORT, TOKEN), base_url=ORIGIN)
    stage = own_runs / "two" / "stages" / "01-evaluate" / "stage.json"
    record = stage.read_text()
    stage.unlink()
    first = client.get("/run/two/live").headers["x-tapir-version"]
    assert f'data-version="{first}"' in client.get("/run/two/").text
    stage.write_text(record)
    second = client.get("/run/two/live").headers["x-tapir-version"]
    assert second != first
    assert f'data-version="{second}"' in client.get("/run/two/").text


def test_stage_names_are_as_observers_hear_them() -> None:
    assert stage_title("00-judge") == "judge"
    assert stage_title("02-expand-2") == "round 2: expand-2"
    assert stage_title("pilot-judge") == "pilot-judge"
    assert stage_title("") == ""


def test_runs_side_by_side_show_what_differs(library: Library) -> None:
    found = compare([library.run(name).report()[1] for name in ("one", "two")])
    settings = {str(row[0]): row[1:] for row in found.settings.rows}
    assert settings["difficulty.threshold"] == ("2.0", "3.0")
    assert settings["curriculum.rounds"] == ("2", "1")
    assert "corpus.path" not in settings
    assert "name" not in settings
    assert found.results is not None
    assert [row[0] for row in found.results.rows][:3] == ["S0, all", "TAPIR, all", "gain, all"]
    assert found.tasks is not None


def test_pages_of_one_run_and_of_several(client: TestClient, runs: Path) -> None:
    assert "Show side by side" in client.get("/").text
    assert "Settings that differ" in client.get("/compare?run=one&run=two").text
    single = TestClient(guarded(Library(runs / "two"), "127.0.0.1", PORT, TOKEN), base_url=ORIGIN)
    assert single.get("/", follow_redirects=False).headers["location"] == "/run/two/"
    assert "Side by side" not in single.get("/run/two/rows").text


def test_a_huge_text_is_cut_and_can_be_shown_whole(own_runs: Path) -> None:
    rows = [Example(id="huge", turns=user_turn("x" * 9000 + " the end"), response="y", lineage=Lineage(source="s"))]
    write_rows(own_runs / "two" / "stages" / "00-decontaminate" / "rows.parquet", Example, rows)
    client = TestClient(guarded(Library(own_runs), "127.0.0.1", PORT, TOKEN), base_url=ORIGIN)
    cut = client.get("/run/two/row/huge").text
    assert "the end" not in cut
    assert "5,008 more characters" in cut
    assert "Show all of every text" in cut
    assert "the end" in client.get("/run/two/row/huge?whole=1").text


def test_a_damaged_run_does_not_hide_the_others(own_runs: Path) -> None:
    (own_runs / "one" / "manifest.json").write_text("{")
    client = TestClient(guarded(Library(own_runs), "127.0.0.1", PORT, TOKEN), base_url=ORIGIN)
    text = client.get("/").text
    assert "manifest.json: is damaged" in text
    assert 'href="/run/two/"' in text
    assert client.get("/run/one/").status_code == 404
