"""Calls through the batch API: half price, one submission, whatever happens in between."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tapir.errors import OracleError
from tapir.oracles.base import Completion, Sampling, Unanswered
from tapir.oracles.build import EndpointOracle
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.money import at_stage
from tapir.oracles.stream import in_order
from tapir.rows import user_turn
from tapir.testing.acts import Act, cut_off, reply, reset, status, torn
from tapir.testing.batches import BatchDesk

from .conftest import Open, Serve

BATCH = {"batch": True, "batch_poll_s": 0.01}


@pytest.fixture(autouse=True)
def no_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapir.oracles.batch.QUIET_S", 0.02)


async def ask_all(oracle: EndpointOracle, count: int) -> list[Completion]:
    async def ask(i: int) -> Completion:
        return await oracle.complete(user_turn(f"q{i}"), Sampling())

    return [done async for done in in_order(ask, range(count), oracle.ahead)]


def echo(call: Any) -> Act:
    return reply(f"a {call.prompt}", usage=(100, 50))


async def test_a_batch_answers_every_call_at_half_price(serve: Serve, opened: Open, tmp_path: Path) -> None:
    server = serve(echo)
    desk = BatchDesk(server, looks=3)
    price = {"input_per_million": 1.0, "output_per_million": 2.0}
    with at_stage("judge"):
        async with opened(server, price=price, **BATCH) as oracle:
            replies = await ask_all(oracle, 50)
    assert [r.text for r in replies] == [f"a q{i}" for i in range(50)]
    assert not any(r.is_replayed for r in replies)
    assert len(desk.batches) == 1
    assert len(desk.calls_of("batch_1")) == 50
    with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
        (row,) = ledger.spending("run")
        assert ledger.query("SELECT count(*) FROM batches") == [(0,)]
    assert (row.stage, row.role, row.calls) == ("judge", "teacher", 50)
    assert row.cost == pytest.approx(50 * 200e-6 / 2)


async def test_what_a_batch_answered_any_endpoint_replays(serve: Serve, opened: Open) -> None:
    server = serve(echo)
    desk = BatchDesk(server)
    async with opened(server, **BATCH) as oracle:
        await ask_all(oracle, 5)
    async with opened(server) as oracle:
        assert all(r.is_replayed for r in await ask_all(oracle, 5))
    assert desk.uploads == 1 and len(server.calls) == 5


async def test_more_calls_than_fit_one_batch_go_out_in_several(serve: Serve, opened: Open) -> None:
    server = serve(echo)
    desk = BatchDesk(server)
    async with opened(server, batch_rows=4, **BATCH) as oracle:
        assert len(await ask_all(oracle, 10)) == 10
    assert sorted(len(desk.calls_of(name)) for name in desk.batches) == [2, 4, 4]


async def test_calls_that_failed_in_a_batch_go_into_the_next(serve: Serve, opened: Open) -> None:
    def plan(call: Any) -> Act:
        if call.attempt == 0 and call.prompt == "q1":
            return status(500)
        if call.attempt == 0 and call.prompt == "q2":
            return reset()
        if call.attempt == 0 and call.prompt == "q3":
            return cut_off()
        return echo(call)

    server = serve(plan)
    desk = BatchDesk(server)
    async with opened(server, **BATCH) as oracle:
        replies = await ask_all(oracle, 5)
    assert [r.text for r in replies] == [f"a q{i}" for i in range(5)]
    assert replies[3].replies == 2
    assert [len(desk.calls_of(name)) for name in desk.batches] == [5, 3]


async def test_calls_that_no_batch_answers_are_refused(serve: Serve, opened: Open) -> None:
    acts = {"q0": status(500), "q1": status(400, "too long"), "q2": cut_off()}
    server = serve(lambda call: acts[call.prompt])
    BatchDesk(server)
    reasons = []
    async with opened(server, max_attempts=2, **BATCH) as oracle:

        async def ask(i: int) -> None:
            try:
                await oracle.complete(user_turn(f"q{i}"), Sampling())
            except Unanswered as refused:
                reasons.append(refused.reason)

        await asyncio.gather(*(ask(i) for i in range(3)))
    assert sorted(reasons) == ["rejected", "server-error", "truncated"]


async def test_an_expired_batch_keeps_what_came_and_asks_for_the_rest(serve: Serve, opened: Open) -> None:
    server = serve(lambda call: reset() if call.attempt == 0 and call.prompt == "q1" else echo(call))
    desk = BatchDesk(server, outcome="expired")
    async with opened(server, **BATCH) as oracle:
        assert len(await ask_all(oracle, 3)) == 3
    assert [len(desk.calls_of(name)) for name in desk.batches] == [3, 1]


async def test_a_batch_that_the_server_refuses_stops_the_run_and_is_forgotten(
    serve: Serve, opened: Open, tmp_path: Path
) -> None:
    server = serve(echo)
    desk = BatchDesk(server, outcome="failed")
    async with opened(server, **BATCH) as oracle:
        with pytest.raises(OracleError, match="the file is not valid"):
            await ask_all(oracle, 3)
    desk.outcome = "completed"
    async with opened(server, **BATCH) as oracle:
        assert len(await ask_all(oracle, 3)) == 3


async def test_a_run_that_stops_while_a_batch_is_out_finds_it_again(serve: Serve, opened: Open) -> None:
    server = serve(echo)
    desk = BatchDesk(server)
    desk.gate.clear()
    async with opened(server, **BATCH) as oracle:
        task = asyncio.ensure_future(ask_all(oracle, 20))
        assert await asyncio.to_thread(desk.looked.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    desk.gate.set()
    async with opened(server, **BATCH) as oracle:
        assert [r.text for r in await ask_all(oracle, 20)] == [f"a q{i}" for i in range(20)]
    assert (desk.uploads, len(desk.batches)) == (1, 1)


async def test_a_batch_whose_start_was_not_confirmed_is_not_started_twice(serve: Serve, opened: Open) -> None:
    server = serve(echo)
    desk = BatchDesk(server)
    desk._server._routes["/v1/batches"] = lossy(desk)
    async with opened(server, **BATCH) as oracle:
        assert len(await ask_all(oracle, 3)) == 3
    assert len(desk.batches) == 1


def lossy(desk: BatchDesk) -> Callable[..., Act]:
    """The desk's own route, but the reply to the first POST is lost."""

    def handle(method: str, *rest: Any) -> Act:
        act = desk._batch(method, *rest)
        return reset() if method == "POST" and len(desk.batches) == 1 else act

    return handle


async def test_a_server_without_batches_is_named(serve: Serve, opened: Open) -> None:
    async with opened(serve(echo), **BATCH) as oracle:
        with pytest.raises(OracleError, match="batch: false"):
            await ask_all(oracle, 2)


async def test_a_busy_batch_api_is_asked_again(serve: Serve, opened: Open) -> None:
    server = serve(echo)
    desk = BatchDesk(server)
    desk.fails_next = [status(500), status(429, retry_after="0"), reset()]
    async with opened(server, **BATCH) as oracle:
        assert len(await ask_all(oracle, 2)) == 2
    assert desk.uploads == 1


async def test_results_that_do_not_come_through_at_first_are_fetched_again(serve: Serve, opened: Open) -> None:
    server = serve(echo)
    desk = BatchDesk(server)
    faults = [torn(), status(503), reset()]

    def handle(method: str, path: str, headers: Any, body: bytes) -> Act:
        act = desk._file(method, path, headers, body)
        if method == "GET" and faults:
            fault = faults.pop()
            return replace(act, wire=fault.wire) if fault.wire != "whole" else fault
        return act

    server.route("/v1/files", handle)
    async with opened(server, **BATCH) as oracle:
        assert [r.text for r in await ask_all(oracle, 20)] == [f"a q{i}" for i in range(20)]
    assert desk.uploads == 1 and faults == []


KILLED = """
import asyncio, sys
from pathlib import Path
from tapir.config import BudgetConfig, EndpointConfig
from tapir.oracles import batch
from tapir.oracles.base import Sampling
from tapir.oracles.build import open_oracle
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.money import Budget
from tapir.oracles.stream import in_order
from tapir.rows import user_turn
batch.QUIET_S = 0.02
async def main():
    endpoint = EndpointConfig(base_url=sys.argv[1], model="m", batch=True, batch_poll_s=0.01)
    with LedgerFile(Path(sys.argv[2])) as ledger:
        async with open_oracle(endpoint, role="teacher", ledger=ledger, budget=Budget(BudgetConfig(), "run")) as oracle:
            async def ask(i):
                return await oracle.complete(user_turn(f"q{i}"), Sampling())
            print(len([text async for text in in_order(ask, range(30), oracle.ahead)]))
asyncio.run(main())
"""


def test_after_kill_9_the_batch_that_is_out_is_waited_for(serve: Serve, tmp_path: Path) -> None:
    server = serve(echo)
    desk = BatchDesk(server)
    desk.gate.clear()
    arguments = [sys.executable, "-c", KILLED, server.base_url, str(tmp_path / "ledger.sqlite")]
    first = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert desk.looked.wait(20)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    desk.gate.set()
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout == "30\n"
    assert (desk.uploads, len(desk.batches), len(server.calls)) == (1, 1, 30)
