"""Rows of CSV, Parquet and hub data sets, streamed."""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from tapir.corpus.json_value import Unreadable, read_foreign_bytes
from tapir.corpus.raw import Bad, Raw, Repair
from tapir.corpus.shape import COLUMNS, is_row_shape, wanted_columns
from tapir.corpus.source import DataFile, Opened
from tapir.errors import DataError
from tapir.rows import excerpt

DELIMITERS = (",", "\t", ";", "|")
_SEP_LINE = re.compile(r"sep=.?", re.IGNORECASE)
BATCH_ROWS = 512
ROW_GROUP_BYTES = 2 << 30
"""Most bytes that a Parquet row group may unpack to: one is in memory at a time."""


def delimiter_of(header: str) -> str | None:
    """The delimiter with which a line names columns that hold instructions and responses; None if none does."""
    for delimiter in DELIMITERS:
        try:
            names = next(csv.reader([header], delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        if is_row_shape([name.strip() for name in names]):
            return delimiter
    return None


def read_csv(opened: Opened, row_bytes: int) -> Iterator[Raw | Bad]:
    """One row a record, named by the header; a quote that is never closed costs only its own line.

    Raises:
        DataError: the header names no column that could hold an instruction and a response.
    """
    name = opened.file.name
    csv.field_size_limit(max(csv.field_size_limit(), row_bytes))
    first, header_text = _header(opened, row_bytes)
    delimiter = delimiter_of(header_text)
    if delimiter is None:
        raise DataError(f"{opened.file.path}: {no_columns(header_text.strip().split(','))}")
    header = [column.strip() for column in next(csv.reader([header_text], delimiter=delimiter))]
    if len(set(header)) != len(header):
        raise DataError(f"{opened.file.path}: two columns have the same name in {header}; rename one")
    for number, record in _records(opened, delimiter, row_bytes, first):
        place = f"line {number}"
        if isinstance(record, Unreadable):
            yield Bad(name, place, record.reason, record.detail)
        elif len(record) != len(header):
            detail = f"has {len(record)} fields where the header has {len(header)}"
            yield Bad(name, place, "wrong-columns", detail, excerpt(delimiter.join(record)))
        else:
            try:
                yield _csv_row(name, place, header, record)
            except Unreadable as error:
                yield Bad(name, place, error.reason, error.detail)


def _header(opened: Opened, row_bytes: int) -> tuple[int, str]:
    """The header and the number of its line: the first that is not blank and not a spreadsheet's `sep=;`."""
    number = 0
    while data := opened.stream.readline(row_bytes):
        number += 1
        text, _ = _text(data)
        if text.strip() and not _SEP_LINE.fullmatch(text.strip()):
            return number, text
    return number, ""


def no_columns(found: Sequence[str]) -> str:
    """What is wrong with columns that hold no instruction or no response."""
    known = ", ".join(f"{role}: {'/'.join(names)}" for role, names in COLUMNS.items())
    columns = ", ".join(repr(excerpt(str(name))) for name in list(found)[:20]) or "none"
    return f"no columns with instructions and responses; found {columns}; rename them to known ones ({known})"


def _csv_row(name: str, place: str, header: Sequence[str], record: Sequence[str]) -> Raw:
    repairs: tuple[Repair, ...] = ()
    values = list(record)
    for index, value in enumerate(values):
        if not value.isascii():
            values[index], more = read_foreign_bytes(value)
            repairs += more
    return Raw(name, place, dict(zip(header, values, strict=True)), repairs)


def _text(line: bytes) -> tuple[str, int]:
    return line.decode("utf-8", "surrogateescape"), len(line)


class _Overlong(Exception):
    """A record goes on for longer than a row may be."""


def _records(
    opened: Opened, delimiter: str, row_bytes: int, number: int
) -> Iterator[tuple[int, list[str] | Unreadable]]:
    """Records after line `number`, with the number of their first line.

    After a broken one the reading starts again on the next line.
    """
    again: deque[tuple[int, str, int]] = deque()
    record: list[tuple[int, str, int]] = []
    size = 0

    def feed() -> Iterator[str]:
        nonlocal number, size
        while True:
            if again:
                line = again.popleft()
            else:
                data = opened.stream.readline(row_bytes)
                if not data:
                    return
                number += 1
                line = (number, *_text(data))
                while data and not data.endswith(b"\n"):  # the rest of a line that is too long already
                    data = opened.stream.readline(row_bytes)
            record.append(line)
            size += line[2]
            if size >= row_bytes:
                raise _Overlong
            yield line[1]

    while True:
        reader = csv.reader(feed(), delimiter=delimiter, strict=True)
        try:
            for values in reader:
                first = record[0][0]
                record.clear()
                size = 0
                if values:
                    yield first, values
            return
        except (csv.Error, _Overlong) as error:
            (first, _, _), *rest = record
            record.clear()
            size = 0
            again.extendleft(reversed(rest))
            if isinstance(error, _Overlong):
                yield first, Unreadable("too-long", f"goes on for {row_bytes} bytes or more (a quote never closed?)")
            else:
                yield first, Unreadable("broken-csv", f"{error} (a quote that is not closed, or not doubled?)")


def read_parquet(file: DataFile, extra: Sequence[str] = ()) -> Iterator[Raw | Bad]:
    """The rows of a Parquet file, with the columns that are of use and those in `extra`.

    Raises:
        DataError: the file is damaged, its row groups are too large, or no column holds instructions.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file.path, pre_buffer=False)
        names = table.schema_arrow.names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file.path}: is not a whole Parquet file ({_short(error)}); fetch it again") from error
    with table:
        if not is_row_shape(names):
            raise DataError(f"{file.path}: {no_columns(names)}")
        largest = max((table.metadata.row_group(i).total_byte_size for i in range(table.num_row_groups)), default=0)
        if largest > ROW_GROUP_BYTES:
            raise DataError(
                f"{file.path}: a row group unpacks to {largest} bytes, more than {ROW_GROUP_BYTES}; "
                "write it again with smaller row groups"
            )
        if table.metadata.num_rows == 0:
            raise DataError(f"{file.path}: the file holds no rows; give one with rows in it")
        columns = wanted_columns(names, extra)
        if len(set(columns)) != len(columns):
            raise DataError(f"{file.path}: two columns have the same name in {columns}; rename one")
        count = 0
        try:
            for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False):
                for row in _batch_rows(batch):
                    count += 1
                    place = f"row {count}"
                    yield (
                        Bad(file.name, place, row.reason, row.detail)
                        if isinstance(row, Unreadable)
                        else Raw(file.name, place, row)
                    )
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{file.path}: is damaged after row {count} ({_short(error)}); fetch the file again"
            ) from error


def _short(error: BaseException) -> str:
    return excerpt(" ".join(str(error).split()))


def _batch_rows(batch: Any) -> Iterator[dict[str, Any] | Unreadable]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield Unreadable("not-utf-8", "holds bytes that are not UTF-8")


class HubData:
    """A data set of the Hugging Face hub, or a directory that `datasets` can load.

    Raises:
        DataError: it cannot be loaded, or has no such split.
    """

    def __init__(self, name: str, split: str, extra: Sequence[str] = ()) -> None:
        self.name = name
        self._split = split
        self._extra = extra
        self._data: Any = None

    def _load(self) -> Any:
        if not self.name:
            raise DataError("hub: names no data set; give hub:owner/name")
        if self._data is None:
            import datasets

            datasets.disable_progress_bars()
            try:
                self._data = datasets.load_dataset(self.name, split=self._split)
            except Exception as error:  # the hub's client has a kind of its own for every cause
                raise DataError(
                    f"hub:{self.name}: split {self._split!r} cannot be loaded ({_short(error)}); check name, split and "
                    "network, or download the data set and give its directory"
                ) from error
            if not is_row_shape(self._data.column_names):
                raise DataError(f"hub:{self.name}: {no_columns(self._data.column_names)}")
        return self._data

    def __len__(self) -> int:
        return len(self._load())

    def rows(self) -> Iterator[Raw]:
        """The rows, in order."""
        data = self._load()
        data = data.select_columns(wanted_columns(data.column_names, self._extra))
        for index, row in enumerate(data):
            yield Raw(f"hub:{self.name}", f"row {index + 1}", row)

    def digest(self) -> str:
        """Digest of all the rows (32 hexadecimal digits)."""
        from hashlib import blake2b

        state = blake2b(digest_size=16)
        for raw in self.rows():
            state.update(orjson.dumps(raw.fields, default=str, option=orjson.OPT_NON_STR_KEYS))
        return state.hexdigest()
