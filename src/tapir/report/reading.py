"""Reading a run directory by columns: what the report and the live page need of it, and no more than that."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tapir.config import RunConfig, parse_config
from tapir.errors import RunError
from tapir.status import open_run, read_manifest
from tapir.store.files import digest, read_record

BATCH_ROWS = 20_000

Arrow = Any
"""A column of pyarrow's. Its type stubs know neither nested columns nor that ours hold no nulls."""


@dataclass(frozen=True)
class Stage:
    """A stage that is whole."""

    directory: Path
    record: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What tells this result from an earlier one of the same stage."""
        return f"{self.record['key']}:{self.record.get('tries', 1)}"

    @property
    def label(self) -> str:
        """The name of its directory, such as `01-expand-2`."""
        return self.directory.name

    @property
    def name(self) -> str:
        """Its name without the round, such as `expand-2`."""
        return self.label.partition("-")[2]

    @property
    def verb(self) -> str:
        """Its name without the count of a repeat, such as `expand`."""
        head, _, last = self.name.rpartition("-")
        return head if last.isdigit() else self.name

    @property
    def round(self) -> int:
        """The round that it belongs to; 0 before round 1."""
        return int(self.record["round"])

    @property
    def title(self) -> str:
        """Its name where people read it."""
        return stage_title(self.label)

    @property
    def is_shared(self) -> bool:
        """Whether an arm took this stage over from the run that it belongs to."""
        return bool(self.record.get("is_shared"))

    @property
    def row_type(self) -> str | None:
        """The type of its rows; None where a student was trained."""
        kind = self.record["row_type"]
        return None if kind is None else str(kind)

    @property
    def rows_in(self) -> int:
        """Rows that went in."""
        return int(self.record["rows_in"])

    @property
    def kept(self) -> int:
        """Rows that came out."""
        return int(self.record["kept"])

    @property
    def refused(self) -> dict[str, int]:
        """Rows refused, by reason."""
        return dict(self.record["refused"])

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the stage has noted beside its rows."""
        notes: Mapping[str, Any] = self.record["notes"]
        return notes

    def read(self, *columns: str) -> pa.Table:
        """These columns of the kept rows; a part of a nested column is named with dots.

        Raises:
            RunError: the file is missing or torn.
        """
        return read_columns(self.directory / "rows.parquet", columns)

    def read_refused(self, *columns: str) -> pa.Table:
        """These columns of the refused rows."""
        return read_columns(self.directory / "refused.parquet", columns)

    def batches(self, *columns: str) -> Iterator[pa.RecordBatch]:
        """These columns of the kept rows, a part at a time: for texts, which need not be in memory at once."""
        yield from read_batches(self.directory / "rows.parquet", columns)

    def find(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        """The kept rows with these ids as plain values, in the order in which they stand."""
        return find_rows(self.directory / "rows.parquet", ids)


def stage_title(label: str) -> str:
    """A stage's directory name as observers and readers are told it: `01-expand` is `round 1: expand`.

    What is no stage of a run keeps its name: `pilot-judge`, `probe`.
    """
    number, _, name = label.partition("-")
    if not number.isdecimal():
        return label
    return f"round {int(number)}: {name}" if int(number) else name


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Columns of a Parquet file, batch by batch.

    Raises:
        RunError: the file is missing or torn.
    """
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns) or None)
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path}: cannot be read ({error}); `tapir run` makes it again") from error


def find_rows(path: Path, ids: Iterable[str]) -> list[dict[str, Any]]:
    """The rows with these ids; reads the whole of only those row groups that hold one."""
    wanted = pa.array(sorted(set(ids)), type=pa.string())
    found: list[dict[str, Any]] = []
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                here = pc.is_in(file.read_row_group(group, columns=["id"])["id"], value_set=wanted)
                if pc.any(here).as_py():
                    found += file.read_row_group(group).filter(here).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path}: cannot be read ({error}); `tapir run` makes it again") from error
    return found


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of a Parquet file; all of them where none is named.

    Raises:
        RunError: the file is missing or torn.
    """
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns=list(columns) or None)
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path}: cannot be read ({error}); `tapir run` makes it again") from error


INSTRUCTION = "turns.list.element.content"
"""The column of a conversation's texts, one list a row."""


def instructions(turns: Arrow) -> Arrow:
    """The text of the last turn of each row, from a column `turns` that holds texts or whole messages."""
    lengths = pc.list_value_length(turns)
    ends = pc.add(turns.offsets[:-1], lengths)
    texts = turns.values.field("content") if pa.types.is_struct(turns.values.type) else turns.values
    return texts.take(pc.subtract(ends, 1))


def read_stages(directory: Path) -> list[Stage]:
    """The whole stages of a run, in the order in which they were begun."""
    paths = sorted((directory / "stages").glob("*/stage.json"))
    found = [Stage(path.parent, record) for path in paths if (record := read_record(path)) is not None]
    return sorted(found, key=lambda one: (one.round, float(one.record["started"])))


class RunFiles:
    """A run directory as it is now: its settings and the stages that are whole."""

    def __init__(self, path: Path) -> None:
        self.directory = open_run(path)
        self.manifest = read_manifest(self.directory)
        self.stages = read_stages(self.directory)

    @cached_property
    def config(self) -> RunConfig:
        """The run's resolved configuration."""
        return parse_config(self.manifest["config"], str(self.directory / "manifest.json"))

    def stage(self, name: str, round_: int = 0) -> Stage | None:
        """One stage; None where it is not whole."""
        return next((one for one in self.stages if one.round == round_ and one.name == name), None)

    def named(self, verb: str) -> list[Stage]:
        """The stages of this name in all rounds, repeats included."""
        return [one for one in self.stages if one.verb == verb]

    def in_round(self, round_: int, verb: str) -> list[Stage]:
        """The stages of this name in one round, repeats included."""
        return [one for one in self.named(verb) if one.round == round_]

    @property
    def rounds(self) -> list[int]:
        """The rounds that have a whole stage, 0 left out."""
        return sorted({one.round for one in self.stages if one.round})

    @cached_property
    def running(self) -> list[str]:
        """The directories of stages that have begun and are not whole, earliest round first."""
        return sorted(path.parent.name for path in (self.directory / "stages").glob("*/begun.json"))

    @cached_property
    def arms(self) -> list["RunFiles"]:
        """The rivals that have a directory of their own."""
        found = sorted((self.directory / "arms").glob("*/manifest.json"))
        return [RunFiles(path.parent) for path in found]

    @property
    def version(self) -> str:
        """Changes when a stage becomes whole, here or in an arm, and when one begins."""
        keys = [one.key for run in (self, *self.arms) for one in run.stages]
        return digest([*keys, *self.running])

    def is_at_work(self) -> bool:
        """Whether the process that last opened this run is still there."""
        try:
            owner = int((self.directory / ".lock").read_text(encoding="ascii"))
            os.kill(owner, 0)
        except (OSError, ValueError):
            return False
        return True


def strings(column: Arrow) -> list[str]:
    """The texts of a column that holds no nulls."""
    found: list[str] = column.to_pylist()
    return found


def column_counts(column: Arrow) -> dict[str, int]:
    """How often each value stands in a column; most frequent first, equals by name."""
    pairs: Arrow = pc.value_counts(column.combine_chunks())
    counts = {str(one["values"]): int(one["counts"]) for one in pairs.to_pylist()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of several counts by name; largest first, equals by name."""
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
