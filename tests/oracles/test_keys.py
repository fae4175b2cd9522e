"""A key is sent where it belongs and shown nowhere."""

import asyncio
import logging
import pickle
import traceback
from pathlib import Path

import pytest

from tapir.config import BudgetConfig, EndpointConfig
from tapir.errors import ConfigError
from tapir.oracles.base import Sampling
from tapir.oracles.build import open_oracle
from tapir.oracles.keys import MASK, ApiKey, is_local, read_key
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.money import Budget
from tapir.rows import user_turn
from tapir.testing.acts import Act, Call, malformed, reply, status
from tapir.testing.batches import BatchDesk

from .conftest import Open, Serve

KEY = "sk-proj-5ecret+Key/0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


async def test_the_key_is_sent_as_a_bearer_token(serve: Serve, opened: Open) -> None:
    server = serve(key=KEY)
    async with opened(server) as oracle:
        await oracle.complete(user_turn("q"), Sampling())
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"


def echoing(call: Call) -> Act:
    """A server that repeats the key in every way it can."""
    said = call.headers["authorization"]
    acts = [
        status(401, f"Incorrect API key provided: {said}"),
        status(400, f"{said} is bad"),
        status(500, said),
        status(429, said, retry_after="0"),
        malformed(f"<html>{said}</html>".encode()),
        malformed(f'{{"error": "{said}"}}'.encode()),
        Act(status=302, headers={"Location": f"http://127.0.0.1:9/?key={KEY}"}, body=said.encode()),
        reply(f"your key is {KEY}"),
        reply(KEY, finish="length"),
        Act(wire="reset"),
    ]
    return acts[int(call.prompt) % len(acts)]


async def test_the_key_appears_in_no_file_log_or_error_of_a_run_in_which_every_call_fails(
    serve: Serve,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    fast_backoff: None,
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    server = serve(echoing)
    desk = BatchDesk(server)
    shown: list[str] = []
    plain = EndpointConfig(base_url=server.base_url, model="m", total_timeout_s=2, max_attempts=2)
    with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
        for endpoint in (plain, plain.model_copy(update={"batch": True, "batch_poll_s": 0.01, "model_version": "2"})):
            budget = Budget(BudgetConfig(), "run")
            async with open_oracle(endpoint, role="teacher", ledger=ledger, budget=budget) as oracle:
                shown += [repr(vars(oracle)), repr(oracle.traffic)]
                for result in await asyncio.gather(
                    *(oracle.complete(user_turn(str(i)), Sampling()) for i in range(10)), return_exceptions=True
                ):
                    shown.append(repr(result))
                    if isinstance(result, BaseException):
                        shown += [str(result), repr(vars(result)), *traceback.format_exception(result)]
    assert len(desk.batches) >= 1
    shown += [record.getMessage() for record in caplog.records] + list(capfd.readouterr())
    for text in [*shown, *contents(tmp_path)]:
        assert KEY not in text
        assert "5ecret" not in text
    assert any(MASK in text for text in shown)


def contents(directory: Path) -> list[str]:
    """All files below `directory`, as text."""
    texts = [path.read_bytes().decode("latin-1") for path in directory.rglob("*") if path.is_file()]
    assert texts
    return texts


@pytest.mark.parametrize(
    ("settings", "set_key", "says"),
    [
        ({"base_url": "https://api.openai.com/v1"}, False, "OPENAI_API_KEY is not set"),
        ({"base_url": "https://example.com/v1", "api_key_env": "OTHER_KEY"}, True, "OTHER_KEY is not set"),
        ({"base_url": "http://10.0.0.5:8000/v1"}, False, "api_key_env: null"),
        ({"base_url": "https://example.com/v1"}, True, "write `api_key_env: OPENAI_API_KEY`"),
        ({"base_url": "https://openai.com.evil.example/v1"}, True, "would go to openai.com.evil.example"),
    ],
)
def test_a_missing_or_misdirected_key_is_a_configuration_error(
    settings: dict[str, str], set_key: bool, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not set_key:
        monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError) as wrong:
        read_key(EndpointConfig.model_validate({"model": "m", **settings}))
    assert says in str(wrong.value) and KEY not in str(wrong.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "https://api.openai.com/v1"},
        {"base_url": "https://example.com/v1", "api_key_env": "OPENAI_API_KEY"},
        {"base_url": "http://localhost:8000/v1"},
    ],
)
def test_a_key_goes_where_the_configuration_says(settings: dict[str, str]) -> None:
    assert read_key(EndpointConfig.model_validate({"model": "m", **settings})).header()


def test_no_key_is_needed_on_this_machine_or_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert read_key(EndpointConfig(base_url="http://127.0.0.1:1/v1", model="m")).header() == {}
    assert read_key(EndpointConfig(base_url="http://gpu-box/v1", model="m", api_key_env=None)).header() == {}


def test_a_key_that_no_header_can_carry_is_named_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ünseen\nX-Evil: 1")
    with pytest.raises(ConfigError) as wrong:
        read_key(EndpointConfig(base_url="https://api.openai.com/v1", model="m"))
    assert "nseen" not in str(wrong.value)


def test_a_key_shows_itself_in_no_form() -> None:
    held = ApiKey(KEY)
    assert KEY not in repr(held) and KEY not in f"{held}"
    with pytest.raises(TypeError):
        pickle.dumps(held)
    assert held.mask(f"a {KEY} b sk-proj-5ecret%2BKey%2F0123456789") == f"a {MASK} b {MASK}"
    assert ApiKey(None).mask("text") == "text"


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_which_hosts_are_this_machine(host: str, is_here: bool) -> None:
    assert is_local(host) is is_here
