"""Writes to the ledger's file, in two steps by two threads: commit at once, report when synced.

A commit to the write-ahead log survives the death of this process, and takes microseconds; a sync, which makes it
survive a power cut too, takes milliseconds. So one thread commits whatever has come in, and another syncs the log
behind it and then tells those who wait: both group what gathers while they are busy.
"""

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tapir.errors import RunError

log = logging.getLogger("tapir.ledger")

Write = Callable[[sqlite3.Connection], None]
_MOST_AT_ONCE = 64


class Work(NamedTuple):
    """A write, and who waits for it."""

    write: Write
    waiting: Sequence[asyncio.Future[None]]


class Writer:
    """Commits what it is given, in its order; after a failure nothing more is written."""

    def __init__(self, database: sqlite3.Connection, path: Path, to_error: Callable[[sqlite3.Error], RunError]) -> None:
        """`database`: in WAL mode with synchronous=NORMAL, or in another mode with FULL."""
        self._database = database
        self._path = path
        self._to_error = to_error
        self._broken: RunError | None = None
        self._to_commit: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._to_sync: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=work, name=f"tapir-ledger-{name}", daemon=True)
            for name, work in (("commit", self._commit_all), ("sync", self._sync_all))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, write: Write, waiting: Sequence[asyncio.Future[None]] = ()) -> None:
        """Run `write` in a transaction and end `waiting` when that is durable, or has failed."""
        self._to_commit.put(Work(write, waiting))

    def close(self) -> None:
        """Finish what was submitted."""
        self._to_commit.put(None)
        for thread in self._threads:
            thread.join()
        self._database.close()

    def _commit_all(self) -> None:
        is_open = True
        while is_open:
            group, is_open = _take(self._to_commit)
            if self._broken is None:
                self._broken = self._commit(group)
            if self._broken is None:
                for work in group:
                    self._to_sync.put(work)
            else:
                _settle(group, self._broken)
        self._to_sync.put(None)

    def _commit(self, group: Sequence[Work]) -> RunError | None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for work in group:
                work.write(self._database)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            try:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
            except sqlite3.Error:
                log.debug("the rollback failed too; the file recovers by itself when it is next opened")
            return self._to_error(error)
        return None

    def _sync_all(self) -> None:
        with contextlib.ExitStack() as stack:
            file: int | None = None
            is_open = True
            while is_open:
                group, is_open = _take(self._to_sync)
                try:
                    if file is None:
                        file = os.open(self._path.with_name(self._path.name + "-wal"), os.O_RDONLY | os.O_CLOEXEC)
                        stack.callback(os.close, file)
                    os.fsync(file)
                except FileNotFoundError:
                    pass  # no log in this journal mode: the commit itself has synced
                except OSError as error:
                    self._broken = RunError(
                        f"{self._path}: the ledger cannot be synced ({error.strerror}); check the disk, then run the "
                        "same command to continue"
                    )
                _settle(group, self._broken)


def _take(work: "queue.SimpleQueue[Work | None]") -> tuple[list[Work], bool]:
    """Wait for work and take what there is, up to a bound; False when it was the last."""
    group: list[Work] = []
    item = work.get()
    while item is not None:
        group.append(item)
        if len(group) >= _MOST_AT_ONCE or work.empty():
            return group, True
        item = work.get()
    return group, False


def _settle(group: Sequence[Work], error: RunError | None) -> None:
    """End, in their event loop, the futures of those who wait."""
    waiting = [future for work in group for future in work.waiting]
    if waiting:
        try:
            waiting[0].get_loop().call_soon_threadsafe(_end, waiting, error)
        except RuntimeError:
            log.debug("the event loop closed before a commit; the replies are in the ledger all the same")


def _end(waiting: Sequence[asyncio.Future[None]], error: RunError | None) -> None:
    for future in waiting:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
