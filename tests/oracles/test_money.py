"""Budgets end a run cleanly, and what was spent is known by role and stage."""

import asyncio
from pathlib import Path

import pytest

from tapir.config import BudgetConfig, PriceConfig
from tapir.errors import BudgetError
from tapir.oracles.base import Completion, Sampling, Usage
from tapir.oracles.build import EndpointOracle
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.money import Spending, at_stage, cost_of, current_stage, forecast, total
from tapir.oracles.stream import in_order
from tapir.rows import user_turn
from tapir.testing.acts import empty, reply, scripted

from .conftest import Open, Serve

PRICE = {"input_per_million": 10.0, "output_per_million": 100.0}


async def ask_all(oracle: EndpointOracle, count: int) -> list[Completion]:
    done = []
    async for completion in in_order(
        lambda i: oracle.complete(user_turn(f"q{i}"), Sampling(max_tokens=100)), range(count), oracle.ahead
    ):
        done.append(completion)
    return done


def test_a_cost_is_tokens_times_price() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=500_000)
    price = PriceConfig(input_per_million=2.0, output_per_million=8.0)
    assert cost_of(usage, price) == 6.0
    assert cost_of(usage, price, is_batch=True) == 3.0


async def test_max_calls_is_never_exceeded_and_every_paid_reply_is_kept(
    serve: Serve, opened: Open, tmp_path: Path
) -> None:
    server = serve(latency_s=0.01)
    async with opened(server, budget=BudgetConfig(max_calls=25)) as oracle:
        with pytest.raises(BudgetError, match=r"budget.max_calls \(25\) is spent: 25 calls; raise it"):
            await ask_all(oracle, 100)
    assert len(server.calls) == 25
    with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.spent("run").calls == 25
    async with opened(server, budget=BudgetConfig(max_calls=25)) as oracle:
        with pytest.raises(BudgetError):
            await ask_all(oracle, 100)
    assert len(server.calls) == 25
    async with opened(server, budget=BudgetConfig(max_calls=100)) as oracle:
        assert sum(done.is_replayed for done in await ask_all(oracle, 100)) == 25
    assert len(server.calls) == 100


async def test_a_budget_that_suffices_is_not_felt(serve: Serve, opened: Open) -> None:
    async with opened(serve(), budget=BudgetConfig(max_calls=100, max_tokens=10**6, max_cost=1.0)) as oracle:
        assert len(await ask_all(oracle, 100)) == 100


async def test_max_cost_is_overshot_by_no_more_than_the_calls_in_flight(
    serve: Serve, opened: Open, tmp_path: Path
) -> None:
    server = serve(scripted(then=reply(usage=(10, 40))), latency_s=0.005)
    async with opened(server, price=PRICE, budget=BudgetConfig(max_cost=0.5)) as oracle:
        with pytest.raises(BudgetError, match=r"max_cost \(0.5 USD\)"):
            await ask_all(oracle, 1000)
    with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
        spent = ledger.spent("run")
    assert 0.5 <= spent.cost <= 0.51
    assert spent.calls == len(server.calls)


async def test_max_tokens_counts_both_ways(serve: Serve, opened: Open) -> None:
    server = serve(scripted(then=reply(usage=(10, 40))))
    async with opened(server, budget=BudgetConfig(max_tokens=1000)) as oracle:
        with pytest.raises(BudgetError, match=r"max_tokens \(1000\)"):
            await ask_all(oracle, 1000)
    assert 20 <= len(server.calls) <= 21


async def test_a_budget_of_nothing_spends_nothing(serve: Serve, opened: Open) -> None:
    server = serve()
    async with opened(server, budget=BudgetConfig(max_cost=0.0)) as oracle:
        with pytest.raises(BudgetError):
            await ask_all(oracle, 5)
    assert server.calls == []


async def test_unusable_replies_are_paid_for_and_booked(serve: Serve, opened: Open, tmp_path: Path) -> None:
    server = serve(scripted(empty(), then=reply(usage=(10, 40))))
    async with opened(server, price=PRICE) as oracle:
        await ask_all(oracle, 1)
    with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
        spent = ledger.spent("run")
    assert (spent.calls, spent.input_tokens, spent.output_tokens) == (2, 20, 45)
    assert spent.cost == pytest.approx((20 * 10 + 45 * 100) / 1e6)


async def test_spending_is_booked_by_stage_and_estimates_are_marked(serve: Serve, opened: Open, tmp_path: Path) -> None:
    async with opened(serve(scripted(reply(), then=reply(usage=None)))) as oracle:
        for stage in ("answer", "judge"):
            with at_stage(stage):
                await oracle.complete(user_turn(stage), Sampling())
        assert current_stage() == ""
    with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
        rows = ledger.spending("run")
        assert ledger.spending("another") == []
    assert [(row.stage, row.calls, row.estimated_calls) for row in rows] == [("answer", 1, 0), ("judge", 1, 1)]


async def test_stages_that_run_side_by_side_are_told_apart() -> None:
    async def work(stage: str) -> str:
        with at_stage(stage):
            await asyncio.sleep(0)
            return current_stage()

    assert await asyncio.gather(work("a"), work("b")) == ["a", "b"]


def test_a_forecast_scales_what_was_spent() -> None:
    spent = Spending(run="r", role="judge", stage="s", calls=10, input_tokens=100, output_tokens=50, cost=0.5)
    ahead = forecast(spent, done=10, expected=40)
    assert (ahead.calls, ahead.input_tokens, ahead.cost) == (40, 400, 2.0)
    assert forecast(spent, done=0, expected=40) == spent
    assert forecast(spent, done=50, expected=40) == spent
    assert total([spent, spent]).cost == 1.0
