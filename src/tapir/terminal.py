"""`tapir run` in a terminal: the view, Ctrl-C, and the last screen."""

import asyncio
import os
import signal
from pathlib import Path

from tapir.config import RunConfig
from tapir.console import PlainView, RunView, duration, view
from tapir.runner import run
from tapir.status import read_status
from tapir.tables import print_results

INTERRUPTED = 130


def run_in_terminal(cfg: RunConfig, command: str, *, retry_refused: bool = False, is_plain: bool = False) -> int:
    """Run or continue a configuration and show its results; the exit code.

    Ctrl-C once stops after what is in flight, twice at once; either way `command` continues the run.
    """
    shown = PlainView() if is_plain else view()
    try:
        with shown:
            stages, seconds = asyncio.run(_run(cfg, shown, retry_refused=retry_refused))
    except asyncio.CancelledError:
        print(f"stopped; what was done is kept. To continue: {command}")
        return INTERRUPTED
    if not stages:
        print(f"nothing to do: {cfg.directory} is complete and its settings are unchanged")
    else:
        print(f"done in {duration(seconds)}")
    print_results(read_status(cfg.directory))
    print(f"report: {_report(cfg.directory)}")
    return 0


async def _run(cfg: RunConfig, shown: RunView, *, retry_refused: bool) -> tuple[int, float]:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    began = loop.time()

    def interrupted() -> None:
        if task.cancelling():
            os._exit(INTERRUPTED)
        shown.said("stopping: what is in flight is finished first; Ctrl-C again stops at once")
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    stages = await run(cfg, shown, retry_refused=retry_refused)
    return stages, loop.time() - began


def _report(directory: Path) -> Path:
    from tapir.report import write_report

    return write_report(directory)
