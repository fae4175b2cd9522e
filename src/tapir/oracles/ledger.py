"""The outermost wrapper: what was answered once is replayed, what is paid for is kept before it is used."""

import asyncio
import time
from collections.abc import Sequence
from hashlib import blake2b

from tapir.config import EndpointConfig
from tapir.errors import OracleError
from tapir.oracles.base import Completion, Oracle, Sampling, Unanswered, Usage
from tapir.oracles.failures import UNUSABLE_TEXT, unusable
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.ledger_schema import Booking, Entry
from tapir.oracles.money import Budget, cost_of, cost_of_call, current_stage
from tapir.oracles.stream import leave_if_told
from tapir.oracles.wire import estimate_input, to_json
from tapir.rows import Message

HOPELESS = 20
"""Refusals from which an oracle that has given nothing else is given up."""

_KEY_VERSION = 1
_FIRST_POLL_S = 0.05
_LAST_POLL_S = 1.0


def ledger_key(endpoint: EndpointConfig, messages: Sequence[Message], sampling: Sampling) -> bytes:
    """The key of a call: a digest of everything that decides the reply, 16 bytes.

    That is the model with its version, the messages, the sampling with its attempt and schema, and `extra_body`. The
    server's address is left out on purpose: a model that moves to another port, host or provider is not paid twice.
    Where one name stands for other weights (a student served by its round), `model_version` tells them apart.
    """
    parts = (
        _KEY_VERSION,
        endpoint.model,
        endpoint.model_version,
        endpoint.extra_body,
        sampling.temperature,
        sampling.top_p,
        sampling.max_tokens,
        sampling.seed,
        sampling.attempt,
        sampling.json_schema,
        messages,
    )
    return blake2b(to_json(parts), digest_size=16).digest()


class Ledger:
    """Answers from the ledger file what it holds, asks `inner` for the rest once, and books both."""

    def __init__(
        self,
        inner: Oracle,
        file: LedgerFile,
        budget: Budget,
        endpoint: EndpointConfig,
        *,
        role: str,
        name: str,
        as_is: bool = False,
        is_batch: bool = False,
    ) -> None:
        """`is_batch`: `inner` keeps the replies in the file itself, and they cost what batches cost."""
        self._inner = inner
        self._file = file
        self._budget = budget
        self._endpoint = endpoint
        self._role = role
        self._name = name
        self._as_is = as_is
        self._is_batch = is_batch
        self._booking = Booking(budget.run, role, "")
        self._mean_output: float | None = None
        self._is_useful = False
        """Whether any reply, the ledger's own included, was usable since the run was opened."""
        self._unusable = 0

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The reply to `messages`: replayed, or asked for and durably kept.

        The same call is never out twice: within this process the second waits for the first, and so it does where
        the first is another process's, as long as that lives.
        """
        key = ledger_key(self._endpoint, messages, sampling)
        file = self._file
        await self._claim(key)
        flight = file.flights[key] = asyncio.get_running_loop().create_future()
        try:
            entry = file.get(key)
            if entry is None:
                completion = await self._ask(key, messages, sampling)
            else:
                completion = entry.completion
                file.count_replay(self._book(), entry)
        finally:
            del file.flights[key]
            file.claims.release(key)
            flight.set_result(None)
        leave_if_told()
        reason = unusable(completion, as_is=self._as_is)
        if reason is not None:
            refusal = Unanswered(reason, f"{self._name}: {UNUSABLE_TEXT[reason]}", completion)
            self._count_unusable(refusal)
            raise refusal
        self._is_useful = True
        return completion

    def _count_unusable(self, refusal: Unanswered) -> None:
        """Stop the run where not one reply was usable so far: then no row is to blame, and each costs more.

        Raises:
            OracleError: this is the HOPELESS-th refusal and nothing but refusals came.
        """
        self._unusable += 1
        if not self._is_useful and self._unusable >= HOPELESS:
            text = f"{refusal}; none of the first {self._unusable} calls got a usable reply"
            raise OracleError(f"{text}: mend the cause, then run the same command to continue") from refusal

    async def _claim(self, key: bytes) -> None:
        """Wait until nobody else is asking for `key`, and claim it."""
        poll_s = _FIRST_POLL_S
        while True:
            other = self._file.flights.get(key)
            if other is not None:
                await asyncio.wait([other])
            elif self._file.claims.take(key):
                return
            else:
                await asyncio.sleep(poll_s)
                poll_s = min(_LAST_POLL_S, 2 * poll_s)

    async def _ask(self, key: bytes, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Ask the endpoint within the budget and keep the reply, usable or not: it was paid for."""
        tokens, cost = self._expect(messages, sampling)
        budget = self._budget
        await budget.admit(tokens, cost)
        completion: Completion | None = None
        paid = 0.0
        try:
            try:
                completion = await self._inner.complete(messages, sampling)
            except Unanswered as refusal:
                if refusal.completion is None:
                    self._count_unusable(refusal)
                    raise
                completion = refusal.completion
            paid = cost_of_call(completion, self._endpoint.price, is_batch=self._is_batch)
            if not self._is_batch:
                await self._file.put(self._entry(key, completion, paid))
        finally:
            budget.settle(tokens, cost, completion, paid)
        outputs = completion.usage.output_tokens
        mean = self._mean_output
        self._mean_output = outputs if mean is None else mean + 0.05 * (outputs - mean)
        return completion

    def _entry(self, key: bytes, completion: Completion, paid: float) -> Entry:
        return Entry(
            key=key,
            completion=completion,
            cost=paid,
            created_s=time.time(),
            booking=self._book(),
            asked=self._endpoint.model,
        )

    def _expect(self, messages: Sequence[Message], sampling: Sampling) -> tuple[float, float]:
        """Tokens and cost that a call is expected to take; its worst case until one is known."""
        if not self._budget.is_limited:
            return 0.0, 0.0
        outputs = sampling.max_tokens if self._mean_output is None else round(self._mean_output)
        usage = Usage(input_tokens=estimate_input(messages), output_tokens=outputs)
        return usage.input_tokens + outputs, cost_of(usage, self._endpoint.price, is_batch=self._is_batch)

    def _book(self) -> Booking:
        stage = current_stage()
        if stage != self._booking.stage:
            self._booking = Booking(self._budget.run, self._role, stage)
        return self._booking
