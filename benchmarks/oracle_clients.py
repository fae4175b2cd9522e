"""The clients that benchmarks/oracle.py compares: each an async generator of the texts that it was answered."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import blake2b
from pathlib import Path
from typing import Protocol


class Asking(Protocol):
    """What a client is told of a scenario."""

    calls: int
    in_flight: int
    capacity: int | None
    timeout_s: float
    start: int | None


def prompt(i: int) -> str:
    """An instruction of about 330 characters, unique to `i`."""
    return f"{i:08d} " + blake2b(str(i).encode()).hexdigest() + " Explain how this works." * 8


async def tapir_client(base_url: str, asking: Asking, directory: Path) -> AsyncIterator[str]:
    """tapir, as its roles use it."""
    from tapir.config import BudgetConfig, EndpointConfig
    from tapir.oracles.base import Sampling
    from tapir.oracles.build import open_oracle
    from tapir.oracles.ledger_file import LedgerFile
    from tapir.oracles.money import Budget
    from tapir.oracles.stream import in_order
    from tapir.rows import user_turn

    start = {"start_concurrency": asking.start} if asking.start else {}
    endpoint = EndpointConfig(
        base_url=base_url,
        model="bench",
        max_concurrency=256 if asking.capacity else asking.in_flight,
        timeout_s=asking.timeout_s,
        **start,
    )
    sampling = Sampling()
    with LedgerFile(directory / "ledger.sqlite") as ledger:
        budget = Budget(BudgetConfig(), "bench", ledger.spent("bench"))
        async with open_oracle(endpoint, role="teacher", ledger=ledger, budget=budget) as oracle:

            async def ask(i: int) -> str:
                return (await oracle.complete(user_turn(prompt(i)), sampling)).text

            async for text in in_order(ask, range(asking.calls), oracle.ahead):
                yield text


async def bare_client(base_url: str, asking: Asking, directory: Path) -> AsyncIterator[str]:
    """The least that asks at all: aiohttp, orjson, workers over one iterator; no retries, nothing kept."""
    import aiohttp
    import orjson

    queue: asyncio.Queue[str | None] = asyncio.Queue()
    numbers = iter(range(asking.calls))
    url = base_url + "/chat/completions"
    headers = {"Content-Type": "application/json"}

    async def work(session: aiohttp.ClientSession) -> None:
        for i in numbers:
            body = {"model": "bench", "messages": [{"role": "user", "content": prompt(i)}]}
            async with session.post(url, data=orjson.dumps(body), headers=headers) as response:
                reply = orjson.loads(await response.read())
            queue.put_nowait(reply["choices"][0]["message"]["content"])
        queue.put_nowait(None)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        workers = [asyncio.create_task(work(session)) for _ in range(asking.in_flight)]
        left = len(workers)
        while left:
            text = await queue.get()
            if text is None:
                left -= 1
            else:
                yield text
        await asyncio.gather(*workers)


async def sdk_client(base_url: str, asking: Asking, directory: Path) -> AsyncIterator[str]:
    """AsyncOpenAI behind a semaphore, with the SDK's own retries; a call that fails for good yields an empty text."""
    import openai

    semaphore = asyncio.Semaphore(256 if asking.capacity else asking.in_flight)
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", timeout=asking.timeout_s) as client:

        async def ask(i: int) -> str:
            async with semaphore:
                try:
                    reply = await client.chat.completions.create(
                        model="bench", messages=[{"role": "user", "content": prompt(i)}]
                    )
                    return reply.choices[0].message.content or ""
                except (openai.OpenAIError, ValueError):
                    return ""

        for text in await asyncio.gather(*(ask(i) for i in range(asking.calls))):
            yield text


RUN = {"tapir": tapir_client, "bare": bare_client, "sdk": sdk_client}
