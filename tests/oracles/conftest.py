"""A faulty server and an oracle that asks it."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tapir.config import BudgetConfig, EndpointConfig
from tapir.oracles.build import EndpointOracle, open_oracle
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.money import Budget
from tapir.testing.server import FaultyServer

Serve = Callable[..., FaultyServer]
Open = Callable[..., AbstractAsyncContextManager[EndpointOracle]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that end with the test."""
    running: list[FaultyServer] = []

    def start(*args: Any, **kwargs: Any) -> FaultyServer:
        server = FaultyServer(*args, **kwargs)
        server.start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def fast_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between attempts that no test has to sit out."""
    monkeypatch.setattr("tapir.oracles.retrying.BASE_S", 0.001)


@pytest.fixture
def opened(tmp_path: Path, fast_backoff: None) -> Open:
    """Open the oracle for a server, on a ledger that the test's oracles share."""

    @asynccontextmanager
    async def open_one(
        server: FaultyServer, *, budget: BudgetConfig | None = None, as_is: bool = False, **settings: Any
    ) -> AsyncIterator[EndpointOracle]:
        endpoint = EndpointConfig(base_url=server.base_url, model="m", **settings)
        with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
            purse = Budget(budget or BudgetConfig(), "run", ledger.spent("run"))
            async with open_oracle(endpoint, role="teacher", ledger=ledger, budget=purse, as_is=as_is) as oracle:
                yield oracle

    return open_one
