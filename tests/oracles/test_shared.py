"""What the oracles of a run share: the limiter of a server, the ledger with its notices, and what is asked again."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tapir.build import Oracles, build_student, open_oracles
from tapir.config import EndpointConfig, RunConfig, parse_config
from tapir.errors import RunError
from tapir.oracles.base import Sampling, Unanswered
from tapir.oracles.ledger_admin import prune_ledger
from tapir.oracles.ledger_file import LEDGER, LedgerFile, run_spending
from tapir.oracles.limiter import limits_of, server_of
from tapir.presets import preset_text
from tapir.roles import Aside, Stage
from tapir.rows import Answer, Checkpoint, Example, Lineage, Refused, example, refuse, user_turn
from tapir.store import RunStore
from tapir.store.files import read_json
from tapir.testing.acts import cut_off, reply, scripted, status

from .conftest import Serve


def config(tmp_path: Path, base_url: str, **endpoints: dict[str, Any]) -> RunConfig:
    """A run whose teacher and judge ask at `base_url`, with these settings of their endpoints."""
    tree = yaml.safe_load(preset_text("paper"))
    common = {"base_url": base_url, "model": "m", "structured_output": "never"}
    for role in ("teacher", "judge"):
        tree[role] = {"kind": "endpoint", "endpoint": common | endpoints.get(role, {})}
    tree |= {"name": "shared", "runs": str(tmp_path), "corpus": {"path": "world"}, "student": {"model": "world"}}
    if "student" in endpoints:
        tree["student"] |= {"engine": "endpoint", "endpoint": common | endpoints["student"]}
    return parse_config(tree, "test")


async def ask_both(cfg: RunConfig, calls: int) -> None:
    async with open_oracles(cfg, print) as oracles:
        assert cfg.teacher.kind == "endpoint" and cfg.judge.kind == "endpoint"
        both = [
            await oracles.open(cfg.teacher.endpoint, "teacher"),
            await oracles.open(cfg.judge.endpoint, "judge"),
        ]
        prompts = [(oracle, f"{i} for {n}") for n, oracle in enumerate(both) for i in range(calls)]
        await asyncio.gather(*(oracle.complete(user_turn(text), Sampling()) for oracle, text in prompts))


async def test_two_roles_at_one_server_keep_to_its_cap_together(tmp_path: Path, serve: Serve) -> None:
    server = serve(lambda call: reply("ok", latency_s=0.01))
    await ask_both(config(tmp_path, server.base_url, teacher={"max_concurrency": 3}), 20)
    assert server.load.answered == 40
    assert server.load.peak == 3, "the judge, whose cap is the default, keeps to the teacher's"


async def test_other_models_and_other_keys_have_limiters_of_their_own(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda call: reply("ok", latency_s=0.05))
    await ask_both(config(tmp_path, server.base_url, teacher={"max_concurrency": 3}, judge={"model": "n"}), 10)
    assert server.load.peak > 3


def test_of_two_caps_the_smaller_holds_and_a_default_says_nothing() -> None:
    def endpoint(**settings: Any) -> EndpointConfig:
        return EndpointConfig(base_url="http://h/v1", model="m", **settings)

    one = endpoint(requests_per_minute=600, max_concurrency=512, timeout_s=30)
    two = endpoint(requests_per_minute=90, tokens_per_minute=5000, timeout_s=300)
    for pair in ([one, two], [two, one]):
        found = limits_of(pair)
        assert (found.requests_per_minute, found.tokens_per_minute) == (90, 5000)
        assert (found.max_concurrency, found.timeout_s) == (512, 300)
    assert limits_of([endpoint(max_concurrency=8), one]).max_concurrency == 8
    assert limits_of([endpoint(), endpoint()]) == endpoint()
    assert server_of(one) == server_of(two) != server_of(endpoint(api_key_env="OTHER_KEY"))


def torn_ledger(tmp_path: Path) -> Path:
    from .test_ledger import fill

    path = tmp_path / LEDGER
    fill(path, 300, "x" * 700)
    os.truncate(path, path.stat().st_size // 2)
    return path


def test_a_run_says_what_was_lost_of_a_torn_ledger(tmp_path: Path) -> None:
    torn_ledger(tmp_path)
    heard: list[str] = []
    cfg = config(tmp_path, "http://127.0.0.1:9/v1")

    async def open_one() -> None:
        async with AsyncExitStack() as stack:
            assert cfg.teacher.kind == "endpoint"
            await Oracles(cfg, stack, heard.append).open(cfg.teacher.endpoint, "teacher")

    asyncio.run(open_one())
    assert len(heard) == 1 and "of 300 replies were salvaged" in heard[0]


@pytest.mark.parametrize("words", [("stats",), ("stats", "--json"), ("export",), ("prune", "--only-unusable")])
def test_the_ledger_commands_say_what_was_lost(tmp_path: Path, words: tuple[str, ...]) -> None:
    path = torn_ledger(tmp_path)
    command = [sys.executable, "-m", "tapir", "ledger", words[0], str(path), *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.count("of 300 replies were salvaged") == 1


def test_status_says_that_the_ledger_is_torn_and_leaves_it_alone(tmp_path: Path) -> None:
    path = torn_ledger(tmp_path)
    cfg = config(tmp_path, "http://127.0.0.1:9/v1")
    asyncio.run(_written(cfg))
    before = path.read_bytes()
    command = [sys.executable, "-m", "tapir", "status", str(cfg.directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "the ledger is damaged" in done.stderr and "salvages it" in done.stderr
    assert path.read_bytes() == before


async def _written(cfg: RunConfig) -> None:
    from test_store import Quiet

    async with RunStore(cfg.directory, Quiet()) as run:
        run.write_manifest(cfg.model_dump(mode="json"), {})


class Asking:
    """A role that answers rows through an oracle."""

    def __init__(self, oracle: Any) -> None:
        self._oracle = oracle

    def identity(self, verb: str) -> dict[str, Any]:
        return {"asking": verb}

    async def answer(self, stage: Stage, rows: list[Example]) -> AsyncIterator[Answer | Refused]:
        for row in rows:
            try:
                completion = await self._oracle.complete(row.turns, Sampling())
            except Unanswered as error:
                yield refuse(row, error.reason, str(error))
            else:
                yield Answer(id=row.id, response=completion.text, finish="stop", tokens=1)


def rows(*texts: str) -> list[Example]:
    return [example(user_turn(text), "", Lineage(source="test")) for text in texts]


async def go(cfg: RunConfig, texts: tuple[str, ...], *, retry: bool = False, most: float = 1.0) -> dict[str, int]:
    """One stage of a run; its refusals."""
    from test_store import Quiet

    store = RunStore(cfg.directory, Quiet(), retry_refused=retry, max_refused_fraction=most)
    async with store, open_oracles(cfg, print) as oracles:
        assert cfg.teacher.kind == "endpoint"
        role = Asking(await oracles.open(cfg.teacher.endpoint, "teacher"))
        await store.round(0).step("answer", role.answer, rows(*texts))
    record = read_json(cfg.directory / "stages/00-answer/stage.json")
    assert record is not None
    return dict(record["refused"])


TEXTS = ("good", "cut", "filtered", "long", "down")


async def test_resuming_pays_nothing_again_and_retries_on_request(
    tmp_path: Path, serve: Serve, fast_backoff: None
) -> None:
    mended = False

    def plan(call: Any) -> Any:
        match call.prompt:
            case "cut" if not mended:
                return cut_off()
            case "filtered":
                return reply("", finish="content_filter")
            case "long" if not mended:
                return status(400, "maximum context length exceeded")
            case "down" if not mended:
                return status(500)
        return reply("ok")

    server = serve(plan)
    cfg = config(tmp_path, server.base_url, teacher={"max_attempts": 2})
    found = await go(cfg, TEXTS)
    assert found == {"truncated": 1, "content-filter": 1, "rejected": 1, "server-error": 1}
    asked = len(server.calls)
    assert await go(cfg, TEXTS) == found and len(server.calls) == asked, "a whole stage is replayed as it is"
    mended = True
    assert await go(cfg, TEXTS, retry=True) == {"truncated": 1, "content-filter": 1}
    assert [call.prompt for call in server.calls[asked:]] == ["long", "down"], "only what got no reply is asked again"
    asked = len(server.calls)
    prune_ledger(tmp_path / LEDGER, only_unusable=True)
    assert await go(cfg, TEXTS, retry=True) == {"content-filter": 1}
    assert [call.prompt for call in server.calls[asked:]] == ["cut", "filtered"]


async def test_a_stage_that_stopped_the_run_asks_again_without_being_told(
    tmp_path: Path, serve: Serve, fast_backoff: None
) -> None:
    server = serve(scripted(reply("ok"), status(500), status(500), reply("ok")))
    cfg = config(tmp_path, server.base_url, teacher={"max_attempts": 2})
    with pytest.raises(RunError, match="1 server-error"):
        await go(cfg, ("one", "two"), most=0.2)
    assert await go(cfg, ("one", "two"), most=0.2) == {}
    assert [call.prompt for call in server.calls] == ["one", "two", "two", "two"]


async def test_a_served_students_answers_are_booked_and_never_mixed_up_between_rounds(
    tmp_path: Path, serve: Serve
) -> None:
    server = serve(lambda call: reply(f"answer {len(server.calls)}", usage=(5, 7)))
    cfg = config(tmp_path, server.base_url, student={"model": "served", "model_version": "mine"})

    async def answers(digest: str, work: str) -> list[str]:
        async with open_oracles(cfg, print) as oracles:
            student = build_student(cfg, oracles)
            stage = Aside("answer", tmp_path / work)
            found = student.answer(stage, Checkpoint(path=str(tmp_path), digest=digest), rows("q"))
            return [row.response async for row in found if isinstance(row, Answer)]

    assert await answers("one", "a") == ["answer 1"]
    assert await answers("two", "b") == ["answer 2"], "other weights under the same name"
    assert await answers("one", "c") == ["answer 1"], "the same weights are not asked twice"
    assert len(server.calls) == 2
    (spent,) = run_spending(tmp_path / LEDGER, "shared")
    assert (spent.role, spent.calls, spent.saved_calls) == ("student", 2, 1)
    with LedgerFile(tmp_path / LEDGER) as ledger:
        assert {entry.asked for entry in ledger.entries()} == {"served"}
