"""A pilot pays for a few rows, the run finds them in the ledger, and quote and forecast follow what was measured."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tapir.algorithm import distill
from tapir.build import open_roles
from tapir.check import check_config
from tapir.config import RunConfig, parse_config
from tapir.errors import BudgetError, RunError
from tapir.evaluation.evaluator import SetEvaluator
from tapir.forecast import read_forecast
from tapir.oracles.ledger_file import LEDGER, LedgerFile
from tapir.oracles.money import total
from tapir.pilot import run_pilot
from tapir.presets import preset_text
from tapir.quote import sum_of
from tapir.report.progress import ProgressFile
from tapir.status import read_status
from tapir.store import RunStore
from tapir.tables import print_status
from tapir.testing import TinyStudent, WorldServer
from tapir.testing.acts import status
from tapir.world.roles import corpus_rows
from test_store import Quiet

EXAMPLES = Path(__file__).parent.parent / "examples"
ROWS = 120


@pytest.fixture
def server() -> Iterator[WorldServer]:
    with WorldServer() as started:
        yield started


@pytest.fixture
def cfg(tmp_path: Path, server: WorldServer) -> RunConfig:
    """The embedded world over HTTP, its first rows read from a file."""
    rows = [{"instruction": row.instruction, "output": row.response} for row in corpus_rows(0)[:ROWS]]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tree: dict[str, Any] = yaml.safe_load((EXAMPLES / "world-endpoint.yaml").read_text())
    price = {"input_per_million": 1e4, "output_per_million": 1e5}
    endpoint = {**tree["teacher"]["endpoint"], "base_url": server.base_url, "price": price}
    tree |= {
        "runs": str(tmp_path / "runs"),
        "corpus": {"path": str(tmp_path / "rows.jsonl")},
        "teacher": {"kind": "endpoint", "endpoint": endpoint},
        "judge": {"kind": "endpoint", "endpoint": endpoint},
        "expand": {**tree.get("expand", {}), "new_per_round": 30},
        "curriculum": {**tree.get("curriculum", {}), "rounds": 2, "tokens_per_round": 4000},
        "evaluation": {"held_out": 10},
    }
    return parse_config(tree, "test")


async def go(cfg: RunConfig) -> None:
    async with RunStore(cfg.directory, Quiet()) as run, open_roles(cfg, print) as roles:
        run.write_manifest(cfg.model_dump(mode="json"), {})
        student = TinyStudent()
        await distill(cfg, replace(roles, student=student, evaluator=SetEvaluator([], student, roles.judge)), run)


async def test_the_run_finds_the_pilots_answers_in_the_ledger(cfg: RunConfig, server: WorldServer) -> None:
    # in a thread, as run_pilot brings its own event loop
    report = await asyncio.to_thread(run_pilot, cfg, 20, lambda text: None)
    asked = sum(server.asked.values())
    assert report.rows == 20 and asked == report.spent.calls > 40
    await asyncio.to_thread(run_pilot, cfg, 20, lambda text: None)
    assert sum(server.asked.values()) == asked, "the same pilot once more asks nothing"
    await go(cfg)
    assert max(server.asked.values()) == 1, "nothing is asked, and paid, twice"
    found = read_status(cfg.directory)
    (respond,) = (one for one in found.spending if one.stage == "00-respond")
    (stage,) = (one for one in found.stages if one.name == "00-respond")
    assert (respond.saved_calls, respond.calls) == (20, stage.rows_in - 20)


def test_the_quote_is_made_again_from_what_the_calls_took(cfg: RunConfig, server: WorldServer) -> None:
    before = check_config(cfg).quotes
    assert not any(line.measured_over for line in before) and not (cfg.runs / LEDGER).exists()
    report = run_pilot(cfg, 20, lambda text: None)
    assert report.estimated == before
    judge = next(line for line in report.measured if line.label == "00-judge")
    assert judge.measured_over == 20
    spent = next(one for one in LedgerFile(cfg.runs / LEDGER).spending() if one.stage == "pilot-judge")
    assert judge.input_tokens == round(spent.input_tokens / 20 * judge.calls)
    assert judge.cost == pytest.approx(judge.input_tokens * 1e-2 + judge.output_tokens * 1e-1)
    asked = sum(server.asked.values())
    assert check_config(cfg).quotes == report.measured
    assert sum(server.asked.values()) == asked, "check spends nothing"


def test_a_pilot_shows_both_quotes_and_how_to_go_on(cfg: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    run_pilot(cfg, 8, print).show("tapir run my.yaml")
    shown = capsys.readouterr().out
    assert "pilot, judge: 8 rows" in shown
    assert "8 calls" in shown
    assert shown.endswith("to go on: tapir run my.yaml\n")
    assert not list(cfg.directory.glob("stages/*")), "a pilot leaves no stage behind"


def test_the_budget_holds_during_a_pilot(cfg: RunConfig, server: WorldServer) -> None:
    small = cfg.model_copy(update={"budget": cfg.budget.model_copy(update={"max_calls": 5})})
    with pytest.raises(BudgetError, match=r"max_calls \(5\) is spent"):
        run_pilot(small, 20, lambda text: None)
    assert sum(server.asked.values()) == 5


def test_a_pilot_without_a_single_reply_says_why_and_fails(
    cfg: RunConfig, server: WorldServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = lambda call: status(400, "too long")
    with pytest.raises(RunError, match="no call of the pilot got a reply"):
        run_pilot(cfg, 3)
    assert "0 rows, 3 refused (3 rejected), the last: teacher" in capsys.readouterr().out


@pytest.mark.parametrize("preset", ["world", "keyless"])
def test_without_paid_oracles_there_is_nothing_to_pilot(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = parse_config(yaml.safe_load(preset_text(preset)), "test")
    run_pilot(cfg, 5).show("tapir run my.yaml")
    assert capsys.readouterr().out.startswith("nothing to pilot: no stage of this configuration asks a paid oracle")


async def test_the_forecast_ends_at_what_was_spent(cfg: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    await go(cfg)
    found = read_status(cfg.directory)
    assert found.is_finished
    forecast = read_forecast(cfg.directory)
    assert set(forecast) == {"teacher", "judge"}
    assert total(forecast.values()).cost == pytest.approx(found.spent.cost)
    print_status(found, forecast, as_json=False)
    assert "at the end" not in capsys.readouterr().out


async def test_a_forecast_on_the_way_adds_what_is_to_come(cfg: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    await go(cfg)
    final = read_status(cfg.directory).spent
    with LedgerFile(cfg.runs / LEDGER) as ledger:
        done = [one for one in ledger.spending(cfg.name) if not one.stage.startswith("02-")]
        await ledger.write(lambda database: forget_round_two(database))
    for record in cfg.directory.glob("stages/02-*/stage.json"):
        record.unlink()
    spent, forecast = total(done), total(read_forecast(cfg.directory).values())
    assert spent.calls < forecast.calls
    assert forecast.calls == pytest.approx(final.calls, rel=0.1)
    assert forecast.cost == pytest.approx(final.cost, rel=0.1)
    print_status(read_status(cfg.directory), read_forecast(cfg.directory), as_json=False)
    shown = capsys.readouterr().out
    assert "at the end" in shown and f"{forecast.calls:,}" in shown


def forget_round_two(database: Any) -> None:
    for table in ("replies", "spending"):
        database.execute(f"DELETE FROM {table} WHERE stage LIKE '02-%'")


async def test_nothing_is_forecast_before_the_corpus_is_read(cfg: RunConfig) -> None:
    await go(cfg)
    shutil.rmtree(cfg.directory / "stages")
    assert read_forecast(cfg.directory) == {}


async def test_before_anything_is_spent_the_forecast_is_the_quote(cfg: RunConfig) -> None:
    await go(cfg)
    for stage in cfg.directory.glob("stages/*"):
        if stage.name not in ("00-corpus", "00-decontaminate"):
            shutil.rmtree(stage)
    (cfg.runs / LEDGER).unlink()
    found = total(read_forecast(cfg.directory).values())
    quoted = sum_of((await asyncio.to_thread(check_config, cfg)).quotes)
    assert found.calls == quoted.calls
    assert found.cost == pytest.approx(quoted.cost, rel=0.01)


async def test_a_stage_at_work_is_taken_on_at_its_own_pace(cfg: RunConfig) -> None:
    await go(cfg)
    (cfg.directory / "stages/02-refine/stage.json").unlink()
    whole = total(one for one in read_status(cfg.directory).spending if one.stage == "02-refine")
    told = ProgressFile(Quiet(), cfg.directory)
    told.started("round 2: refine", 300)
    told._written = 0
    told.advanced("round 2: refine", 100, 300, 0, "")
    ahead = read_forecast(cfg.directory)["teacher"].calls - read_status(cfg.directory).spent.calls
    judge = read_forecast(cfg.directory)["judge"].calls
    assert ahead + judge == 2 * whole.calls
