"""Any instruction set, read into raw rows one at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

from tapir.corpus.json_rows import SPLITS, WRAPPERS, read_json_document, read_json_lines
from tapir.corpus.raw import Bad, Raw, Repair
from tapir.corpus.source import CHUNK_BYTES, PARQUET, DataFile, Opened, content_digest, find_files, open_file
from tapir.corpus.tables import HubData, delimiter_of, read_csv, read_parquet
from tapir.errors import DataError

Format = Literal["jsonl", "json", "csv", "parquet", "hub"]
HUB = "hub:"
ROW_BYTES = 4 << 20
"""Longest row that is read at all, by default; the longest accepted one is `corpus.max_chars`."""
_SUFFIX_FORMATS = {
    "json": "json",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "csv": "csv",
    "tsv": "csv",
    "parquet": "parquet",
}


@dataclass
class FileFacts:
    """What was found out about one file."""

    name: str
    format: Format
    encoding: str
    is_compressed: bool
    size: int
    """Bytes on disk; 0 for a hub data set."""
    repairs: tuple[Repair, ...] = ()
    """What was odd about the file as a whole; final when its last row has come."""
    rows: int = 0
    """Rows read from it, broken ones included."""


Watch = Callable[[FileFacts, int], None]
"""Told of a file when it is opened, now and then with the bytes read of it, and when it ends."""
_WATCH_ROWS = 256


def no_watch(facts: FileFacts, position: int) -> None:
    """Watch nothing."""


class DataSet:
    """The files of an instruction set, found and checked, not read yet.

    `path` is a file, a directory, or `hub:owner/name`. JSON (an array, an object around one, or objects one after the
    other), JSON Lines, CSV and Parquet are told apart by content; gzip and UTF-16 are undone. Memory stays constant.

    Raises:
        DataError: there is nothing to read at `path`.
    """

    def __init__(
        self, path: str | Path, split: str = "train", row_bytes: int = ROW_BYTES, extra: Sequence[str] = ()
    ) -> None:
        """`extra`: columns of tables to read besides the known ones."""
        self.path = str(path)
        self._split = split
        self._row_bytes = row_bytes
        self._extra = extra
        self.hub = HubData(self.path.removeprefix(HUB), split, extra) if self.path.startswith(HUB) else None
        self.files: list[DataFile] = []
        self.skipped: list[Repair] = []
        """Files of the directory that are not read."""
        if self.hub is None:
            self.files, self.skipped = find_files(Path(path), split)

    @property
    def size(self) -> int:
        """Bytes on disk, 0 for a hub data set."""
        return sum(file.path.stat().st_size for file in self.files)

    def digest(self) -> str:
        """Digest of the content: the same rows in the same files give the same one."""
        return self.hub.digest() if self.hub else content_digest(self.files)

    def rows(self, watch: Watch = no_watch) -> Iterator[Raw | Bad]:
        """Every row, in the order of the files; what cannot be read comes as `Bad`.

        Raises:
            DataError: a file is empty, damaged, no data, or not one of its rows can be read.
        """
        if self.hub is not None:
            facts = FileFacts(self.path, "hub", "utf-8", False, 0)
            yield from _watched(facts, self.hub.rows(), lambda: (0, ()), watch)
        for file in self.files:
            yield from self._file_rows(file, watch)

    def _file_rows(self, file: DataFile, watch: Watch) -> Iterator[Raw | Bad]:
        opened = open_file(file)
        try:
            format_ = _format_of(opened)
            suffix = file.name.lower().removesuffix(".gz").rpartition(".")[2]
            named = _SUFFIX_FORMATS.get(suffix, format_)
            if named != format_ and {named, format_} != {"json", "jsonl"}:
                opened.notes = (*opened.notes, Repair("misnamed", file.name, format_))
            facts = FileFacts(file.name, format_, opened.encoding, opened.is_compressed, opened.size)
            yield from _checked(file, _watched(facts, self._read(opened, format_), lambda: _state(opened), watch))
        finally:
            opened.close()

    def _read(self, opened: Opened, format_: Format) -> Iterator[Raw | Bad]:
        if format_ == "parquet":
            return read_parquet(opened.file, self._extra)
        if format_ == "csv":
            return read_csv(opened, self._row_bytes)
        if format_ == "jsonl":
            return read_json_lines(opened, self._row_bytes)
        return read_json_document(opened, self._row_bytes, self._split)


def read_rows(path: str | Path, split: str = "train", row_bytes: int = ROW_BYTES) -> Iterator[Raw | Bad]:
    """Every row at `path`; see DataSet.

    Raises:
        DataError: there is nothing to read, or a file is damaged.
    """
    return DataSet(path, split, row_bytes).rows()


def _state(opened: Opened) -> tuple[int, tuple[Repair, ...]]:
    return opened.position, opened.notes


def _watched(
    facts: FileFacts,
    rows: Iterator[Raw | Bad],
    state: Callable[[], tuple[int, tuple[Repair, ...]]],
    watch: Watch,
) -> Iterator[Raw | Bad]:
    watch(facts, 0)
    for row in rows:
        facts.rows += 1
        if facts.rows % _WATCH_ROWS == 0:
            watch(facts, state()[0])
        yield row
    position, facts.repairs = state()
    watch(facts, position)


def _checked(file: DataFile, rows: Iterator[Raw | Bad]) -> Iterator[Raw | Bad]:
    """The same rows, with an error where there are none, or where all are broken."""
    first: Bad | None = None
    held: list[Bad] = []
    count = 0
    is_sound = False
    for row in rows:
        count += 1
        if is_sound:
            yield row
        elif isinstance(row, Raw):
            is_sound = True
            yield from held
            held.clear()
            yield row
        else:
            first = first or row
            held.append(row)
            if len(held) >= 10_000:
                break
    if not is_sound:
        if first is None:
            raise DataError(f"{file.path}: the file holds no rows; give one with rows in it")
        raise DataError(
            f"{file.path}: none of the first {count} rows can be read; {first.place} {first.detail}. "
            "Give JSON, JSON Lines, CSV or Parquet with one row for each instruction"
        )


def _format_of(opened: Opened) -> Format:
    """What a file holds, by its first bytes.

    Raises:
        DataError: it is none of the formats that are read.
    """
    path = opened.file.path
    head = opened.stream.peek(CHUNK_BYTES)
    if head.startswith(PARQUET):
        if opened.is_compressed:
            raise DataError(f"{path}: is a Parquet file inside gzip; unpack it with gunzip")
        return "parquet"
    start = head.lstrip(b" \t\r\n\x00")
    if not start:
        raise DataError(f"{path}: the file holds only white space or NUL bytes; fetch it again")
    if start[:1] == b"[":
        return "json"
    is_lines = opened.file.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))
    if is_lines and not _is_document(start):
        return "jsonl"
    if start[:1] == b"{":
        return "jsonl" if _is_lines(start) else "json"
    if start[:20].lower().startswith((b"<!doctype", b"<html")):
        raise DataError(f"{path}: is a web page, as after a failed download; fetch the data itself")
    first = start.split(b"\n", 1)[0].decode("utf-8", "surrogateescape")
    suffix = opened.file.name.lower().removesuffix(".gz")
    if suffix.endswith((".csv", ".tsv")) or delimiter_of(first.rstrip("\r")) is not None:
        return "csv"
    if suffix.endswith(".json"):
        return "jsonl"
    raise DataError(
        f"{path}: is neither JSON, JSON Lines, CSV with a header nor Parquet; it begins with {first[:40]!r}: "
        "give one of these"
    )


def _is_document(start: bytes) -> bool:
    """Whether a text named JSON Lines is one document after all: an indented object, or one object around rows."""
    first, _, rest = start.partition(b"\n")
    if first.rstrip() == b"{":
        return rest.lstrip().startswith(b'"')
    if rest.strip():
        return False
    try:
        return _is_wrapper(orjson.loads(first))
    except orjson.JSONDecodeError:
        return False


def _is_wrapper(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(name), list) for name in (*WRAPPERS, *SPLITS))


def _is_lines(start: bytes) -> bool:
    """Whether a text that begins with an object is JSON Lines rather than one document."""
    first, has_break, rest = start.partition(b"\n")
    first = first.strip()
    try:
        value = orjson.loads(first)
    except orjson.JSONDecodeError:
        if not has_break or first.endswith((b"{", b"[", b",", b":")):
            return False
        try:
            return isinstance(orjson.loads(rest.lstrip().partition(b"\n")[0]), dict)
        except orjson.JSONDecodeError:
            return False
    return bool(rest.strip()) or not _is_wrapper(value)
