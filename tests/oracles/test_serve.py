"""An independent server: `transformers serve` with a tiny model of our own, over HTTP."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapir.config import BudgetConfig, EndpointConfig
from tapir.errors import OracleError
from tapir.oracles.base import Completion, Sampling
from tapir.oracles.build import open_oracle
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.money import Budget
from tapir.oracles.stream import in_order
from tapir.rows import user_turn

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address and the model's name of a running server."""
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    from tapir.testing.student import tiny_student

    model = tiny_student(tmp_path_factory.mktemp("model"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("log") / "serve.log").open("wb")
    command = [Path(sys.executable).with_name("transformers"), "serve", model, "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*map(str, command), "--port", str(port), "--device", "cpu"],
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, Path(log.name))
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server says that it is well."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(log.read_text())


async def test_an_independent_server_answers_and_the_ledger_replays(served: tuple[str, str], tmp_path: Path) -> None:
    base_url, model = served
    endpoint = EndpointConfig(base_url=base_url, model=model, api_key_env=None, max_concurrency=4)

    async def run() -> list[Completion]:
        with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
            budget = Budget(BudgetConfig(), "run", ledger.spent("run"))
            async with open_oracle(endpoint, role="student", ledger=ledger, budget=budget, as_is=True) as oracle:
                sampling = Sampling(max_tokens=8)
                stream = in_order(lambda i: oracle.complete(user_turn(f"What is {i}?"), sampling), range(6), 4)
                return [done async for done in stream]

    first, again = await run(), await run()
    assert len(first) == 6
    assert all(done.usage.input_tokens > 0 and 0 < done.usage.output_tokens <= 8 for done in first)
    assert not any(done.usage.is_estimated or done.is_replayed for done in first)
    assert all(done.is_replayed for done in again)
    assert [done.text for done in again] == [done.text for done in first]


async def test_an_independent_server_that_lacks_the_path_is_named(served: tuple[str, str], tmp_path: Path) -> None:
    base_url, model = served
    endpoint = EndpointConfig(base_url=base_url + "/wrong", model=model, api_key_env=None)
    with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
        async with open_oracle(endpoint, role="judge", ledger=ledger, budget=Budget(BudgetConfig(), "run")) as oracle:
            with pytest.raises(OracleError, match=r"404 .*base_url ends in /v1"):
                await oracle.complete(user_turn("q"), Sampling())
