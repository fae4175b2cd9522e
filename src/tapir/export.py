"""Training rows for other tools: LLaMA-Factory, TRL, and whatever reads JSON Lines."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import orjson
import yaml

from tapir.errors import ConfigError, DataError
from tapir.rows import Example, Lesson, Turns
from tapir.version import __version__

ExportFormat = Literal["messages", "alpaca", "sharegpt"]
INFO_FILE = "dataset_info.json"
CARD_FILE = "README.md"
_SHAREGPT_NAMES = {"system": "system", "user": "human", "assistant": "gpt"}

INFO: Mapping[ExportFormat, Mapping[str, Any]] = {
    "messages": {
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "observation_tag": "observation",
            "function_tag": "function_call",
            "system_tag": "system",
        },
    },
    "sharegpt": {
        "formatting": "sharegpt",
        "columns": {"messages": "conversations"},
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "observation_tag": "observation",
            "function_tag": "function_call",
            "system_tag": "system",
        },
    },
    "alpaca": {
        "formatting": "alpaca",
        "columns": {
            "prompt": "instruction",
            "query": "input",
            "response": "output",
            "system": "system",
            "history": "history",
        },
    },
}
"""LLaMA-Factory's description of each format; it takes what is left out for absent, so that all must be named."""


def export_round(run: Path, round_: int, format_: str = "messages", out: Path | None = None) -> Path:
    """Write the training set of one round of a run; returns the data file.

    Raises:
        ConfigError: no such format.
        ResumeError: there is no run.
        DataError: the run has no such round, or the files cannot be written.
    """
    from tapir.status import open_run
    from tapir.store.files import read_rows

    run = open_run(run)
    mixtures = sorted((run / "data").glob("round-*.parquet"))
    source = run / "data" / f"round-{round_}.parquet"
    if source not in mixtures:
        have = ", ".join(path.stem.removeprefix("round-") for path in mixtures) or "none"
        raise DataError(
            f"{run}: round {round_} has no training set yet (rounds that have one: {have}); "
            "give one of them, or continue the run with `tapir run`"
        )
    rows = list(read_rows(source, Lesson))
    return write_export(rows, out or run / "export", f"{run.resolve().name}-round-{round_}", format_)


def write_export(
    rows: Sequence[Example], directory: Path, name: str, format_: str = "messages", *, as_json: bool = False
) -> Path:
    """Write rows with an entry in dataset_info.json and a data set card; returns the data file.

    The data file is `NAME-FORMAT.jsonl`, or `.json` (one array) with `as_json`. Each file is written whole or not at
    all; other entries of dataset_info.json stay.

    Raises:
        ConfigError: no such format.
        DataError: there are no rows, one does not fit the format, or the files cannot be written.
    """
    if format_ not in get_args(ExportFormat):
        raise ConfigError(f"format {format_!r} is none of {', '.join(get_args(ExportFormat))}; give one of these")
    if not rows:
        raise DataError(f"{directory}: there are no rows to export")
    kind: ExportFormat = format_  # type: ignore[assignment]
    path = directory / f"{name}-{kind}.{'json' if as_json else 'jsonl'}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(path, _as_array(rows, kind) if as_json else _as_lines(rows, kind))
        info = _known_info(directory / INFO_FILE)
        info[f"{name}-{kind}"] = {"file_name": path.name, **INFO[kind]}
        write_whole(directory / INFO_FILE, [json.dumps(info, indent=2, ensure_ascii=False).encode() + b"\n"])
        write_whole(directory / CARD_FILE, [card(rows, name, kind, path.name).encode()])
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); check the directory") from error
    return path


def write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file so that it is either the old one or the new one, whatever happens meanwhile."""
    with whole_file(path) as file:
        file.writelines(parts)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its place when the block is left without an error."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _as_lines(rows: Iterable[Example], kind: ExportFormat) -> Iterator[bytes]:
    for row in rows:
        yield _encoded(row, kind) + b"\n"


def _as_array(rows: Sequence[Example], kind: ExportFormat) -> Iterator[bytes]:
    for index, row in enumerate(rows):
        yield (b",\n" if index else b"[\n") + _encoded(row, kind)
    yield b"\n]\n"


def _encoded(row: Example, kind: ExportFormat) -> bytes:
    try:
        return orjson.dumps(exported(row, kind))
    except orjson.JSONEncodeError as error:
        raise DataError(f"row {row.id}: cannot be written as JSON ({error})") from error


def _known_info(path: Path) -> dict[str, Any]:
    """What dataset_info.json holds already.

    Raises:
        DataError: it is there and holds something else.
    """
    if not path.exists():
        return {}
    try:
        info = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: is not valid JSON ({error}); mend or remove it, then export again") from error
    if not isinstance(info, dict):
        raise DataError(f"{path}: is not LLaMA-Factory's list of data sets; remove it, then export again")
    return info


def exported(row: Example, kind: ExportFormat) -> dict[str, Any]:
    """One row in a format, with its lineage in columns that training tools ignore.

    Raises:
        DataError: alpaca, and the turns are not a system prompt followed by exchanges.
    """
    return _SHAPES[kind](row) | _lineage(row)


def _messages(row: Example) -> dict[str, Any]:
    turns = [{"role": turn.role, "content": turn.content} for turn in row.turns]
    return {"messages": [*turns, {"role": "assistant", "content": row.response}]}


def _sharegpt(row: Example) -> dict[str, Any]:
    turns = [{"from": _SHAREGPT_NAMES[turn.role], "value": turn.content} for turn in row.turns]
    return {"conversations": [*turns, {"from": "gpt", "value": row.response}]}


def _alpaca(row: Example) -> dict[str, Any]:
    system, history = _split(row.id, row.turns)
    return {
        "instruction": row.instruction,
        "input": "",
        "output": row.response,
        "system": system,
        "history": history,
    }


def _split(id_: str, turns: Turns) -> tuple[str, list[list[str]]]:
    """The system prompt and the earlier exchanges."""
    has_system = turns[0].role == "system"
    rest = turns[has_system:]
    roles = [turn.role for turn in rest]
    if roles != (["user", "assistant"] * len(roles))[: len(roles)] or not roles[-1:] == ["user"]:
        raise DataError(
            f"row {id_}: turns by {', '.join(turn.role for turn in turns)} do not fit alpaca; export messages instead"
        )
    history = [[rest[i].content, rest[i + 1].content] for i in range(0, len(rest) - 1, 2)]
    return turns[0].content if has_system else "", history


_SHAPES: Mapping[ExportFormat, Callable[[Example], dict[str, Any]]] = {
    "messages": _messages,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
}


def _lineage(row: Example) -> dict[str, Any]:
    """Columns that say what the row is and where it came from; read back by tapir.corpus."""
    task = getattr(row, "task", None)
    return {
        "id": row.id,
        "task": str(task) if task is not None else None,
        "is_hard": row.is_hard if isinstance(row, Lesson) else None,
        "round": row.lineage.round,
        "source": row.lineage.source,
        "license": row.lineage.license,
        "teacher": row.lineage.teacher,
        "parents": list(row.lineage.parents),
        "prompt_digest": row.lineage.prompt,
    }


def card(rows: Sequence[Example], name: str, kind: ExportFormat, file: str) -> str:
    """The README.md of an exported data set: what is in it, where it came from, how to open it."""
    licenses = Counter(row.lineage.license or "unknown" for row in rows)
    only = next(iter(licenses)).lower() if len(licenses) == 1 else "other"
    head = yaml.safe_dump(
        {
            "license": only,
            "pretty_name": name,
            "task_categories": ["text-generation"],
            "tags": ["tapir", "distillation", "instruction-tuning"],
            "configs": [{"config_name": "default", "data_files": file}],
        },
        sort_keys=False,
        allow_unicode=True,
    )
    hard = sum(row.is_hard for row in rows if isinstance(row, Lesson))
    tasks = Counter(str(row.task) if isinstance(row, Lesson) and row.task else "not labelled" for row in rows)
    columns = ("licence", licenses), ("task", tasks), ("source", Counter(row.lineage.source for row in rows))
    tables = "\n".join(_counts(title, counts) for title, counts in columns)
    return (
        f"---\n{head}---\n\n# {_inline(name)}\n\n"
        f"{len(rows):,} instructions with responses, {hard:,} of them hard for the student that they were chosen for. "
        f"Made with tapir {__version__} (TAPIR, arXiv 2405.13448).\n\n"
        f"The licences below are those of the rows' sources; a teacher's terms of use may add to them.\n\n{tables}\n"
        "Columns beside the conversation: `id`, `task`, `is_hard`, `round` (0: the corpus), `source`, `license`, "
        "`teacher`, `parents` (ids of the instructions that it was expanded from), `prompt_digest`.\n\n"
        f"## Opening it\n\n{_opening(name, kind, file)}"
    )


def _counts(title: str, counts: Counter[str]) -> str:
    lines = [f"| {title} | rows |", "|---|---|"]
    lines += [f"| {_inline(value)} | {count:,} |" for value, count in counts.most_common(40)]
    return "\n".join(lines) + "\n"


def _inline(text: str) -> str:
    """Text that Markdown shows as it stands, in one table cell."""
    line = " ".join(text.split())
    return "".join(f"\\{character}" if character in "\\`*_{}[]<>|#&!~" else character for character in line)


def _opening(name: str, kind: ExportFormat, file: str) -> str:
    trl = (
        f"TRL:\n\n```python\nfrom datasets import load_dataset\n\n"
        f'rows = load_dataset("json", data_files={file!r}, split="train")\n'
        "# SFTTrainer(model, train_dataset=rows, ...)\n```\n\n"
        if kind == "messages"
        else "TRL reads the format `messages`: export it with `--format messages`.\n\n"
    )
    return f"{trl}LLaMA-Factory: `--dataset_dir` this directory, `--dataset {name}-{kind}` (see {INFO_FILE}).\n"
