"""The tables of a ledger file, and a reply as one of their rows."""

import zlib
from typing import Any, Literal, cast

import msgspec

from tapir.oracles.base import Completion, Usage

APPLICATION_ID = 0x54415052
VERSION = 1

SCHEMA = f"""
BEGIN;
CREATE TABLE IF NOT EXISTS replies (
    key BLOB PRIMARY KEY,
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    is_estimated INTEGER NOT NULL,
    replies INTEGER NOT NULL,
    wasted_input INTEGER NOT NULL,
    wasted_output INTEGER NOT NULL,
    cost REAL NOT NULL,
    latency_s REAL NOT NULL,
    created_s REAL NOT NULL,
    run TEXT NOT NULL,
    role TEXT NOT NULL,
    stage TEXT NOT NULL,
    asked TEXT NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS spending (
    run TEXT NOT NULL,
    role TEXT NOT NULL,
    stage TEXT NOT NULL,
    kept INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    estimated_calls INTEGER NOT NULL,
    cost REAL NOT NULL,
    saved_calls INTEGER NOT NULL,
    saved_tokens INTEGER NOT NULL,
    saved_cost REAL NOT NULL,
    PRIMARY KEY (run, role, stage)
);
CREATE TABLE IF NOT EXISTS batches (
    file TEXT PRIMARY KEY,
    id TEXT,
    server TEXT NOT NULL,
    created_s REAL NOT NULL,
    run TEXT NOT NULL,
    role TEXT NOT NULL,
    asked TEXT NOT NULL,
    calls TEXT NOT NULL
);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""

REPLY_COLUMNS = 18
SPENDING_COLUMNS = 12
BATCH_COLUMNS = 8

INSERT_REPLY = f"INSERT OR IGNORE INTO replies VALUES ({', '.join('?' * REPLY_COLUMNS)})"
SELECT_REPLY = "SELECT * FROM replies WHERE key = ?"
ADD_SPENDING = f"""
INSERT INTO spending VALUES ({", ".join("?" * SPENDING_COLUMNS)})
ON CONFLICT (run, role, stage) DO UPDATE SET
    kept = kept + excluded.kept,
    calls = calls + excluded.calls,
    input_tokens = input_tokens + excluded.input_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    estimated_calls = estimated_calls + excluded.estimated_calls,
    cost = cost + excluded.cost,
    saved_calls = saved_calls + excluded.saved_calls,
    saved_tokens = saved_tokens + excluded.saved_tokens,
    saved_cost = saved_cost + excluded.saved_cost
"""

Row = tuple[Any, ...]
"""A row of `replies`, in the order of its columns."""


class Booking(msgspec.Struct, frozen=True, order=True):
    """Who pays for a call."""

    run: str
    role: str
    stage: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A reply under its key, as the ledger keeps it."""

    key: bytes
    completion: Completion
    cost: float
    """What the call was charged, with its unusable replies."""
    created_s: float
    """When, in seconds since 1970."""
    booking: Booking
    asked: str
    """The model as the configuration names it."""


def to_row(entry: Entry) -> Row:
    """The row of `entry`, with a checksum over what a reader relies on."""
    done = entry.completion
    wasted = done.wasted
    text = done.text
    return (
        entry.key,
        text,
        done.finish,
        done.model,
        done.usage.input_tokens,
        done.usage.output_tokens,
        int(done.usage.is_estimated),
        done.replies,
        wasted.input_tokens if wasted else 0,
        wasted.output_tokens if wasted else 0,
        entry.cost,
        done.latency_s,
        entry.created_s,
        entry.booking.run,
        entry.booking.role,
        entry.booking.stage,
        entry.asked,
        checksum(entry.key, text, done.finish, done.usage.input_tokens, done.usage.output_tokens),
    )


def from_row(row: Row) -> Entry | None:
    """The entry of a row; None where the row is damaged."""
    key, text, finish, model, inputs, outputs, is_estimated, replies, wasted_in, wasted_out, cost, latency = row[:12]
    if not (isinstance(key, bytes) and isinstance(text, str) and isinstance(finish, str)):
        return None
    if row[17] != checksum(key, text, finish, inputs, outputs):
        return None
    completion = Completion(
        text=text,
        finish=cast(Literal["stop", "length", "content_filter", "other"], finish),
        usage=Usage(input_tokens=inputs, output_tokens=outputs, is_estimated=bool(is_estimated)),
        model=model,
        latency_s=latency,
        is_replayed=True,
        replies=replies,
        wasted=Usage(input_tokens=wasted_in, output_tokens=wasted_out) if replies > 1 else None,
    )
    booking = Booking(row[13], row[14], row[15])
    return Entry(key=key, completion=completion, cost=cost, created_s=row[12], booking=booking, asked=row[16])


def checksum(key: bytes, text: str, finish: str, input_tokens: int, output_tokens: int) -> int:
    """Tells a whole row from a torn one."""
    head = b"%b %d %d %b " % (key, input_tokens, output_tokens, finish.encode())
    return zlib.crc32(text.encode(), zlib.crc32(head))
