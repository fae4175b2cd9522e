"""Reading files: every format, and every way in which a file can be odd or broken."""

import bz2
import codecs
import gzip
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapir.corpus import Bad, Cleaning, DataSet, FileFacts, Raw, clean, read_rows
from tapir.corpus import source as source_module
from tapir.errors import DataError

ROW = {"instruction": "Add 2 and 3.", "input": "", "output": "5"}
SECOND = {"instruction": "Name a colour.", "input": "", "output": "Grün"}
LINE = json.dumps(ROW).encode()
SECOND_LINE = json.dumps(SECOND, ensure_ascii=False).encode()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def _write(name: str, data: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return _write


def fields(path: Path | str, **options: Any) -> list[Any]:
    """The fields of good rows, and the reasons of bad ones."""
    return [dict(row.fields) if isinstance(row, Raw) else row.reason for row in read_rows(path, **options)]


def repairs(path: Path) -> list[str]:
    """The kinds of repair of all rows, then of the files."""
    seen: list[FileFacts] = []
    data = DataSet(path)
    rows = list(data.rows(lambda facts, _: seen.append(facts) if facts not in seen else None))
    of_rows = [repair.kind for row in rows if isinstance(row, Raw) for repair in row.repairs]
    return of_rows + [repair.kind for facts in seen for repair in facts.repairs]


def problem(path: Path | str, **options: Any) -> str:
    """The one message with which a file is rejected."""
    with pytest.raises(DataError) as caught:
        list(read_rows(path, **options))
    message = str(caught.value)
    assert "\n" not in message
    return message


GOOD = {
    "array.json": json.dumps([ROW, SECOND]),
    "indented.json": json.dumps([ROW, SECOND], indent=2),
    "utf8.json": json.dumps([ROW, SECOND], ensure_ascii=False),
    "lines.jsonl": LINE + b"\n" + SECOND_LINE + b"\n",
    "no-last-break.jsonl": LINE + b"\n" + SECOND_LINE,
    "crlf.jsonl": LINE + b"\r\n" + SECOND_LINE + b"\r\n",
    "blank-lines.jsonl": b"\n" + LINE + b"\n\n  \n" + SECOND_LINE + b"\n\n",
    "lines-in-disguise.json": LINE + b"\n" + SECOND_LINE + b"\n",
    "array-in-disguise.jsonl": json.dumps([ROW, SECOND]),
    "wrapped.json": json.dumps({"version": "1.0", "data": [ROW, SECOND]}),
    "wrapped-indented.json": json.dumps({"rows": [ROW, SECOND], "license": "MIT"}, indent=4),
    "by-split.json": json.dumps({"train": [ROW, SECOND]}),
    "one-after-the-other.json": json.dumps(ROW, indent=1) + "\n" + json.dumps(SECOND, indent=1),
    "indented.jsonl": json.dumps(ROW, indent=2) + "\n" + json.dumps(SECOND, indent=2),
    "wrapped.jsonl": json.dumps({"version": 1, "data": [ROW, SECOND]}) + "\n",
    "two-arrays.json": json.dumps([ROW]) + json.dumps([SECOND]),
    "table.csv": 'instruction,input,output\n"Add 2 and 3.",,5\nName a colour.,,Grün\n',
    "table.tsv": "instruction\tinput\toutput\nAdd 2 and 3.\t\t5\nName a colour.\t\tGrün\n",
    "semicolons.csv": "instruction;input;output\nAdd 2 and 3.;;5\nName a colour.;;Grün\n",
    "crlf.csv": 'instruction,input,output\r\n"Add 2 and 3.",,5\r\nName a colour.,,Grün\r\n',
    "late-header.csv": "\n \nsep=;\ninstruction;input;output\nAdd 2 and 3.;;5\nName a colour.;;Grün\n",
    "no-suffix": "instruction,input,output\nAdd 2 and 3.,,5\nName a colour.,,Grün\n",
    "rows.txt": LINE + b"\n" + SECOND_LINE,
}


@pytest.mark.parametrize("name", GOOD)
def test_every_format_gives_the_same_rows(name: str, write: Callable[..., Path]) -> None:
    path = write(name, GOOD[name])
    assert fields(path) == [ROW, SECOND]
    assert repairs(path) == []


@pytest.mark.parametrize("name", ["array.json", "lines.jsonl", "table.csv"])
def test_gzip_is_unpacked_whatever_the_name_says(name: str, write: Callable[..., Path]) -> None:
    data = GOOD[name]
    packed = gzip.compress(data if isinstance(data, bytes) else data.encode())
    assert fields(write(name + ".gz", packed)) == [ROW, SECOND]
    assert repairs(write(name + ".gz", packed)) == []
    assert fields(write(name, packed)) == [ROW, SECOND]
    assert repairs(write(name, packed)) == ["misnamed"]
    assert fields(write("plain-" + name + ".gz", data)) == [ROW, SECOND]
    assert repairs(write("plain-" + name + ".gz", data)) == ["misnamed"]


def test_a_csv_file_named_json_is_read_as_csv(write: Callable[..., Path]) -> None:
    path = write("rows.json", GOOD["table.csv"])
    assert fields(path) == [ROW, SECOND]
    assert repairs(path) == ["misnamed"]


def test_a_json_file_named_csv_is_read_as_json(write: Callable[..., Path]) -> None:
    path = write("rows.csv", GOOD["array.json"])
    assert fields(path) == [ROW, SECOND]
    assert repairs(path) == ["misnamed"]


@pytest.mark.parametrize("name", ["array.json", "lines.jsonl", "table.csv"])
@pytest.mark.parametrize(
    ("encoding", "mark", "kind"),
    [
        ("utf-8", codecs.BOM_UTF8, "byte-order-mark"),
        ("utf-16-le", codecs.BOM_UTF16_LE, "utf-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "utf-16"),
        ("utf-16-le", b"", "utf-16"),
        ("utf-16-be", b"", "utf-16"),
        ("utf-32-le", codecs.BOM_UTF32_LE, "utf-32"),
        ("utf-32-le", b"", "utf-32"),
        ("utf-32-be", b"", "utf-32"),
    ],
)
def test_byte_order_marks_and_wide_encodings_are_undone_and_noted(
    name: str, encoding: str, mark: bytes, kind: str, write: Callable[..., Path]
) -> None:
    data = GOOD[name]
    text = data.decode() if isinstance(data, bytes) else data
    path = write(name, mark + text.encode(encoding))
    assert fields(path) == [ROW, SECOND]
    assert repairs(path) == [kind]


def test_half_a_utf_16_character_at_the_end_rejects_the_file(write: Callable[..., Path]) -> None:
    path = write("rows.json", codecs.BOM_UTF16_LE + json.dumps([ROW]).encode("utf-16-le")[:-1])
    assert problem(path) == f"{path}: is not whole UTF-16 text (truncated data); save it as UTF-8"


@pytest.mark.parametrize("name", ["indented.json", "lines.jsonl", "table.csv"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_lines_that_end_in_cr_alone_are_read_and_noted(
    name: str, pack: Callable[[bytes], bytes], write: Callable[..., Path]
) -> None:
    data = GOOD[name]
    text = data if isinstance(data, bytes) else data.encode()
    path = write(name + ".gz" if pack is gzip.compress else name, pack(text.replace(b"\n", b"\r")))
    assert fields(path) == [ROW, SECOND]
    assert repairs(path) == ["line-endings"]


def test_line_feeds_inside_quotes_do_not_hide_lines_that_end_in_cr(write: Callable[..., Path]) -> None:
    path = write("rows.csv", b'instruction,output\r"two\nlines",5\rAdd 2 and 3.,5\r')
    assert fields(path) == [
        {"instruction": "two\nlines", "output": "5"},
        {"instruction": "Add 2 and 3.", "output": "5"},
    ]


@pytest.mark.parametrize(
    ("sign", "read", "kind"),
    [
        ("\ud83d", "\ufffd", "lone-surrogate"),
        ("\ude00", "\ufffd", "lone-surrogate"),
        ("\udc80", "\ufffd", "lone-surrogate"),
        ("\ud83d\ude00", "\U0001f600", "cesu-8"),
    ],
)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.csv"])
def test_surrogates_written_as_bytes_are_no_windows_1252(
    name: str, sign: str, read: str, kind: str, write: Callable[..., Path]
) -> None:
    row = {"instruction": f"a{sign}b", "output": "c"}
    text = json.dumps(row, ensure_ascii=False)
    text = {"json": f"[{text}]", "jsonl": text, "csv": f"instruction,output\na{sign}b,c\n"}[name.split(".")[1]]
    path = write(name, text.encode("utf-8", "surrogatepass"))
    assert fields(path) == [{"instruction": f"a{read}b", "output": "c"}]
    assert repairs(path) == [kind]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.csv"])
def test_windows_1252_bytes_are_read_and_counted(name: str, write: Callable[..., Path]) -> None:
    text = {
        "rows.json": json.dumps([ROW, SECOND], ensure_ascii=False),
        "rows.jsonl": LINE.decode() + "\n" + SECOND_LINE.decode(),
        "rows.csv": str(GOOD["table.csv"]),
    }[name]
    path = write(name, text.encode("cp1252"))
    assert fields(path) == [ROW, SECOND]
    assert repairs(path) == ["windows-1252"]


def test_bytes_of_another_encoding_refuse_the_row_and_not_the_file(write: Callable[..., Path]) -> None:
    chinese = '{"instruction": "把这句话翻译成英语", "output": "Hello"}'.encode("gbk")
    path = write("rows.jsonl", LINE + b"\n" + chinese + b"\n" + SECOND_LINE)
    assert fields(path) == [ROW, "not-utf-8", SECOND]


def test_one_broken_line_costs_only_itself(write: Callable[..., Path]) -> None:
    path = write("rows.jsonl", LINE + b'\n{"instruction": "Add\n' + SECOND_LINE + b"\n")
    good, bad, second = read_rows(path)
    assert isinstance(bad, Bad)
    assert (bad.file, bad.place, bad.reason) == ("rows.jsonl", "line 2", "broken-json")
    assert bad.detail == 'Unterminated string starting at at character 17, near \'{"instruction": "Add\''
    assert bad.text == '{"instruction": "Add'
    assert isinstance(good, Raw)
    assert isinstance(second, Raw)


def test_a_broken_first_line_is_told_from_a_document(write: Callable[..., Path]) -> None:
    assert fields(write("rows.json", b'{"instruction": "Add\n' + SECOND_LINE + b"\n")) == ["broken-json", SECOND]
    assert fields(write("rows.jsonl", b"garbage\n" + SECOND_LINE)) == ["broken-json", SECOND]
    assert fields(write("rows.jsonl", b"{\n" + SECOND_LINE)) == ["broken-json", SECOND]


def test_a_last_line_cut_off_is_one_broken_row(write: Callable[..., Path]) -> None:
    assert fields(write("rows.jsonl", LINE + b"\n" + SECOND_LINE[:-10])) == [ROW, "broken-json"]


def test_a_broken_row_of_an_array_costs_only_itself_where_its_end_is_plain(write: Callable[..., Path]) -> None:
    data = "[" + json.dumps(ROW) + ', {"instruction": Add, "output": "}"}, ' + json.dumps(SECOND) + "]"
    assert fields(write("rows.json", data)) == [ROW, "broken-json", SECOND]


@pytest.mark.parametrize("cut", [1, 30])
def test_a_truncated_array_rejects_the_file(cut: int, write: Callable[..., Path]) -> None:
    path = write("rows.json", json.dumps([ROW, SECOND])[:-cut])
    whole = 2 if cut == 1 else 1
    assert problem(path).startswith(f"{path}: the JSON ends early, after {2} ")
    good = []
    with pytest.raises(DataError):
        good.extend(read_rows(path))
    rows = []
    with pytest.raises(DataError):
        for row in read_rows(path):
            rows.append(row)
    assert len(rows) == whole


def test_an_unescaped_quote_in_an_array_rejects_the_file_with_the_way_out(write: Callable[..., Path]) -> None:
    path = write("rows.json", '[{"instruction": "Say "hi", "output": "hi"}]')
    assert "save it as JSON Lines, where a broken row costs only itself" in problem(path)


def test_small_slips_of_json_are_mended_and_counted(write: Callable[..., Path]) -> None:
    row = json.dumps(ROW)
    assert fields(write("a.json", f"[{row},]")) == [ROW]
    assert repairs(write("a.json", f"[{row},]")) == ["trailing-comma"]
    assert fields(write("b.json", f"[{row[:-1]},}}]")) == [ROW]
    assert repairs(write("b.json", f"[{row[:-1]},}}]")) == ["trailing-comma"]
    assert fields(write("c.json", f"[{row} {row}]")) == [ROW, ROW]
    assert repairs(write("c.json", f"[{row} {row}]")) == ["missing-comma"]
    assert fields(write("d.jsonl", f"{row},\n{row[:-1]},}}\n")) == [ROW, ROW]
    assert repairs(write("d.jsonl", f"{row},\n{row[:-1]},}}\n")) == ["trailing-comma", "trailing-comma"]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_nan_and_infinity_become_no_value(name: str, write: Callable[..., Path]) -> None:
    row = '{"instruction": "Add 2 and 3.", "output": "5", "input": NaN, "score": -Infinity, "big": 1e999}'
    path = write(name, f"[{row}]" if name.endswith("json") else row + "\n" + row[:-1] + "}")
    want = {"instruction": "Add 2 and 3.", "output": "5", "input": None, "score": None, "big": None}
    assert fields(path)[0] == want
    assert repairs(path)[:3] == ["nan-to-null"] * 3


def test_commas_and_nan_inside_texts_are_left_alone(write: Callable[..., Path]) -> None:
    row = {"instruction": 'Mend [1, 2,] and {"a": NaN,}', "output": "Infinity, \\"}
    assert fields(write("rows.jsonl", json.dumps(row)[:-1] + ",}")) == [row]
    assert fields(write("rows.json", json.dumps([row]))) == [row]
    assert repairs(write("rows.json", json.dumps([row]))) == []


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_a_name_given_twice_is_refused_unless_both_say_the_same(name: str, write: Callable[..., Path]) -> None:
    same = '{"instruction": "Hi", "output": "5", "output": "5"}'
    other = '{"instruction": "Hi", "output": "5", "output": "6"}'
    join = ",".join if name.endswith("json") else "\n".join
    text = join([same, other, json.dumps(ROW)])
    path = write(name, f"[{text}]" if name.endswith("json") else text)
    assert fields(path) == [{"instruction": "Hi", "output": "5"}, "duplicate-keys", ROW]
    assert repairs(path) == ["duplicate-keys"]


def test_a_line_break_inside_a_json_text_is_kept_and_counted(write: Callable[..., Path]) -> None:
    path = write("rows.json", '[{"instruction": "Two\nlines", "output": "a\tb"}]')
    assert fields(path) == [{"instruction": "Two\nlines", "output": "a\tb"}]
    assert repairs(path) == ["raw-control-character"]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
@pytest.mark.parametrize("depth", [70, 5_000, 200_000])
def test_deep_nesting_refuses_the_row(name: str, depth: int, write: Callable[..., Path]) -> None:
    deep = '{"instruction": "Hi", "output": "5", "meta": ' + "[" * depth + "]" * depth + "}"
    text = ",".join([deep, json.dumps(ROW)]) if name.endswith("json") else f"{deep}\n{json.dumps(ROW)}"
    assert fields(write(name, f"[{text}]" if name.endswith("json") else text)) == ["too-deep", ROW]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_a_long_whole_number_keeps_all_its_digits(name: str, write: Callable[..., Path]) -> None:
    row = {"instruction": "2 to the power of 90?", "output": 2**90}
    assert fields(write(name, json.dumps(row))) == [row]


def test_a_number_of_ten_thousand_digits_refuses_the_row(write: Callable[..., Path]) -> None:
    row = '{"instruction": "Hi", "output": "5", "output ": NaN, "n": ' + "9" * 10_000 + "}"
    path = write("rows.jsonl", row + "\n" + json.dumps(ROW))
    assert fields(path) == ["broken-json", ROW]
    assert (
        next(row.detail for row in read_rows(path) if isinstance(row, Bad)) == "holds a number of thousands of digits"
    )


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.csv", "wrapped.json"])
def test_a_row_of_five_megabytes_is_skipped_unread(name: str, write: Callable[..., Path]) -> None:
    long = {"instruction": "x" * 5_000_000, "input": "", "output": "y"}
    texts = {
        "rows.json": json.dumps([ROW, long, SECOND]),
        "rows.jsonl": "\n".join(json.dumps(row) for row in (ROW, long, SECOND)),
        "rows.csv": f"instruction,input,output\nAdd 2 and 3.,,5\n{'x' * 5_000_000},,y\nName a colour.,,Grün\n",
        "wrapped.json": json.dumps({"data": [ROW, long, SECOND]}),
    }
    rows = fields(write(name, texts[name]))
    assert [row for row in rows if isinstance(row, dict)] == [ROW, SECOND]
    assert "too-long" in rows


def test_rows_that_are_no_objects_are_refused(write: Callable[..., Path]) -> None:
    path = write("rows.jsonl", LINE + b'\n[1]\n"text"\n5\nnull\ntrue\n')
    assert fields(path) == [ROW] + ["wrong-type"] * 5
    details = [row.detail for row in read_rows(path) if isinstance(row, Bad)]
    assert [detail.split(",")[0] for detail in details] == [
        "is a list",
        "is a text",
        "is a number",
        "is null",
        "is true or false",
    ]


def test_nul_bytes_left_by_a_crash_are_named(write: Callable[..., Path]) -> None:
    path = write("rows.jsonl", LINE + b"\n" + b"\x00" * 50 + b"\n\x00\x00" + SECOND_LINE + b"\n")
    assert fields(path) == [ROW, "nul-bytes", SECOND]
    assert repairs(path) == ["control-characters"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.json", b"", "the file is empty; give one with rows in it"),
        ("empty.json.gz", gzip.compress(b"", mtime=0), "the file holds only white space or NUL bytes; fetch it again"),
        ("blank.jsonl", b" \n\n", "the file holds only white space or NUL bytes; fetch it again"),
        ("zeros.json", b"\x00" * 100, "the file holds only white space or NUL bytes; fetch it again"),
        ("none.json", b"[]", "the file holds no rows; give one with rows in it"),
        ("none.csv", b"instruction,output\n", "the file holds no rows; give one with rows in it"),
        ("rows.zip", b"PK\x03\x04rest", "is a zip archive or a spreadsheet; unpack it, or save it as CSV"),
        ("rows.bz2", bz2.compress(b"[]"), "is packed with bzip2; unpack it with bunzip2"),
        ("rows.pkl", b"\x80\x04\x95rest", "is a Python pickle, which tapir never opens; save it as JSON or Parquet"),
        (
            "rows.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid",
            "is a Git LFS pointer, not the data; fetch the data with `git lfs pull`",
        ),
        ("rows.json", b"<!DOCTYPE html>", "is a web page, as after a failed download; fetch the data itself"),
        (
            "twice.gz",
            gzip.compress(gzip.compress(LINE, mtime=0), mtime=0),
            "is packed with gzip twice; unpack it once with gunzip",
        ),
        (
            "notes.txt",
            b"Dear diary",
            "is neither JSON, JSON Lines, CSV with a header nor Parquet; it begins with 'Dear diary': "
            "give one of these",
        ),
        (
            "broken.jsonl",
            b"{'a': 1}\n",
            "none of the first 1 rows can be read; line 1 Expecting property name enclosed in double quotes at "
            "character 2, near \"{'a': 1}\". Give JSON, JSON Lines, CSV or Parquet with one row for each instruction",
        ),
        ("scalar.json", b"[1, 2]", None),
        ("text.json", b'"just a text"', None),
    ],
)
def test_a_file_without_rows_is_rejected_with_one_message(
    name: str, data: bytes, message: str | None, write: Callable[..., Path]
) -> None:
    path = write(name, data)
    found = problem(path)
    assert found.startswith(f"{path}: ")
    if message is not None:
        assert found == f"{path}: {message}"


def test_truncated_and_damaged_gzip_rejects_the_file(write: Callable[..., Path]) -> None:
    packed = gzip.compress(b"\n".join([LINE] * 50))
    path = write("rows.jsonl.gz", packed[:-12])
    assert problem(path).startswith(f"{path}: ends in the middle of its compressed data, after ")
    path = write("damaged.jsonl.gz", packed[:20] + b"\xff\xff\xff" + packed[23:])
    assert "its gzip data is damaged" in problem(path)


def test_a_gzip_bomb_is_stopped(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "BOMB_BYTES", 1 << 20)
    path = write("rows.jsonl", gzip.compress(LINE + b"\n" + b" " * (16 << 20)))
    assert problem(path) == (
        f"{path}: unpacks to more than 300 times its size, as no text does; "
        "if you trust it, unpack it with gunzip and give the result"
    )


def test_missing_files_pipes_and_devices_are_rejected_without_waiting(tmp_path: Path) -> None:
    assert problem(tmp_path / "none.json") == f"{tmp_path / 'none.json'}: there is no such file; check the path"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert problem(pipe) == f"{pipe}: is a pipe, not a file; write its content to a file and give that"
    assert problem("/dev/zero") == "/dev/zero: is a device, not a file; write its content to a file and give that"
    assert "cannot be opened" in problem("bad\x00name")
    assert "cannot be opened" in problem("x" * 5000)


def test_an_unreadable_file_is_named(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("rows.json", "[]")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(source_module.io, "FileIO", refuse)
    assert problem(path) == f"{path}: cannot be read (Permission denied); check its permissions"


def test_a_directory_is_read_in_the_order_of_names_without_what_is_no_data(write: Callable[..., Path]) -> None:
    write("set/b.jsonl", LINE)
    write("set/a/rows.json.gz", gzip.compress(json.dumps([SECOND]).encode()))
    for name in ("README.md", ".hidden.jsonl", "dataset_info.json", ".git/config.json"):
        path = write(f"set/{name}", "nothing")
    data = DataSet(path.parent.parent)
    rows = list(data.rows())
    assert [(row.file, row.place) for row in rows] == [("a/rows.json.gz", "row 1"), ("b.jsonl", "line 1")]
    assert sorted(note.before for note in data.skipped) == [".hidden.jsonl", "README.md", "dataset_info.json"]


def test_an_empty_directory_and_one_without_data_are_rejected(tmp_path: Path) -> None:
    assert "the directory holds no data file among 0" in problem(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "the directory holds no data file among 1" in problem(tmp_path)


def test_of_a_directory_with_splits_only_the_wanted_one_is_read(write: Callable[..., Path]) -> None:
    write("set/data/train-00000-of-00001.jsonl", LINE)
    path = write("set/data/test-00000-of-00001.jsonl", SECOND_LINE)
    root = path.parent.parent
    assert fields(root) == [ROW]
    assert fields(root, split="test") == [SECOND]
    assert "no file belongs to split 'validation'; found test, train" in problem(root, split="validation")


def test_of_an_object_with_splits_only_the_wanted_one_is_read(write: Callable[..., Path]) -> None:
    path = write("rows.json", json.dumps({"train": [ROW], "test": [SECOND]}))
    assert fields(path) == [ROW]
    assert fields(path, split="test") == [SECOND]
    assert repairs(path) == ["skipped-split"]


def test_quoting_trouble_in_csv_costs_only_its_lines(write: Callable[..., Path]) -> None:
    text = (
        "instruction,input,output\n"
        '"two\nlines, ""quoted""",,5\n'  # lines 2-3
        'open "quote" inside,,6\n'  # 4
        '"never closed,,7\n'  # 5
        "Add 2 and 3.,,5\n"  # 6
        '"closed" too early,,8\n'  # 7
        "too,many,fields,here\n"  # 8
        "too few\n"  # 9
        "\n"
        "Name a colour.,,Grün\n"  # 11
    )
    rows = list(read_rows(write("rows.csv", text)))
    assert [(row.place, row.fields["output"] if isinstance(row, Raw) else row.reason) for row in rows] == [
        ("line 2", "5"),
        ("line 4", "6"),
        ("line 5", "broken-csv"),
        ("line 6", "5"),
        ("line 7", "broken-csv"),
        ("line 8", "wrong-columns"),
        ("line 9", "wrong-columns"),
        ("line 11", "Grün"),
    ]
    assert isinstance(rows[0], Raw)
    assert rows[0].fields["instruction"] == 'two\nlines, "quoted"'


def test_columns_that_hold_no_instructions_reject_the_file(write: Callable[..., Path]) -> None:
    path = write("rows.csv", "name,age\nAnn,5\n")
    assert problem(path) == (
        f"{path}: no columns with instructions and responses; found 'name', 'age'; rename them to known ones "
        "(instruction: instruction/prompt/question/query/problem/inputs, input: input/context, "
        "response: output/response/completion/answer/solution/targets, system: system/system_prompt, "
        "history: history, conversation: messages/conversations/conversation)"
    )
    assert "two columns have the same name" in problem(write("twice.csv", "instruction,output,output\na,b,c\n"))


def test_column_names_may_be_in_capitals(write: Callable[..., Path]) -> None:
    assert fields(write("rows.csv", "Instruction,Output\nHi,Ho\n")) == [{"Instruction": "Hi", "Output": "Ho"}]


def _parquet(path: Path, columns: dict[str, Any] | list[Any], names: list[str] | None = None) -> Path:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns, names=names), path)
    return path


def test_parquet_rows_come_with_their_useful_columns(tmp_path: Path) -> None:
    columns = {
        "instruction": ["Add 2 and 3.", "Name a colour."],
        "output": ["5", None],
        "messages": [None, [{"role": "user", "content": "Hi"}]],
        "embedding": [[1.0], [2.0]],
    }
    assert fields(_parquet(tmp_path / "rows.parquet", columns)) == [
        {"instruction": "Add 2 and 3.", "output": "5", "messages": None},
        {"instruction": "Name a colour.", "output": None, "messages": [{"role": "user", "content": "Hi"}]},
    ]


def test_parquet_is_known_by_content_and_its_faults_are_named(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = _parquet(tmp_path / "rows.json", {"instruction": ["a"], "output": ["b"]})
    assert fields(path) == [{"instruction": "a", "output": "b"}]
    data = path.read_bytes()
    assert "is not a whole Parquet file" in problem(write("cut.parquet", data[:-9]))
    assert "is a Parquet file inside gzip" in problem(write("rows.parquet.gz", gzip.compress(data)))
    assert "found 'a', 'b'; rename" in problem(_parquet(tmp_path / "other.parquet", {"a": [1], "b": [2]}))
    assert "holds no rows" in problem(_parquet(tmp_path / "none.parquet", {"instruction": [], "output": []}))
    twice = _parquet(tmp_path / "twice.parquet", [["a"], ["b"], ["c"]], ["instruction", "output", "output"])
    assert (
        problem(twice) == f"{twice}: two columns have the same name in ['instruction', 'output', 'output']; rename one"
    )
    damaged = write("bad.parquet", data[:4] + b"\xff" * 12 + data[16:])
    assert "is damaged after row 0" in problem(damaged)


def test_a_hub_data_set_is_read_from_a_local_directory(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = write("set/train.jsonl", LINE + b"\n" + SECOND_LINE)
    data = DataSet(f"hub:{path.parent}")
    assert [dict(row.fields) for row in data.rows() if isinstance(row, Raw)] == [ROW, SECOND]
    assert data.digest() == DataSet(f"hub:{path.parent}").digest()
    assert "split 'nosuch' cannot be loaded" in problem(f"hub:{path.parent}", split="nosuch")
    assert problem("hub:") == "hub: names no data set; give hub:owner/name"


def test_the_digest_is_of_names_and_bytes(write: Callable[..., Path]) -> None:
    path = write("a/rows.jsonl", LINE)
    other = write("b/rows.jsonl", LINE)
    assert DataSet(path).digest() == DataSet(other).digest()
    other.write_bytes(LINE + b"\n")
    assert DataSet(path).digest() != DataSet(other).digest()


def test_reading_keeps_memory_and_never_writes(write: Callable[..., Path]) -> None:
    path = write("rows.json", "[" + ",".join([json.dumps(ROW)] * 20_000) + "]")
    path.chmod(stat.S_IRUSR)
    before = sorted(path.parent.iterdir())
    assert sum(1 for _ in read_rows(path)) == 20_000
    assert sorted(path.parent.iterdir()) == before


SEEDS = [GOOD["array.json"], GOOD["lines.jsonl"], GOOD["table.csv"], GOOD["wrapped-indented.json"]]
EDITS = st.lists(
    st.tuples(
        st.integers(0, 400), st.integers(0, 30), st.binary(max_size=4) | st.sampled_from(list(b'"{}[]\\,\n\r\x00'))
    ),
    min_size=1,
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.sampled_from(SEEDS), edits=EDITS, is_packed=st.booleans())
def test_a_file_damaged_anywhere_gives_rows_or_one_message(
    seed: bytes | str, edits: list[tuple[int, int, bytes | int]], is_packed: bool, tmp_path: Path
) -> None:
    data = bytearray(seed if isinstance(seed, bytes) else seed.encode())
    for at, length, new in edits:
        data[at : at + length] = bytes([new]) if isinstance(new, int) else new
    path = tmp_path / "rows.json"
    path.write_bytes(gzip.compress(data) if is_packed else data)
    try:
        for row in read_rows(path):
            clean(row, Cleaning())
    except DataError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
