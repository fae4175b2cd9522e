"""Salvage of a damaged ledger: every whole row that its pages still hold, read without trusting their links.

SQLite refuses a file whose tree is torn. Here each page is taken for itself: those that look like the leaf of a table
are decoded cell by cell, pages of the write-ahead log take the place of older ones, and a row is accepted when its
checksum holds.
"""

import contextlib
import mmap
import os
import sqlite3
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tapir.oracles.ledger_schema import (
    BATCH_COLUMNS,
    INSERT_REPLY,
    REPLY_COLUMNS,
    SCHEMA,
    SPENDING_COLUMNS,
    from_row,
)
from tapir.oracles.money import paid_for

_LEAF = 0x0D
_DEFAULT_PAGE = 4096
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_WAL_HEADER = 32
_FRAME_HEADER = 24
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_MOST_COLUMNS = 64


def salvage(path: Path, damage: str) -> str:
    """Replace the damaged ledger at `path` by one with every whole row of it; returns what to tell the user.

    The damaged file is kept beside it. The caller is the only user of the ledger.
    """
    replies, spending, batches = _collect(path)
    expected = sum(row[3] for row in spending.values())
    _rebuild_spending(replies, spending)
    fresh = path.with_name(path.name + ".salvaging")
    fresh.unlink(missing_ok=True)
    database = sqlite3.connect(fresh, isolation_level=None)
    try:
        database.executescript(SCHEMA)
        database.execute("BEGIN")
        database.executemany(INSERT_REPLY, replies.values())
        marks = ", ".join("?" * SPENDING_COLUMNS)
        database.executemany(f"INSERT INTO spending VALUES ({marks})", spending.values())
        database.executemany(f"INSERT INTO batches VALUES ({', '.join('?' * BATCH_COLUMNS)})", batches.values())
        database.execute("COMMIT")
    finally:
        database.close()
    kept = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(kept.with_name(kept.name + suffix))
    fresh.rename(path)
    lost = max(0, expected - len(replies))
    of = f"{len(replies)} of {expected}" if expected >= len(replies) and expected else f"{len(replies)}"
    if lost:
        tail = f"{lost} are lost and will be asked, and paid, again"
    elif expected:
        tail = "none is lost"
    else:
        tail = "how many are lost cannot be told"
    return f"{path}: the ledger was damaged ({damage}); {of} replies were salvaged, {tail}; damaged file: {kept.name}"


def finish_salvage(path: Path) -> None:
    """Complete a salvage that was killed after the damaged file had been moved away."""
    fresh = path.with_name(path.name + ".salvaging")
    if not path.exists() and fresh.exists():
        fresh.rename(path)


def _collect(path: Path) -> tuple[dict[bytes, Any], dict[tuple[str, ...], Any], dict[str, Any]]:
    """The whole rows of the three tables, by key."""
    replies: dict[bytes, Any] = {}
    spending: dict[tuple[str, ...], Any] = {}
    batches: dict[str, Any] = {}
    for row in read_rows(path):
        if len(row) == REPLY_COLUMNS and _is_reply(row):
            replies[row[0]] = row
        elif len(row) == SPENDING_COLUMNS and _is_spending(row):
            known = spending.get(row[:3])
            if known is None or (row[4], row[9]) > (known[4], known[9]):
                spending[row[:3]] = row
        elif len(row) == BATCH_COLUMNS and isinstance(row[0], str) and isinstance(row[7], str):
            batches[row[0]] = row
    return replies, spending, batches


def _is_reply(row: tuple[Any, ...]) -> bool:
    try:
        return from_row(row) is not None
    except (TypeError, ValueError):
        return False


def _is_spending(row: tuple[Any, ...]) -> bool:
    return all(isinstance(name, str) for name in row[:3]) and all(
        isinstance(number, int | float) and number >= 0 for number in row[3:]
    )


def _rebuild_spending(replies: dict[bytes, Any], spending: dict[tuple[str, ...], Any]) -> None:
    """Make sure that what the salvaged replies cost is booked, whatever became of the bookings."""
    booked: dict[tuple[str, ...], list[float]] = {}
    for row in replies.values():
        entry = from_row(row)
        if entry is not None:
            count, used, is_estimated = paid_for(entry.completion)
            amounts = booked.setdefault((row[13], row[14], row[15]), [0, 0, 0, 0, 0, 0.0])
            new = (1, count, used.input_tokens, used.output_tokens, int(is_estimated), entry.cost)
            booked[(row[13], row[14], row[15])] = [a + b for a, b in zip(amounts, new, strict=True)]
    for name, amounts in booked.items():
        known = spending.get(name)
        if known is None:
            spending[name] = (*name, *amounts, 0, 0, 0.0)
        else:
            largest = (max(a, b) for a, b in zip(amounts[1:], known[4:9], strict=True))
            spending[name] = (*name, amounts[0], *largest, *known[9:])
    for name, row in spending.items():
        if name not in booked:
            spending[name] = (*name, 0, *row[4:])


def read_rows(path: Path) -> Iterator[tuple[Any, ...]]:
    """Every row that can be decoded in any leaf page of the database at `path` and of its write-ahead log."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            page_size = _page_size(data)
            newer = _log_pages(path.with_name(path.name + "-wal"), page_size)
            pages = _Pages(data, page_size, newer)
            for number in sorted(set(range(1, -(-size // page_size) + 1)) | set(newer)):
                yield from _leaf_rows(pages, number)


class _Pages:
    """The pages of a database, newest version first."""

    def __init__(self, data: mmap.mmap, size: int, newer: dict[int, bytes]) -> None:
        self._data = data
        self.size = size
        self._newer = newer

    def __getitem__(self, number: int) -> bytes:
        page = self._newer.get(number)
        return self._data[(number - 1) * self.size : number * self.size] if page is None else page


def _page_size(data: mmap.mmap) -> int:
    size = int.from_bytes(data[16:18], "big") or _DEFAULT_PAGE
    size = 65536 if size == 1 else size
    is_whole = data[:15] == b"SQLite format 3" and 512 <= size <= 65536 and size & (size - 1) == 0
    return size if is_whole else _DEFAULT_PAGE


def _log_pages(path: Path, page_size: int) -> dict[int, bytes]:
    """The newest version of each page in a write-ahead log."""
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    pages: dict[int, bytes] = {}
    if len(data) < _WAL_HEADER or int.from_bytes(data[:4], "big") not in _WAL_MAGIC:
        return pages
    salt = data[16:24]
    for start in range(_WAL_HEADER, len(data) - _FRAME_HEADER - page_size + 1, _FRAME_HEADER + page_size):
        if data[start + 8 : start + 16] == salt:
            number = int.from_bytes(data[start : start + 4], "big")
            pages[number] = data[start + _FRAME_HEADER : start + _FRAME_HEADER + page_size]
    return pages


def _leaf_rows(pages: _Pages, number: int) -> Iterator[tuple[Any, ...]]:
    """The rows of one page, if it is the leaf of a table."""
    page = pages[number]
    start = 100 if number == 1 else 0
    if len(page) < start + 8 or page[start] != _LEAF:
        return
    cells = int.from_bytes(page[start + 3 : start + 5], "big")
    for i in range(min(cells, (len(page) - start - 8) // 2)):
        offset = int.from_bytes(page[start + 8 + 2 * i : start + 10 + 2 * i], "big")
        try:
            yield _decode(_payload(pages, page, offset))
        except (IndexError, ValueError, struct.error):
            continue


def _payload(pages: _Pages, page: bytes, offset: int) -> bytes:
    """The record of the cell at `offset`, gathered from its overflow pages."""
    length, offset = _varint(page, offset)
    _, offset = _varint(page, offset)
    largest = pages.size - 35
    if length <= largest:
        local = length
    else:
        smallest = (pages.size - 12) * 32 // 255 - 23
        local = smallest + (length - smallest) % (pages.size - 4)
        local = local if local <= largest else smallest
    parts = [page[offset : offset + local]]
    rest = length - local
    overflow = int.from_bytes(page[offset + local : offset + local + 4], "big") if rest > 0 else 0
    while rest > 0:
        more = pages[overflow] if overflow else b""
        if len(more) < 4:
            raise ValueError("an overflow page is missing")
        parts.append(more[4 : 4 + min(rest, pages.size - 4)])
        rest -= len(parts[-1])
        overflow = int.from_bytes(more[:4], "big")
    return b"".join(parts)


def _decode(record: bytes) -> tuple[Any, ...]:
    """The values of a record."""
    header, position = _varint(record, 0)
    kinds: list[int] = []
    while position < header and len(kinds) <= _MOST_COLUMNS:
        kind, position = _varint(record, position)
        kinds.append(kind)
    values = []
    position = header
    for kind in kinds:
        value, position = _value(record, position, kind)
        values.append(value)
    return tuple(values)


def _value(record: bytes, position: int, kind: int) -> tuple[Any, int]:
    """One value and where the next begins."""
    if kind in (0, 8, 9):
        return {0: None, 8: 0, 9: 1}[kind], position
    length = _INTEGERS.get(kind, 8 if kind == 7 else (kind - 12) // 2)
    end = position + length
    if kind in (10, 11) or end > len(record):
        raise ValueError("the record is torn")
    data = record[position:end]
    if kind == 7:
        return struct.unpack(">d", data)[0], end
    if kind < 7:
        return int.from_bytes(data, "big", signed=True), end
    return (data.decode() if kind % 2 else data), end


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A variable-length integer and where the next byte is."""
    value = 0
    for i in range(8):
        byte = data[position + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position + i + 1
    return value << 8 | data[position + 8], position + 9
