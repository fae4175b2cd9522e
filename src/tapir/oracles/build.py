"""From an endpoint's configuration to the oracle that a role asks."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from tapir.config import EndpointConfig
from tapir.oracles.base import Completion, Oracle, Sampling
from tapir.oracles.batch import BatchQueue, open_batches
from tapir.oracles.batch_wire import BatchWire
from tapir.oracles.endpoint import ChatEndpoint, open_session
from tapir.oracles.keys import read_key
from tapir.oracles.ledger import Ledger
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.limiter import Limited, Limiter
from tapir.oracles.money import Budget
from tapir.oracles.retrying import Retrying
from tapir.rows import Message


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint is doing, now."""

    in_flight: int
    limit: int
    """Calls in flight that the client allows itself at the moment."""
    peak: int
    failures: dict[str, int]
    """Failed attempts by kind."""


class EndpointOracle:
    """A chat server behind ledger, budget, retries and limits."""

    def __init__(self, stack: Oracle, traffic: Callable[[], Traffic], ahead: int) -> None:
        self._stack = stack
        self._traffic = traffic
        self.ahead = ahead
        """How many calls to have out at once (`in_order`'s `ahead`): enough to keep every slot busy."""

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The reply to `messages`."""
        return await self._stack.complete(messages, sampling)

    @property
    def traffic(self) -> Traffic:
        """How the endpoint is doing, now."""
        return self._traffic()


@asynccontextmanager
async def open_oracle(
    endpoint: EndpointConfig,
    *,
    role: str,
    ledger: LedgerFile,
    budget: Budget,
    limiter: Limiter | None = None,
    as_is: bool = False,
) -> AsyncIterator[EndpointOracle]:
    """The oracle for `endpoint`: `Ledger(Retrying(Limited(endpoint)))`, over a connection pool that ends with it.

    `limiter`: the server's, where other roles ask there too.
    With `endpoint.batch` it is `Ledger(batches)`, of which calls wait for hours and many more must be out at once.

    `as_is`: whatever the model says is its answer, empty or cut off (a student's own words); otherwise such replies
    are asked for again and then refused.

    Raises:
        ConfigError: the endpoint wants a key and there is none.
    """
    key = read_key(endpoint)
    async with open_session(endpoint, key) as session:
        if endpoint.batch:
            wire = BatchWire(endpoint, session, key, role=role)
            async with open_batches(wire, ledger, endpoint, role=role, run=budget.run, as_is=as_is) as batches:
                stack = Ledger(batches, ledger, budget, endpoint, role=role, name=wire.name, as_is=as_is, is_batch=True)
                yield EndpointOracle(stack, lambda: _batch_traffic(batches), ahead=endpoint.calls_ahead)
            return
        limiter = limiter or Limiter(endpoint)
        chat = ChatEndpoint(endpoint, session, key, limiter, role=role)
        retrying = Retrying(Limited(chat, limiter), endpoint, chat.name, as_is=as_is)
        stack = Ledger(retrying, ledger, budget, endpoint, role=role, name=chat.name, as_is=as_is)
        yield EndpointOracle(stack, lambda: _chat_traffic(limiter, retrying), ahead=endpoint.calls_ahead)


def _chat_traffic(limiter: Limiter, retrying: Retrying) -> Traffic:
    return Traffic(
        in_flight=limiter.in_flight,
        limit=int(limiter.limit),
        peak=limiter.peak,
        failures=dict(retrying.failures),
    )


def _batch_traffic(batches: BatchQueue) -> Traffic:
    return Traffic(in_flight=batches.waiting, limit=batches.most, peak=batches.peak, failures={})
