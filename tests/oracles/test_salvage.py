"""A torn ledger: detected, salvaged, and what was lost is said."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tapir.errors import ConfigError, RunError
from tapir.oracles.ledger_file import LedgerFile
from tapir.testing.acts import reply

from .conftest import Serve
from .test_ledger import asking, fill, held


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_within_a_page(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def overwrite(path: Path, at: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * length)


def spoil_the_middle(path: Path) -> None:
    overwrite(path, path.stat().st_size // 2 // 4096 * 4096, 8192)


def spoil_the_header(path: Path) -> None:
    overwrite(path, 0, 100)


def spoil_the_schema(path: Path) -> None:
    overwrite(path, 0, 4096)


def spoil_the_root(path: Path) -> None:
    overwrite(path, 4096, 4096)


@pytest.mark.parametrize(
    ("damage", "at_least"),
    [
        (cut_in_half, 200),
        (cut_within_a_page, 480),
        (spoil_the_middle, 480),
        (spoil_the_header, 495),
        (spoil_the_schema, 495),
        (spoil_the_root, 495),
    ],
)
def test_a_torn_ledger_is_salvaged_and_says_what_was_lost(
    tmp_path: Path, damage: Callable[[Path], None], at_least: int
) -> None:
    path = tmp_path / "ledger.sqlite"
    fill(path, 500, "x" * 700)
    damage(path)
    with LedgerFile(path) as ledger:
        (notice,) = ledger.notices
        kept = {int.from_bytes(e.key, "big"): e.completion.text for e in ledger.entries()}
        spent = ledger.spent("run")
    assert at_least <= len(kept) <= 500
    assert all(text == "x" * 700 + f" {i}" for i, text in kept.items())
    assert f"{len(kept)}" in notice and "damaged" in notice
    if f"{len(kept)} of 500" in notice:
        assert (f"{500 - len(kept)} are lost" in notice) or ("none is lost" in notice and len(kept) == 500)
        assert spent.calls == 500
    assert len(list(tmp_path.glob("ledger.sqlite.damaged-*"))) >= 1
    with LedgerFile(path) as ledger:
        assert ledger.notices == []


def test_what_a_salvage_lost_is_asked_again_and_nothing_else(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    server = serve(lambda call: reply("z" * 500))
    asking(server, path, 300).communicate()
    spoil_the_middle(path)
    kept = len(held(path))
    assert asking(server, path, 300).communicate()[0] == "300\n"
    assert len(server.calls) == 300 + (300 - kept)


def test_a_torn_log_costs_only_what_was_not_synced(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fill(path, 100)
    code = f"""
import asyncio, os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from oracles.test_ledger import entry
from tapir.oracles.ledger_file import LedgerFile
from pathlib import Path
async def main():
    ledger = LedgerFile(Path({str(path)!r}))
    for i in range(100, 110):
        await ledger.put(entry(i))
    os._exit(0)
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    log = path.with_name("ledger.sqlite-wal")
    os.truncate(log, log.stat().st_size - 2000)
    assert sorted(held(path))[:109] == list(range(109))


def test_a_reply_that_was_altered_on_disk_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fill(path, 3)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"answer 1", b"answer 7"))
    assert held(path) == {0: "answer 0", 2: "answer 2"}


def test_another_database_is_not_taken_for_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="not a ledger"):
        LedgerFile(path)
    assert path.read_bytes() == before


def test_a_damaged_ledger_that_another_process_uses_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fill(path, 300)
    with LedgerFile(path):
        spoil_the_middle(path)
        with pytest.raises(RunError, match="in use by another process"):
            LedgerFile(path)


def test_a_salvage_that_was_killed_half_way_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fill(path, 5)
    path.rename(path.with_name("ledger.sqlite.salvaging"))
    assert len(held(path)) == 5


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be opened"):
        LedgerFile(tmp_path / "file" / "ledger.sqlite")
