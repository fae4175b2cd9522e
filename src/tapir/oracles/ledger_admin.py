"""Looking after a ledger: what it holds, the replies as JSON lines, and forgetting some of them."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tapir.errors import ConfigError
from tapir.oracles.failures import unusable
from tapir.oracles.ledger_file import LedgerFile, unusable_file
from tapir.oracles.ledger_schema import Entry
from tapir.oracles.money import Spending, total


class ModelCount(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger holds of one model."""

    model: str
    replies: int
    output_tokens: int
    cost: float


class LedgerStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger holds and what came of it."""

    replies: int
    bytes: int
    models: tuple[ModelCount, ...]
    spending: tuple[Spending, ...]
    total: Spending
    notices: tuple[str, ...] = ()
    """What was found wrong at opening, if anything."""


def ledger_stats(path: Path) -> LedgerStats:
    """What the ledger at `path` holds.

    Raises:
        ConfigError: there is no ledger at `path`.
    """
    with open_existing(path) as ledger:
        rows = ledger.query(
            "SELECT asked, count(*), sum(output_tokens), sum(cost) FROM replies GROUP BY asked ORDER BY asked"
        )
        models = tuple(ModelCount(model=row[0], replies=row[1], output_tokens=row[2], cost=row[3]) for row in rows)
        spending = tuple(ledger.spending())
        return LedgerStats(
            replies=sum(model.replies for model in models),
            bytes=path.stat().st_size,
            models=models,
            spending=spending,
            total=total(spending),
            notices=tuple(ledger.notices),
        )


def export_ledger(path: Path, run: str | None = None, say: Callable[[str], None] = print) -> Iterator[dict[str, Any]]:
    """Every reply in the ledger, oldest first, as JSON values; only those paid for by `run` where one is given.

    `say` is told what was found wrong at opening.
    """
    with open_existing(path) as ledger:
        for notice in ledger.notices:
            say(notice)
        for entry in ledger.entries():
            if run is None or entry.booking.run == run:
                yield _as_json(entry)


def prune_ledger(
    path: Path,
    *,
    run: str | None = None,
    model: str | None = None,
    older_than_days: float | None = None,
    only_unusable: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Forget the replies that all the given conditions hold for; returns how many. Their prompts would be paid again.

    What was spent stays on record. `say` is told what was found wrong at opening.

    Raises:
        ConfigError: no condition is given.
    """
    if run is None and model is None and older_than_days is None and not only_unusable:
        raise ConfigError("prune needs a condition: a run, a model, an age, or only unusable replies")
    before_s = None if older_than_days is None else time.time() - older_than_days * 86_400
    with open_existing(path) as ledger:
        for notice in ledger.notices:
            say(notice)
        keys = [
            entry.key
            for entry in ledger.entries()
            if (run is None or entry.booking.run == run)
            and (model is None or entry.asked == model)
            and (before_s is None or entry.created_s < before_s)
            and (not only_unusable or unusable(entry.completion, as_is=False) is not None)
        ]
    try:
        _delete(path, keys)
    except sqlite3.Error as error:
        raise unusable_file(path, error) from error
    return len(keys)


def open_existing(path: Path) -> LedgerFile:
    """The ledger at `path`, which must be there."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no ledger here; name the file, such as runs/ledger.sqlite")
    return LedgerFile(path)


def _delete(path: Path, keys: list[bytes]) -> None:
    database = sqlite3.connect(path, timeout=60, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
        database.executemany("DELETE FROM replies WHERE key = ?", ((key,) for key in keys))
        database.execute(
            "UPDATE spending SET kept = (SELECT count(*) FROM replies WHERE replies.run = spending.run"
            " AND replies.role = spending.role AND replies.stage = spending.stage)"
        )
        database.execute("COMMIT")
        database.execute("VACUUM")
    finally:
        database.close()


def _as_json(entry: Entry) -> dict[str, Any]:
    done = entry.completion
    return {
        "key": entry.key.hex(),
        "model": entry.asked,
        "answered_by": done.model,
        "text": done.text,
        "finish": done.finish,
        "input_tokens": done.usage.input_tokens,
        "output_tokens": done.usage.output_tokens,
        "is_estimated": done.usage.is_estimated,
        "replies": done.replies,
        "cost": entry.cost,
        "latency_s": done.latency_s,
        "created_s": entry.created_s,
        "run": entry.booking.run,
        "role": entry.booking.role,
        "stage": entry.booking.stage,
    }
