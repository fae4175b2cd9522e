"""Money: what calls cost, who spent it on what, and where a run stops by itself."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self

import msgspec

from tapir.config import BudgetConfig, PriceConfig
from tapir.errors import BudgetError
from tapir.oracles.base import Completion, Usage

_STAGE: ContextVar[str] = ContextVar("tapir_stage", default="")


@contextmanager
def at_stage(name: str) -> Iterator[None]:
    """Book the calls made inside, and in tasks started inside, under the stage `name`."""
    token = _STAGE.set(name)
    try:
        yield
    finally:
        _STAGE.reset(token)


def current_stage() -> str:
    """The stage that calls are booked under; empty outside `at_stage`."""
    return _STAGE.get()


def cost_of(usage: Usage, price: PriceConfig, *, is_batch: bool = False) -> float:
    """What `usage` costs, in the currency of the prices."""
    cost = usage.input_tokens * price.input_per_million + usage.output_tokens * price.output_per_million
    return cost * (price.batch_factor if is_batch else 1.0) / 1e6


def cost_of_call(completion: Completion, price: PriceConfig, *, is_batch: bool = False) -> float:
    """What a call costs with all its replies, the unusable ones too."""
    cost = cost_of(completion.usage, price, is_batch=is_batch)
    return cost + (cost_of(completion.wasted, price, is_batch=is_batch) if completion.wasted else 0.0)


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """What one role has spent in one stage of one run, and what the ledger has saved it."""

    run: str
    role: str
    stage: str
    calls: int = 0
    """Replies paid for, the unusable ones too."""
    input_tokens: int = 0
    output_tokens: int = 0
    estimated_calls: int = 0
    """Calls whose tokens are our estimate, because the server did not say."""
    cost: float = 0.0
    saved_calls: int = 0
    saved_tokens: int = 0
    saved_cost: float = 0.0
    """What the replayed calls cost when they were paid for."""

    def __add__(self, other: Self) -> "Spending":
        return Spending(
            run=self.run,
            role=self.role,
            stage=self.stage,
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            estimated_calls=self.estimated_calls + other.estimated_calls,
            cost=self.cost + other.cost,
            saved_calls=self.saved_calls + other.saved_calls,
            saved_tokens=self.saved_tokens + other.saved_tokens,
            saved_cost=self.saved_cost + other.saved_cost,
        )


def total(rows: Iterable[Spending], run: str = "", role: str = "") -> Spending:
    """The sum of `rows`."""
    return sum(rows, Spending(run=run, role=role, stage=""))


def forecast(spent: Spending, done: int, expected: int) -> Spending:
    """What `spent` will have become when `expected` rows are done, of which `done` are; itself while none is.

    Rows that the ledger answered are free now and are taken as a sign that as large a share of the rest will be.
    """
    if done <= 0 or expected <= done:
        return spent
    scale = expected / done
    return Spending(
        run=spent.run,
        role=spent.role,
        stage=spent.stage,
        calls=round(spent.calls * scale),
        input_tokens=round(spent.input_tokens * scale),
        output_tokens=round(spent.output_tokens * scale),
        estimated_calls=round(spent.estimated_calls * scale),
        cost=spent.cost * scale,
        saved_calls=round(spent.saved_calls * scale),
        saved_tokens=round(spent.saved_tokens * scale),
        saved_cost=spent.saved_cost * scale,
    )


class Budget:
    """What a run may spend, shared by all its oracles.

    A call that the budget has no room for waits for those in flight: when they end, it may fit after all, or
    BudgetError is raised, with every paid reply in the ledger by then. So the run overshoots by at most what the
    calls in flight turn out to take beyond their estimates, and `max_calls` by the replies that had to be repeated.
    """

    def __init__(self, config: BudgetConfig, run: str, spent: Spending | None = None) -> None:
        """`spent`: what earlier invocations of this run have spent (`LedgerFile.spent`)."""
        self.config = config
        self.run = run
        self.calls = spent.calls if spent else 0
        self.tokens = spent.input_tokens + spent.output_tokens if spent else 0
        self.cost = spent.cost if spent else 0.0
        self.in_flight = 0
        self._reserved_tokens = 0.0
        self._reserved_cost = 0.0
        self._settled: list[asyncio.Future[None]] = []
        self.is_limited = any(limit is not None for limit in (config.max_cost, config.max_calls, config.max_tokens))

    async def admit(self, tokens: float, cost: float) -> None:
        """Reserve a call of about `tokens` and `cost`, as soon as the budget has room for it.

        Raises:
            BudgetError: the budget is spent and no call is in flight.
        """
        while self.is_limited and not self._has_room(tokens, cost):
            if self.in_flight == 0:
                raise BudgetError(self._spent())
            future = asyncio.get_running_loop().create_future()
            self._settled.append(future)
            await future
        self.in_flight += 1
        self._reserved_tokens += tokens
        self._reserved_cost += cost

    def settle(self, tokens: float, cost: float, completion: Completion | None, paid: float) -> None:
        """End a reservation of `tokens` and `cost`, with the reply that came, if any, and what was paid for it."""
        self.in_flight -= 1
        self._reserved_tokens -= tokens
        self._reserved_cost -= cost
        if completion is not None:
            calls, used, _ = paid_for(completion)
            self.calls += calls
            self.tokens += used.input_tokens + used.output_tokens
            self.cost += paid
        waiting, self._settled = self._settled, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _has_room(self, tokens: float, cost: float) -> bool:
        """Whether one more call fits; the first always does while anything is left."""
        config = self.config
        if config.max_calls is not None and self.calls + self.in_flight >= config.max_calls:
            return False
        if self._is_spent():
            return False
        if self.in_flight == 0:
            return True
        if config.max_tokens is not None and self.tokens + self._reserved_tokens + tokens > config.max_tokens:
            return False
        return config.max_cost is None or self.cost + self._reserved_cost + cost <= config.max_cost

    def _is_spent(self) -> bool:
        config = self.config
        return (config.max_tokens is not None and self.tokens >= config.max_tokens) or (
            config.max_cost is not None and self.cost >= config.max_cost
        )

    def _spent(self) -> str:
        config = self.config
        if config.max_calls is not None and self.calls >= config.max_calls:
            what = f"budget.max_calls ({config.max_calls}) is spent: {self.calls} calls"
        elif config.max_tokens is not None and self.tokens >= config.max_tokens:
            what = f"budget.max_tokens ({config.max_tokens}) is spent: {self.tokens} tokens"
        else:
            what = f"budget.max_cost ({config.max_cost:g} {config.currency}) is spent: {self.cost:.4f}"
        return f"{what}; raise it and run the same command to continue"


def paid_for(completion: Completion) -> tuple[int, Usage, bool]:
    """Replies and tokens that a call was charged for, and whether any count is an estimate."""
    wasted = completion.wasted
    if wasted is None:
        return 1, completion.usage, completion.usage.is_estimated
    usage = Usage(
        input_tokens=completion.usage.input_tokens + wasted.input_tokens,
        output_tokens=completion.usage.output_tokens + wasted.output_tokens,
    )
    return completion.replies, usage, completion.usage.is_estimated or wasted.is_estimated
