"""A Parquet file of rows as a sheet: numbers in memory once asked for, texts read from the disk each time."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tapir.errors import RunError
from tapir.report.difficulty import ROUND_TO
from tapir.report.reading import INSTRUCTION, Arrow, strings

THREADS = 2
KEPT_SEARCHES = 8

Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]

TEXT_COLUMNS = {
    "instruction": ("turns", "instruction"),
    "response": ("response", "reference"),
    "student": ("student_response",),
    "detail": ("detail", "text"),
}
"""Where a search may look, and the columns that this means."""


@dataclass(frozen=True)
class Coded:
    """A column of few different texts."""

    names: tuple[str, ...]
    codes: NDArray[np.int64]

    def where(self, name: str) -> Mask:
        """Rows that hold this text."""
        if name not in self.names:
            return np.zeros(len(self.codes), dtype=np.bool_)
        found: Mask = self.codes == self.names.index(name)
        return found


class Sheet:
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._searches: OrderedDict[tuple[str, tuple[str, ...]], Mask] = OrderedDict()
        self._lock = threading.Lock()
        try:
            self._meta = pq.read_metadata(path)
            schema = pq.read_schema(path)
        except (OSError, pa.ArrowException) as error:
            raise RunError(f"{path}: cannot be read ({error}); `tapir run` makes it again") from error
        self.columns = frozenset(schema.names)
        counts = [self._meta.row_group(group).num_rows for group in range(self._meta.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return int(self._starts[-1])

    @property
    def ids(self) -> Arrow:
        """The ids of all rows; read each time, for they are long."""
        return self._read("id")["id"].combine_chunks()

    @cached_property
    def mfd(self) -> Numbers:
        """Teacher's score minus student's score."""
        table = self._read("teacher_score", "student_score")
        found: Numbers = np.round(_numbers(table["teacher_score"]) - _numbers(table["student_score"]), ROUND_TO)
        return found

    @cached_property
    def score(self) -> Numbers:
        """The score of an evaluated row, or a label's confidence."""
        return _numbers(self._read("score")["score"])

    @cached_property
    def round(self) -> NDArray[np.int64]:
        """The round that wrote each row."""
        column: Arrow = self._read("lineage.round")["lineage"].combine_chunks()
        found: NDArray[np.int64] = column.field("round").to_numpy()
        return found

    @cached_property
    def task(self) -> Coded:
        """The task of each row."""
        return self._coded("task")

    @cached_property
    def reason(self) -> Coded:
        """The reason of each refusal."""
        return self._coded("reason")

    @cached_property
    def is_correct(self) -> Coded:
        """Whether an evaluated answer is right, as text."""
        column = self._read("is_correct")["is_correct"]
        values = [{True: "right", False: "wrong", None: "not told"}[one] for one in column.to_pylist()]
        coded: Arrow = pa.array(values, type=pa.string()).dictionary_encode()
        return Coded(tuple(strings(coded.dictionary)), coded.indices.to_numpy().astype(np.int64))

    def _coded(self, name: str) -> Coded:
        with pq.ParquetFile(self.path, metadata=self._meta, read_dictionary=[name]) as file:
            column: Arrow = file.read(columns=[name])[name].combine_chunks()
        coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        codes = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False)
        return Coded(tuple(strings(coded.dictionary)), codes.astype(np.int64))

    def _read(self, *columns: str) -> pa.Table:
        with pq.ParquetFile(self.path, metadata=self._meta) as file:
            return file.read(columns=list(columns))

    def search(self, words: str, places: Sequence[str]) -> Mask:
        """Rows with this text, in any case, in any of `places` (names of TEXT_COLUMNS)."""
        key = (words, tuple(places))
        with self._lock:
            if key in self._searches:
                self._searches.move_to_end(key)
                return self._searches[key]
        columns = [name for place in places for name in TEXT_COLUMNS[place] if name in self.columns]
        groups = range(self._meta.num_row_groups)
        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(lambda group: self._matches(group, words, columns), groups))
        found: Mask = np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)
        with self._lock:
            self._searches[key] = found
            while len(self._searches) > KEPT_SEARCHES:
                self._searches.popitem(last=False)
        return found

    def _matches(self, group: int, words: str, columns: Sequence[str]) -> Mask:
        rows = self._meta.row_group(group).num_rows
        found: Mask = np.zeros(rows, dtype=np.bool_)
        with pq.ParquetFile(self.path, metadata=self._meta) as file:
            for name in columns:
                wanted = INSTRUCTION if name == "turns" else name
                column: Arrow = file.read_row_group(group, columns=[wanted], use_threads=False)[name].combine_chunks()
                found |= _in_turns(column, words) if name == "turns" else _holds(column, words)
        return found

    def find(self, ids: Iterable[str]) -> list[int]:
        """The places of the rows with these ids, in their order."""
        if "id" not in self.columns:
            return []
        wanted = pa.array(sorted(set(ids)), type=pa.string())

        def hits(group: int) -> list[int]:
            with pq.ParquetFile(self.path, metadata=self._meta) as file:
                column: Arrow = file.read_row_group(group, columns=["id"], use_threads=False)["id"].combine_chunks()
            found: Arrow = pc.is_in(column, value_set=wanted)
            return [int(self._starts[group] + one) for one in np.flatnonzero(_mask(found))]

        with ThreadPoolExecutor(THREADS) as pool:
            return [place for found in pool.map(hits, range(self._meta.num_row_groups)) for place in found]

    def take(self, places: Sequence[int], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The rows at these places, in this order, as plain values; of nested columns a part may be named."""
        by_place: dict[int, dict[str, Any]] = {}
        groups = self._groups(places)
        with ThreadPoolExecutor(THREADS) as pool:
            for found in pool.map(lambda item: self._take_group(item[0], item[1], columns), groups):
                by_place.update(found)
        return [by_place[place] for place in places]

    def _groups(self, places: Sequence[int]) -> list[tuple[int, list[int]]]:
        groups: dict[int, list[int]] = {}
        for place in places:
            group = int(np.searchsorted(self._starts, place, side="right")) - 1
            groups.setdefault(group, []).append(place)
        return list(groups.items())

    def _take_group(
        self, group: int, places: Sequence[int], columns: Sequence[str] | None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        with pq.ParquetFile(self.path, metadata=self._meta) as file:
            table = file.read_row_group(group, columns=list(columns) if columns else None, use_threads=False)
        start = int(self._starts[group])
        taken = table.take(pa.array([place - start for place in places], type=pa.int64()))
        return zip(places, taken.to_pylist(), strict=True)


def _numbers(column: Arrow) -> Numbers:
    found: Numbers = column.to_numpy().astype(np.float64)
    return found


def _mask(column: Arrow) -> Mask:
    found: Mask = column.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _holds(column: Arrow, words: str) -> Mask:
    return _mask(pc.match_substring(column, words, ignore_case=True))


def _in_turns(turns: Arrow, words: str) -> Mask:
    """Rows whose conversation has the words in any turn."""
    hits = np.concatenate([[0], np.cumsum(_holds(turns.flatten().field("content"), words))])
    ends = np.cumsum(pc.list_value_length(turns).to_numpy())
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    found: Mask = hits[ends] > hits[starts]
    return found


class Shelf:
    """The sheets that were looked into lately; a file that has changed is opened anew."""

    def __init__(self, most: int = 24) -> None:
        self._most = most
        self._sheets: OrderedDict[tuple[Path, int, int], Sheet] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: Path) -> Sheet:
        """The sheet of this file.

        Raises:
            RunError: the file is missing or torn.
        """
        try:
            stat = path.stat()
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror}); run the same command again") from error
        key = (path, stat.st_mtime_ns, stat.st_size)
        with self._lock:
            if key in self._sheets:
                self._sheets.move_to_end(key)
                return self._sheets[key]
        sheet = Sheet(path)
        with self._lock:
            self._sheets[key] = sheet
            while len(self._sheets) > self._most:
                self._sheets.popitem(last=False)
        return sheet
