"""Where the bytes of a data set come from: files found, opened, unpacked and recoded to UTF-8, all within bounds.

What a file holds is told by its first bytes, never by its name.
"""

import codecs
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

from tapir.corpus.raw import Repair
from tapir.errors import DataError

Stream: TypeAlias = "io.BufferedReader[Any]"
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
"""Names that are read in a directory, each also with `.gz`; a single file may have any name."""
METADATA = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
"""Files that data sets keep about themselves."""
CHUNK_BYTES = 1 << 20
PARQUET = b"PAR1"
"""The first bytes of a Parquet file."""
BOMB_BYTES = 64 << 20
BOMB_RATIO = 300
"""A file that unpacks to more than BOMB_BYTES may not be more than BOMB_RATIO times its packed size."""

_FOREIGN = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save it as CSV"),
    (b"BZh", "packed with bzip2", "unpack it with bunzip2"),
    (b"\xfd7zXZ\x00", "packed with xz", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "unpack it with unzstd"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"ARROW1", "an Arrow file", "save it as Parquet (datasets: `to_parquet`)"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"%PDF", "a PDF", "give JSON, JSONL, CSV or Parquet"),
    (b"\x80\x02", "a Python pickle, which tapir never opens", "save it as JSON or Parquet"),
    (b"\x80\x03", "a Python pickle, which tapir never opens", "save it as JSON or Parquet"),
    (b"\x80\x04", "a Python pickle, which tapir never opens", "save it as JSON or Parquet"),
    (b"\x80\x05", "a Python pickle, which tapir never opens", "save it as JSON or Parquet"),
    (b"version https://git-lfs.github.com", "a Git LFS pointer, not the data", "fetch the data with `git lfs pull`"),
)
_LINE_END = re.compile(rb"\r\n?|\n")
_SPLIT = re.compile(r"(?:^|[-_./])(train|test|validation|valid|val|dev)(?=[-_./]|$)")


@dataclass(frozen=True)
class DataFile:
    """One file to read."""

    path: Path
    name: str
    """Its name as rows show it: relative to the directory that was asked for."""


@dataclass
class Opened:
    """A file that is open for reading, as UTF-8 bytes without a byte order mark."""

    file: DataFile
    stream: Stream
    bottom: Stream
    """The file itself, below unpacking and recoding."""
    size: int
    """Bytes on disk."""
    is_compressed: bool
    encoding: str
    notes: tuple[Repair, ...]

    @property
    def position(self) -> int:
        """Bytes of the file on disk read so far."""
        return self.bottom.tell()

    def close(self) -> None:
        """Close the file."""
        self.bottom.close()


def find_files(path: Path, split: str) -> tuple[list[DataFile], list[Repair]]:
    """The data files at `path`, in the order of their names, and a note for each that is left out.

    In a directory only files named like data are read; where names tell splits apart, only those of `split`.

    Raises:
        DataError: there is no such file, it is neither a file nor a directory, or the directory holds no data.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path!s}: cannot be opened ({error}); check the path and its permissions") from error
    if stat.S_ISDIR(mode):
        return _in_directory(path, split)
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is {_kind(mode)}, not a file; write its content to a file and give that")
    return [DataFile(path, path.name)], []


def _in_directory(root: Path, split: str) -> tuple[list[DataFile], list[Repair]]:
    found: list[DataFile] = []
    skipped: list[Repair] = []
    for folder, folders, names in os.walk(root, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            shown = path.relative_to(root).as_posix()
            is_data = name.lower().removesuffix(".gz").endswith(SUFFIXES) and name not in METADATA
            if name.startswith(".") or not (is_data and path.is_file()):
                skipped.append(Repair("skipped-file", shown, ""))
            else:
                found.append(DataFile(path, shown))
    if not found:
        raise DataError(
            f"{root}: the directory holds no data file among {len(skipped)}; "
            f"give a file, or put files named {', '.join('*' + suffix for suffix in SUFFIXES)} there"
        )
    return _of_split(root, found, skipped, split)


def _of_split(
    root: Path, found: list[DataFile], skipped: list[Repair], split: str
) -> tuple[list[DataFile], list[Repair]]:
    splits = {file.name: match.group(1) for file in found if (match := _SPLIT.search(file.name.rsplit(".", 1)[0]))}
    if not splits or (len(set(splits.values())) == 1 and len(splits) == len(found)):
        return sorted(found, key=lambda file: file.name), skipped
    wanted = [file for file in found if splits.get(file.name, split) == split]
    if not wanted:
        raise DataError(
            f"{root}: no file belongs to split {split!r}; found {', '.join(sorted(set(splits.values())))}: "
            "give one of them as corpus.split, or name the file itself"
        )
    skipped += [Repair("skipped-split", file.name, "") for file in found if file not in wanted]
    return sorted(wanted, key=lambda file: file.name), skipped


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions") from error


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"))
    return next((name for is_kind, name in kinds if is_kind(mode)), "a device")


def open_file(file: DataFile) -> Opened:
    """Open a file, unpack gzip and recode UTF-16 and UTF-32, by its first bytes.

    Raises:
        DataError: the file cannot be read, is empty, or is packed in a way that is not read.
    """
    try:
        bottom: Stream = io.BufferedReader(io.FileIO(file.path), CHUNK_BYTES)
        size = os.fstat(bottom.fileno()).st_size
        head = bottom.peek(8)[:8]
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read ({error.strerror}); check its permissions") from error
    if not head:
        bottom.close()
        raise DataError(f"{file.path}: the file is empty; give one with rows in it")
    stream = bottom
    notes: list[Repair] = []
    is_compressed = head.startswith(b"\x1f\x8b")
    lower = file.name.lower()
    if is_compressed:
        stream = io.BufferedReader(_Unpacked(file.path, bottom), CHUNK_BYTES)
    if is_compressed != lower.endswith((".gz", ".gzip")):
        notes.append(Repair("misnamed", file.name, "gzip" if is_compressed else "not gzip"))
    try:
        stream, encoding, more = _as_utf_8(file.path, stream)
        stream, ends = _with_line_feeds(stream)
    except BaseException:
        bottom.close()
        raise
    return Opened(file, stream, bottom, size, is_compressed, encoding, (*notes, *more, *ends))


def _as_utf_8(path: Path, stream: Stream) -> tuple[Stream, str, list[Repair]]:
    head = stream.peek(8)[:8]
    for magic, what, step in _FOREIGN:
        if head.startswith(magic[:8]) and stream.peek(len(magic))[: len(magic)] == magic:
            raise DataError(f"{path}: is {what}; {step}")
    if head.startswith(b"\x1f\x8b"):
        raise DataError(f"{path}: is packed with gzip twice; unpack it once with gunzip")
    if head.startswith(codecs.BOM_UTF8):
        stream.read(3)
        return stream, "utf-8", [Repair("byte-order-mark", "U+FEFF at the start of the file", "")]
    encoding = _wide_encoding(head)
    if encoding is None:
        return stream, "utf-8", []
    recoded: Stream = io.BufferedReader(_Recoded(path, stream, encoding), CHUNK_BYTES)
    return recoded, encoding, [Repair(encoding[:6], encoding, "utf-8")]


def _with_line_feeds(stream: Stream) -> tuple[Stream, list[Repair]]:
    """The text of a file whose first line ends in CR alone with LF instead; any other stream as it is."""
    head = stream.peek(CHUNK_BYTES)
    end = _LINE_END.search(head)
    if end is None or end.group() != b"\r" or head.startswith(PARQUET):
        return stream, []
    return io.BufferedReader(_LineFeeds(stream), CHUNK_BYTES), [Repair("line-endings", "CR", "LF")]


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by byte order mark or by the zero bytes beside the first character."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return _WIDE_BY_ZEROS.get(tuple(bool(byte) for byte in head)) or _WIDE_BY_ZEROS.get(
        tuple(bool(byte) for byte in head[:4])
    )


_WIDE_BY_ZEROS = {
    (True, False, False, False) * 2: "utf-32-le",
    (False, False, False, True) * 2: "utf-32-be",
    (True, False, True, False): "utf-16-le",
    (False, True, False, True): "utf-16-be",
}
"""Which of the first eight or four bytes are not zero, where the text begins with ASCII."""


class _LineFeeds(io.RawIOBase):
    """A text with LF in place of CR."""

    def __init__(self, content: Stream) -> None:
        self._content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._content.read1(len(buffer)).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


class _Unpacked(io.RawIOBase):
    """The content of a gzip file, refused once it grows out of all proportion."""

    def __init__(self, path: Path, packed: Stream) -> None:
        self._path = path
        self._packed = packed
        self._content = gzip.GzipFile(fileobj=packed, mode="rb")
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._content.read(len(buffer))
        except EOFError as error:
            raise DataError(
                f"{self._path}: ends in the middle of its compressed data, after {self._bytes} bytes of text; "
                "fetch the file again"
            ) from error
        except (OSError, zlib.error) as error:
            raise DataError(
                f"{self._path}: its gzip data is damaged after {self._bytes} bytes of text ({error}); "
                "fetch the file again"
            ) from error
        self._bytes += len(data)
        if self._bytes > BOMB_BYTES and self._bytes > BOMB_RATIO * max(self._packed.tell(), 1):
            raise DataError(
                f"{self._path}: unpacks to more than {BOMB_RATIO} times its size, as no text does; "
                "if you trust it, unpack it with gunzip and give the result"
            )
        buffer[: len(data)] = data
        return len(data)


class _Recoded(io.RawIOBase):
    """The content of a UTF-16 or UTF-32 file as UTF-8."""

    def __init__(self, path: Path, content: Stream, encoding: str) -> None:
        self._path = path
        self._content = content
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._encoding = encoding
        self._rest = b""
        self._at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest and not self._at_end:
            data = self._content.read1(CHUNK_BYTES)
            self._at_end = not data
            try:
                self._rest = self._decoder.decode(data, final=self._at_end).encode("utf-8", "replace")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self._path}: is not whole {self._encoding.upper()} text ({error.reason}); save it as UTF-8"
                ) from error
        data, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def content_digest(files: list[DataFile]) -> str:
    """Digest of the names and the bytes of the files (32 hexadecimal digits), read in one pass.

    Raises:
        DataError: a file cannot be read.
    """
    state = blake2b(digest_size=16)
    for file in files:
        content = blake2b(digest_size=16)
        for chunk in _chunks(file.path):
            content.update(chunk)
        state.update(file.name.encode("utf-8", "surrogateescape") + b"\x00" + content.digest())
    return state.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
