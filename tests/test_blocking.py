"""Asynchronous work for code that is not."""

import asyncio

import pytest

from tapir.blocking import wait_for


async def _double(value: int) -> int:
    await asyncio.sleep(0)
    if value < 0:
        raise ValueError("negative")
    return 2 * value


def test_without_an_event_loop() -> None:
    assert wait_for(_double(3)) == 6


async def test_inside_an_event_loop_as_in_a_notebook() -> None:
    assert wait_for(_double(3)) == 6
    with pytest.raises(ValueError, match="negative"):
        wait_for(_double(-1))
