"""Run a configuration to its end: TAPIR's own rounds, and the rivals beside them."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tapir.algorithm import prepare, teach
from tapir.arms import arm_config
from tapir.blocking import wait_for
from tapir.build import open_roles
from tapir.config import Arm, RunConfig, parse_config
from tapir.console import finished_line, view
from tapir.errors import ResumeError, RunError, TapirError
from tapir.report.progress import ProgressFile
from tapir.status import read_manifest
from tapir.store import RunStore
from tapir.store.step import Observer

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "numpy", "pyarrow", "rensa")


def versions() -> dict[str, str]:
    """The versions of the packages that decide a run's numbers."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


async def run(cfg: RunConfig, observer: Observer, *, retry_refused: bool = False) -> int:
    """Run, or continue, a configuration; the number of stages that were not replayed.

    Raises:
        TapirError: what stopped the run; running the same configuration again continues it.
    """
    observer = ProgressFile(observer, cfg.directory)
    store = RunStore(
        cfg.directory, observer, max_refused_fraction=cfg.max_refused_fraction, retry_refused=retry_refused
    )
    async with store:
        store.write_manifest(cfg.model_dump(mode="json"), versions())
        async with open_roles(cfg, observer.said) as roles, Helpers(cfg, observer) as helpers:
            state = await prepare(cfg, roles, store)
            await helpers.start()
            await teach(state, cfg, roles, store)
            # Helpers take rivals from the front of the list, this process from its end.
            stages = store.stages_run + await run_arms(cfg, tuple(reversed(cfg.compare)), observer)
            await helpers.wait()
    return stages


def run_blocking(cfg: RunConfig, *, retry_refused: bool = False) -> int:
    """`run` for code that has no event loop, a notebook's included: shows its progress where it is called."""
    with view() as shown:
        return wait_for(run(cfg, shown, retry_refused=retry_refused))


async def run_arms(cfg: RunConfig, arms: Sequence[Arm], observer: Observer) -> int:
    """Train and measure the rivals that no other process has taken; the number of stages run."""
    stages = 0
    base = RunStore(cfg.directory, observer)
    for arm in arms:
        own = arm_config(cfg, arm)
        store = RunStore(
            cfg.directory / "arms" / arm,
            Named(observer, arm),
            max_refused_fraction=cfg.max_refused_fraction,
            base=base,
        )
        try:
            async with store:
                store.write_manifest(own.model_dump(mode="json"), versions())
                async with open_roles(own, observer.said) as roles:
                    await teach(await prepare(own, roles, store), own, roles, store)
            stages += store.stages_run
        except ResumeError:
            continue  # another process has taken it
    return stages


class Named:
    """An observer of one arm: its stages carry the arm's name, and what only repeats the main run is not shown."""

    def __init__(self, observer: Observer, name: str) -> None:
        self._observer = observer
        self._name = name

    def started(self, stage: str, total: float | None) -> None:
        """A stage begins."""
        self._observer.started(f"{self._name}, {stage}", total)

    def advanced(self, stage: str, done: float, total: float | None, refused: int, text: str) -> None:
        """A stage has come so far."""
        self._observer.advanced(f"{self._name}, {stage}", done, total, refused, text)

    def finished(self, stage: str, record: dict[str, Any], *, is_replayed: bool) -> None:
        """A stage is whole."""
        if not is_replayed:
            self._observer.finished(f"{self._name}, {stage}", record, is_replayed=is_replayed)

    def said(self, text: str) -> None:
        """A line for the user."""
        self._observer.said(f"{self._name}: {text}")


class Helpers:
    """Processes that train rivals while this one goes through the rounds; they end with it, however it ends."""

    def __init__(self, cfg: RunConfig, observer: Observer) -> None:
        self._cfg = cfg
        self._observer = observer
        self._processes: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*(process.wait() for process in self._processes), *self._readers, return_exceptions=True)

    async def start(self) -> None:
        """Start as many processes as the configuration allows."""
        for _ in range(min(self._cfg.compare_processes, len(self._cfg.compare))):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tapir.runner", str(self._cfg.directory)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            self._processes.append(process)
            self._readers.append(asyncio.create_task(self._relay(process)))

    async def wait(self) -> None:
        """Wait for the rivals that the helpers have taken.

        Raises:
            RunError: a helper failed.
        """
        await asyncio.gather(*self._readers)
        for process in self._processes:
            if await process.wait() != 0:
                raise RunError("a rival could not be trained (see above); run the same command again to continue")

    async def _relay(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._observer.said(line.decode(errors="replace").rstrip())


class _Lines:
    """A helper's observer: a line for each stage that is whole, for the parent to show."""

    def started(self, stage: str, total: float | None) -> None:
        """Not shown."""

    def advanced(self, stage: str, done: float, total: float | None, refused: int, text: str) -> None:
        """Not shown."""

    def finished(self, stage: str, record: dict[str, Any], *, is_replayed: bool) -> None:
        """Print the stage's line."""
        self.said(finished_line(stage, record, is_replayed=is_replayed))

    def said(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)


def _end_with_parent() -> None:
    """Leave as soon as the parent process is gone: its end of our standard input closes with it."""

    def watch() -> None:
        # Not sys.stdin: at the end the interpreter waits for its lock, which this thread would hold.
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(directory: Path) -> int:
    """A helper process: train the rivals of a run until none is left."""
    _end_with_parent()
    try:
        cfg = parse_config(read_manifest(directory)["config"], str(directory / "manifest.json"))
        asyncio.run(run_arms(cfg, cfg.compare, _Lines()))
    except TapirError as error:
        print(f"error: {error}", flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
