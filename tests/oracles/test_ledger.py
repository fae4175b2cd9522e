"""The ledger: nothing is paid twice, nothing that was paid for is lost."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tapir.config import BudgetConfig, EndpointConfig
from tapir.errors import ConfigError
from tapir.oracles.base import Completion, Sampling, Unanswered, Usage
from tapir.oracles.ledger import ledger_key
from tapir.oracles.ledger_admin import export_ledger, ledger_stats, prune_ledger
from tapir.oracles.ledger_cli import app
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.ledger_schema import Booking, Entry
from tapir.oracles.stream import in_order
from tapir.rows import user_turn
from tapir.testing.acts import cut_off, reply, scripted, status

from .conftest import Open, Serve

ENDPOINT = EndpointConfig(base_url="http://localhost/v1", model="m")


def entry(i: int, text: str = "answer", run: str = "run") -> Entry:
    return Entry(
        key=i.to_bytes(16, "big"),
        completion=Completion(
            text=f"{text} {i}", finish="stop", usage=Usage(input_tokens=10, output_tokens=5), model="faulty-1"
        ),
        cost=0.5,
        created_s=1.7e9,
        booking=Booking(run, "judge", "round-0/judge"),
        asked="m",
    )


def fill(path: Path, count: int, text: str = "answer") -> None:
    async def put() -> None:
        with LedgerFile(path) as ledger:
            await asyncio.gather(*(ledger.put(entry(i, text)) for i in range(count)))

    asyncio.run(put())


def held(path: Path) -> dict[int, str]:
    with LedgerFile(path) as ledger:
        return {int.from_bytes(e.key, "big"): e.completion.text for e in ledger.entries()}


async def test_what_was_answered_is_replayed_and_costs_nothing(serve: Serve, opened: Open) -> None:
    server = serve(scripted(reply("42", usage=(12, 3))))
    async with opened(server) as oracle:
        first = await oracle.complete(user_turn("q"), Sampling())
    async with opened(server) as oracle:
        again = await oracle.complete(user_turn("q"), Sampling())
    assert (again.text, again.usage, again.model) == (first.text, first.usage, first.model)
    assert again.is_replayed and not first.is_replayed
    assert len(server.calls) == 1


async def test_the_same_call_made_at_once_is_sent_once(serve: Serve, opened: Open) -> None:
    server = serve(latency_s=0.02)
    async with opened(server) as oracle:
        replies = await asyncio.gather(*(oracle.complete(user_turn("q"), Sampling()) for _ in range(20)))
    assert len({r.text for r in replies}) == 1
    assert sum(r.is_replayed for r in replies) == 19
    assert len(server.calls) == 1


async def test_a_second_caller_asks_itself_when_the_first_has_failed(serve: Serve, opened: Open) -> None:
    server = serve(scripted(status(400, "no"), reply("42")), latency_s=0.02)
    async with opened(server) as oracle:
        first, second = await asyncio.gather(
            *(oracle.complete(user_turn("q"), Sampling()) for _ in range(2)), return_exceptions=True
        )
    assert isinstance(first, Unanswered)
    assert isinstance(second, Completion) and second.text == "42"


async def test_an_unusable_reply_is_kept_and_refuses_again_without_a_call(serve: Serve, opened: Open) -> None:
    server = serve(scripted(then=cut_off()))
    for _ in range(2):
        async with opened(server) as oracle:
            with pytest.raises(Unanswered) as refused:
                await oracle.complete(user_turn("q"), Sampling())
            assert refused.value.reason == "truncated"
    assert len(server.calls) == 2
    async with opened(server, as_is=True) as oracle:
        assert (await oracle.complete(user_turn("q"), Sampling())).is_replayed


def test_the_key_holds_all_that_decides_the_reply_and_not_the_address() -> None:
    base = ledger_key(ENDPOINT, user_turn("q"), Sampling())

    def key(turns: Any = user_turn("q"), sampling: Sampling = Sampling(), **settings: Any) -> bytes:  # noqa: B008
        return ledger_key(ENDPOINT.model_copy(update=settings), turns, sampling)

    others = [
        key(user_turn("q2")),
        key(user_turn("q", system="s")),
        key(sampling=Sampling(temperature=0.1)),
        key(sampling=Sampling(top_p=0.9)),
        key(sampling=Sampling(max_tokens=1)),
        key(sampling=Sampling(seed=0)),
        key(sampling=Sampling(attempt=1)),
        key(sampling=Sampling(json_schema={"type": "object"})),
        key(model="m2"),
        key(model_version="2"),
        key(extra_body={"a": 1}),
    ]
    assert len({base, *others}) == len(others) + 1
    assert key(base_url="http://elsewhere:9/v1", timeout_s=1.0, max_concurrency=1) == base
    assert key(sampling=Sampling(json_schema={"b": 1, "a": 2})) == key(sampling=Sampling(json_schema={"a": 2, "b": 1}))


def test_the_key_of_a_call_never_changes_between_versions() -> None:
    assert ledger_key(ENDPOINT, user_turn("q"), Sampling()).hex() == "fb1ba5d435c63c8a3ea636c532fd1cd2"


async def test_a_reply_is_in_the_file_before_it_is_used(serve: Serve, opened: Open, tmp_path: Path) -> None:
    async with opened(serve(scripted(reply("42")))) as oracle:
        await oracle.complete(user_turn("q"), Sampling())
        other = sqlite3.connect(tmp_path / "ledger.sqlite")
        assert other.execute("SELECT text FROM replies").fetchall() == [("42",)]
        other.close()


async def test_commits_are_grouped(tmp_path: Path) -> None:
    with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
        begin = asyncio.get_running_loop().time()
        await asyncio.gather(*(ledger.put(entry(i)) for i in range(200)))
        assert asyncio.get_running_loop().time() - begin < 1.0
        assert ledger.query("SELECT count(*) FROM replies") == [(200,)]


async def test_closing_commits_what_nobody_waits_for_any_more(tmp_path: Path) -> None:
    ledger = LedgerFile(tmp_path / "ledger.sqlite")
    task = asyncio.ensure_future(ledger.put(entry(1)))
    await asyncio.sleep(0)
    task.cancel()
    ledger.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held(tmp_path / "ledger.sqlite") == {1: "answer 1"}


def test_a_full_disk_stops_cleanly_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fill(path, 50)
    code = f"""
import asyncio, resource, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from oracles.test_ledger import entry
from tapir.errors import RunError
from tapir.oracles.ledger_file import LedgerFile
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
async def main():
    with LedgerFile(Path({str(path)!r})) as ledger:
        for i in range(50, 5000):
            try:
                await ledger.put(entry(i, "x" * 1000))
            except RunError as error:
                print(i, error)
                return
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    stopped_at, message = done.stdout.split(" ", 1)
    assert "is the disk full?" in message and "same command to continue" in message
    assert sorted(held(path)) == list(range(int(stopped_at)))
    with LedgerFile(path) as ledger:
        assert ledger.notices == []


ASK = """
import asyncio, json, signal, sys
from pathlib import Path
from tapir.config import BudgetConfig, EndpointConfig
from tapir.oracles.base import Sampling
from tapir.oracles.build import open_oracle
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.money import Budget
from tapir.oracles.stream import in_order
from tapir.rows import user_turn
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may have inherited "ignore"
url, path, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
async def main():
    endpoint = EndpointConfig(base_url=url, model="m", max_concurrency=16, start_concurrency=16)
    with LedgerFile(path) as ledger:
        async with open_oracle(endpoint, role="teacher", ledger=ledger, budget=Budget(BudgetConfig(), "run")) as oracle:
            async def ask(i):
                return (await oracle.complete(user_turn(f"q{i}"), Sampling())).text
            done = [text async for text in in_order(ask, range(count), oracle.ahead)]
    print(len(done))
asyncio.run(main())
"""


def asking(server: Any, path: Path, count: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", ASK, server.base_url, str(path), str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_after_kill_9_no_answered_prompt_is_sent_twice(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    server = serve(latency_s=0.02)
    first = asking(server, path, 400)
    server.wait_for_requests(216)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    kept = set(held(path))
    second = asking(server, path, 400)
    assert second.communicate()[0] == "400\n"
    sent = len(server.calls)
    assert len(set(server.prompts)) == 400
    assert sent <= 400 + 16 + 16  # those in flight, and those whose commit was under way
    assert len(kept) + (sent - 400) >= 200


def test_an_interrupt_ends_quietly_and_keeps_what_was_answered(serve: Serve, tmp_path: Path) -> None:
    server = serve(latency_s=0.1)
    arguments = [sys.executable, "-W", "error", "-c", ASK, server.base_url, str(tmp_path / "ledger.sqlite"), "5000"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        server.wait_for_requests(100, timeout_s=60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in errors and "Unclosed" not in errors and "destroyed" not in errors
    assert len(held(tmp_path / "ledger.sqlite")) >= 100 - 2 * 16


def test_two_processes_on_one_ledger_ask_nothing_twice(serve: Serve, tmp_path: Path) -> None:
    server = serve(latency_s=0.01)
    both = [asking(server, tmp_path / "ledger.sqlite", 300) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["300\n", "300\n"]
    assert sorted(server.prompts) == sorted({f"q{i}" for i in range(300)})


def test_a_claim_dies_with_its_process(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    server = serve(latency_s=60)
    first = asking(server, path, 1)
    server.wait_for_requests(1)
    second = asking(server, path, 1)
    server.latency_s = 0.0
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.communicate(timeout=20)[0] == "1\n"


# --- looking after it -----------------------------------------------------------------------------------------------


def test_stats_export_and_prune(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fill(path, 4)
    stats = ledger_stats(path)
    assert (stats.replies, stats.total.calls, stats.total.output_tokens, stats.total.cost) == (4, 4, 20, 2.0)
    assert [(m.model, m.replies) for m in stats.models] == [("m", 4)]
    assert [row["text"] for row in export_ledger(path, "run")] == [f"answer {i}" for i in range(4)]
    assert list(export_ledger(path, "another")) == []
    assert prune_ledger(path, older_than_days=1, model="m") == 4
    after = ledger_stats(path)
    assert (after.replies, after.total.cost) == (0, 2.0)
    with pytest.raises(ConfigError, match="condition"):
        prune_ledger(path)
    with pytest.raises(ConfigError, match="no ledger"):
        ledger_stats(tmp_path / "none.sqlite")


def test_the_commands_print_what_the_functions_find(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fill(path, 2)
    run = CliRunner()
    assert "2 replies" in run.invoke(app, ["stats", str(path)]).output
    assert json.loads(run.invoke(app, ["stats", str(path), "--json"]).output)["replies"] == 2
    lines = run.invoke(app, ["export", str(path)]).output.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["answer 0", "answer 1"]
    assert run.invoke(app, ["export", str(path), "--out", str(tmp_path / "out.jsonl")]).exit_code == 0
    assert (tmp_path / "out.jsonl").read_text().splitlines() == lines
    assert "2 replies forgotten" in run.invoke(app, ["prune", str(path), "--run", "run"]).output


async def test_replays_are_counted_as_saved(serve: Serve, opened: Open, tmp_path: Path) -> None:
    server = serve(scripted(then=reply(usage=(100, 50))))
    price = {"input_per_million": 1.0, "output_per_million": 2.0}
    for _ in range(3):
        async with opened(server, price=price) as oracle:
            async for _ in in_order(lambda i: oracle.complete(user_turn(f"q{i}"), Sampling()), range(4), 8):
                pass
    with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
        (row,) = ledger.spending("run")
    assert (row.role, row.calls, row.input_tokens, row.output_tokens) == ("teacher", 4, 400, 200)
    assert row.cost == pytest.approx(4 * 200e-6)
    assert (row.saved_calls, row.saved_tokens) == (8, 1200)
    assert row.saved_cost == pytest.approx(8 * 200e-6)
    assert BudgetConfig().max_cost is None
