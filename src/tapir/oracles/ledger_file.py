"""The ledger's file: one SQLite database of replies, shared by runs and processes, durable before a reply is used.

A reply is committed to a write-ahead log within a few milliseconds of its arrival, after which it survives `kill -9`;
then the log is synced, for a group of replies at a time, and only when it is, and a power cut could not take it back,
does `put` return. Reads are point look-ups on the event loop's own connection. The file holds replies, counts and
names, never prompts, keys or headers.
"""

import asyncio
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tapir.errors import ConfigError, RunError, TapirError
from tapir.oracles.claims import Claims
from tapir.oracles.ledger_schema import (
    ADD_SPENDING,
    APPLICATION_ID,
    INSERT_REPLY,
    SCHEMA,
    SELECT_REPLY,
    VERSION,
    Booking,
    Entry,
    from_row,
    to_row,
)
from tapir.oracles.ledger_writer import Write, Writer
from tapir.oracles.money import Spending, paid_for, total
from tapir.oracles.salvage import finish_salvage, salvage

LINGER_S = 0.002
_GROUP = 64
"""Replies that are committed without waiting for more."""
_FLUSH_SAVED_S = 1.0
_LOG_PAGES = 8000
"""Pages in the log (32 MB) from which a commit copies them into the database, which delays it by some syncs."""
_BUSY_S = 60.0
_OPEN_S = 60.0


LEDGER = "ledger.sqlite"
"""The file in a runs directory that all its runs share."""


class LedgerFile:
    """An open ledger. One event loop at a time uses it; other processes may have it open too.

    Raises (from the constructor):
        RunError: the file cannot be opened or written, or is damaged while another process uses it.
        ConfigError: the file is not a ledger, or a later version's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notices: list[str] = []
        """What the user should hear of: a damaged file and what was lost."""
        self.flights: dict[bytes, asyncio.Future[None]] = {}
        """Keys that this process is asking for; done when the reply is in the file, or has failed."""
        self._entries: list[Entry] = []
        self._futures: list[asyncio.Future[None]] = []
        self._flush_timer: asyncio.TimerHandle | None = None
        self._saved: dict[Booking, list[float]] = defaultdict(lambda: [0, 0, 0.0])
        self._saved_timer: asyncio.TimerHandle | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.claims = Claims(path.with_name(path.name + ".claims"))
        except OSError as error:
            raise RunError(f"{path}: cannot be opened as a ledger ({error.strerror}); check the directory") from error
        try:
            self._reader, writer = self._open()
        except BaseException:
            self.claims.close()
            raise
        self._writer = Writer(writer, path, lambda error: unusable_file(path, error))

    def get(self, key: bytes) -> Entry | None:
        """The reply under `key`; None where there is none, or a damaged one."""
        try:
            row = self._reader.execute(SELECT_REPLY, (key,)).fetchone()
        except sqlite3.Error as error:
            raise unusable_file(self.path, error) from error
        return None if row is None else from_row(row)

    async def put(self, entry: Entry) -> None:
        """Keep `entry`; returns when it is durable. A key that is there keeps the reply that it has.

        Raises:
            RunError: the file cannot be written; nothing in it is harmed.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._entries.append(entry)
        self._futures.append(future)
        if len(self._entries) >= _GROUP:
            self._flush()
        elif self._flush_timer is None:
            self._flush_timer = loop.call_later(LINGER_S, self._flush)
        await future

    async def write(self, write: Write) -> None:
        """Run `write` in a transaction of its own; returns when it is durable."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._writer.submit(write, [future])
        await future

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a SELECT."""
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise unusable_file(self.path, error) from error

    def count_replay(self, booking: Booking, entry: Entry) -> None:
        """Note that the ledger has saved `booking` the cost of `entry`; written down within seconds."""
        saved = self._saved[booking]
        used = paid_for(entry.completion)[1]
        saved[0] += 1
        saved[1] += used.input_tokens + used.output_tokens
        saved[2] += entry.cost
        if self._saved_timer is None:
            self._saved_timer = asyncio.get_running_loop().call_later(_FLUSH_SAVED_S, self._flush)

    def spending(self, run: str | None = None) -> list[Spending]:
        """What every role has spent in every stage, of `run` or of all runs."""
        return read_spending(self._reader, run)

    def spent(self, run: str) -> Spending:
        """What `run` has spent so far, in all its invocations."""
        return total(self.spending(run), run=run)

    def entries(self) -> Iterator[Entry]:
        """All whole replies, oldest first."""
        for row in self._reader.execute("SELECT * FROM replies ORDER BY rowid"):
            entry = from_row(row)
            if entry is not None:
                yield entry

    def close(self) -> None:
        """Commit what is pending and close the file."""
        self._flush()
        self._writer.close()
        self._reader.close()
        self.claims.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _flush(self) -> None:
        """Hand what is pending to the writer as one transaction."""
        for timer in (self._flush_timer, self._saved_timer):
            if timer is not None:
                timer.cancel()
        self._flush_timer = self._saved_timer = None
        entries, self._entries = self._entries, []
        futures, self._futures = self._futures, []
        saved = [_saved_row(booking, amounts) for booking, amounts in self._saved.items()]
        self._saved.clear()
        if entries or saved:
            self._writer.submit(lambda database: insert(database, entries, saved), futures)

    def _open(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        """A connection for reading and one for writing, to a file that has been checked and, if torn, salvaged."""
        _wait_for(self.claims.enter, f"{self.path}: another process has been opening the ledger for too long")
        try:
            _wait_for(self.claims.join, f"{self.path}: another process is repairing the ledger")
            finish_salvage(self.path)
            damage = find_damage(self.path)
            if damage is not None:
                if not self.claims.make_sole():
                    raise RunError(
                        f"{self.path}: the ledger is damaged ({damage}) and in use by another process; "
                        "stop that, then run the same command again to salvage it"
                    )
                self.notices.append(salvage(self.path, damage))
                self.claims.join()
            writer = connect(self.path)
            try:
                if writer.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                    writer.executescript(SCHEMA)
                return connect(self.path), writer
            except BaseException:
                writer.close()
                raise
        except sqlite3.Error as error:
            raise unusable_file(self.path, error) from error
        finally:
            self.claims.leave()


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a write-ahead log, which `Writer` syncs; where there can be none, every commit syncs."""
    database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        mode = database.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        database.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        database.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
    except BaseException:
        database.close()
        raise
    return database


def insert(database: sqlite3.Connection, entries: Iterable[Entry], saved: Iterable[tuple[Any, ...]] = ()) -> None:
    """Insert `entries` and book what they cost; inside the caller's transaction."""
    by_booking: dict[Booking, list[Entry]] = {}
    for entry in entries:
        by_booking.setdefault(entry.booking, []).append(entry)
    for booking, group in by_booking.items():
        before = database.total_changes
        database.executemany(INSERT_REPLY, map(to_row, group))
        kept = database.total_changes - before
        paid = [(*paid_for(entry.completion), entry.cost) for entry in group]
        row = (
            kept,
            sum(calls for calls, _, _, _ in paid),
            sum(usage.input_tokens for _, usage, _, _ in paid),
            sum(usage.output_tokens for _, usage, _, _ in paid),
            sum(is_estimated for _, _, is_estimated, _ in paid),
            sum(cost for _, _, _, cost in paid),
        )
        database.execute(ADD_SPENDING, (booking.run, booking.role, booking.stage, *row, 0, 0, 0.0))
    database.executemany(ADD_SPENDING, saved)


def read_spending(database: sqlite3.Connection, run: str | None = None) -> list[Spending]:
    """What every role has spent in every stage, of `run` or of all runs."""
    where, parameters = ("", ()) if run is None else (" WHERE run = ?", (run,))
    rows = database.execute(f"SELECT * FROM spending{where} ORDER BY run, stage, role", parameters)
    return [
        Spending(
            run=row[0],
            role=row[1],
            stage=row[2],
            calls=row[4],
            input_tokens=row[5],
            output_tokens=row[6],
            estimated_calls=row[7],
            cost=row[8],
            saved_calls=row[9],
            saved_tokens=row[10],
            saved_cost=row[11],
        )
        for row in rows
    ]


def run_spending(path: Path, run: str) -> list[Spending]:
    """What the run of this name has spent, by stage and role, read without a lock; empty where there is no ledger."""
    with suppress(sqlite3.Error), read_only(path) as database:
        return read_spending(database, run) if database else []
    return []


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection that writes nothing and locks nobody out; None where there is no ledger.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    if not path.is_file():
        yield None
        return
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as database:
        yield database


def ledger_trouble(path: Path) -> str | None:
    """What the user should hear of a ledger that is only read: that it is damaged; None where all is well."""
    try:
        damage = find_damage(path)
    except TapirError as error:
        return str(error)
    return damage and f"{path}: the ledger is damaged ({damage}); `tapir run` or `tapir ledger stats` salvages it"


def find_damage(path: Path) -> str | None:
    """What is wrong with the file at `path`; None where nothing is, or where there is no file.

    Raises:
        ConfigError: the file is a whole database, but no ledger, or a later version's.
        RunError: the file cannot be read.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            application = database.execute("PRAGMA application_id").fetchone()[0]
            version = database.execute("PRAGMA user_version").fetchone()[0]
            tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        finally:
            database.close()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return str(error)
        raise unusable_file(path, error) from error
    if found != "ok":
        return str(found).splitlines()[-1]
    if tables and application != APPLICATION_ID:
        raise ConfigError(f"{path}: is a database, but not a ledger; move it away or name another directory")
    if version > VERSION:
        raise ConfigError(f"{path}: was written by a later version of tapir; update tapir")
    return None


def unusable_file(path: Path, error: sqlite3.Error) -> RunError:
    """The error that a failure of SQLite becomes."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return RunError(
            f"{path}: the ledger cannot be written ({error}): is the disk full? Free some space, then run the same "
            "command to continue; what was committed is safe"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return RunError(f"{path}: the ledger is damaged ({error}); run the same command again to salvage it")
    return RunError(f"{path}: the ledger cannot be used ({error}); check the file and its directory")


def _wait_for(condition: Callable[[], bool], message: str) -> None:
    """Wait, off any event loop's clock, until `condition` holds."""
    end = time.monotonic() + _OPEN_S
    while not condition():
        if time.monotonic() > end:
            raise RunError(message)
        time.sleep(0.02)


def _saved_row(booking: Booking, amounts: Sequence[float]) -> tuple[Any, ...]:
    return (booking.run, booking.role, booking.stage, 0, 0, 0, 0, 0, 0.0, *amounts)
