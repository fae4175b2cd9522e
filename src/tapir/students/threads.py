"""Long work in a thread that stops cleanly when the task that waits for it is cancelled."""

import asyncio
from collections.abc import Callable
from threading import Event
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(work: Callable[[Callable[[], bool]], Result]) -> Result:
    """The result of `work(should_stop)`, run in a thread.

    When the awaiting task is cancelled, `should_stop()` becomes true, and the cancellation goes on once `work` has
    returned: whatever it writes is written by then.
    """
    stop = Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop.is_set))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception():
            raise asyncio.CancelledError from task.exception()
        raise
