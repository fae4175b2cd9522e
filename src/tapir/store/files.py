"""Typed rows in Parquet, JSON files written whole, and the digests that say whether they have changed."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import inspect

from tapir.errors import RunError
from tapir.rows import Row

R = TypeVar("R", bound=Row)

BATCH_ROWS = 20_000


def digest(value: Any) -> str:
    """Digest of any JSON-like value or row: 32 hexadecimal digits, equal for equal content."""
    return blake2b(msgspec.json.encode(value, order="sorted"), digest_size=16).hexdigest()


def rows_digest(rows: Sequence[Row]) -> str:
    """Digest of a sequence of rows in their order."""
    state = blake2b(digest_size=16)
    encoder = msgspec.json.Encoder(order="sorted")
    for row in rows:
        state.update(encoder.encode(row))
        state.update(b"\n")
    return state.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is either the old one or the new one, also after a power cut."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no such file or it is not one (a torn disk, say)."""
    try:
        value = msgspec.json.decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    return value if isinstance(value, dict) else None


_RECORD: Mapping[str, type | tuple[type, ...]] = {
    "key": str,
    "name": str,
    "round": int,
    "row_type": (str, NoneType),
    "rows_in": int,
    "kept": int,
    "refused": dict,
    "started": (int, float),
    "seconds": (int, float),
    "notes": dict,
}


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a stage in its `stage.json`; None where there is none, or not a whole one: the stage runs again."""
    record = read_json(path)
    if record is None:
        return None
    is_whole = all(name in record and isinstance(record[name], type_) for name, type_ in _RECORD.items())
    return record if is_whole else None


@cache
def schema_of(type_: type[Row]) -> pa.Schema:
    """The Parquet schema of a row type."""
    struct = inspect.type_info(type_)
    assert isinstance(struct, inspect.StructType)
    schema = pa.schema([_field(field) for field in struct.fields])
    return schema.with_metadata({"tapir.row": type_.__name__})


def _field(field: inspect.Field) -> Any:
    arrow, is_null = _arrow(field.type)
    return pa.field(field.encode_name, arrow, nullable=is_null)


def _arrow(kind: inspect.Type) -> tuple[pa.DataType, bool]:
    """The Arrow type of a field, and whether it may be null."""
    match kind:
        case inspect.Metadata(type=inner):
            return _arrow(inner)
        case inspect.UnionType(types=types):
            inner_type = next(one for one in types if not isinstance(one, inspect.NoneType))
            return _arrow(inner_type)[0], any(isinstance(one, inspect.NoneType) for one in types)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return pa.list_(_arrow(item)[0]), False
        case inspect.StructType(fields=fields):
            return pa.struct([_field(field) for field in fields]), False
        case inspect.StrType() | inspect.EnumType() | inspect.LiteralType():
            return pa.string(), False
        case inspect.BoolType():
            return pa.bool_(), False
        case inspect.IntType():
            return pa.int64(), False
        case inspect.FloatType():
            return pa.float64(), False
    raise TypeError(f"no column type for {kind}")


def write_rows(path: Path, type_: type[R], rows: Sequence[R]) -> None:
    """Write rows as Parquet, whole or not at all."""
    part = path.with_name(path.name + ".part")
    schema = schema_of(type_)
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for start in range(0, len(rows), BATCH_ROWS):
            batch = [msgspec.to_builtins(row) for row in rows[start : start + BATCH_ROWS]]
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def read_rows(path: Path, type_: type[R]) -> Iterator[R]:
    """The rows of a Parquet file that `write_rows` wrote, batch by batch.

    Raises:
        RunError: the file is missing, torn, or holds rows of another type.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                yield from msgspec.convert(batch.to_pylist(), list[type_])  # type: ignore[valid-type]
    except (OSError, pa.ArrowException, msgspec.ValidationError) as error:
        detail = f"{path}: cannot be read as {type_.__name__} rows ({error})"
        raise RunError(f"{detail}; `tapir run` makes it again") from error


def remove(path: Path) -> None:
    """Remove a file or a directory; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
