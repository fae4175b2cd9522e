"""Synthetic run directories of any size, made by columns: what the benchmark of report and explorer reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tapir.config import RunConfig
from tapir.rows import Answer, Draft, Evaluated, Example, Judged, Label, Labelled, Lesson, Refused, Row
from tapir.store.files import BATCH_ROWS, schema_of, write_json
from tapir.tasks import Task

FRAGMENTS = 200_000
WORDS = 6_000
NEEDLE = "a quixotic zephyr"
"""Stands in one instruction of a thousand: what the benchmark searches for."""

TASKS = [task.value for task in Task]


@dataclass
class Maker:
    """Random columns from one seed."""

    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        words = np.array(["".join(self.rng.choice(letters, size)) for size in self.rng.integers(2, 10, WORDS)])
        places = (self.rng.pareto(1.1, (FRAGMENTS, 11)) * 12).astype(np.int64) % WORDS
        self.fragments = column([" ".join(row) for row in words[places]])

    def texts(self, count: int, pieces: int) -> Any:
        """Texts of about 60 characters a piece."""
        parts: list[Any] = [self.fragments.take(column(self.rng.integers(0, FRAGMENTS, count))) for _ in range(pieces)]
        join: Any = pc.binary_join_element_wise
        return join(*parts, " ") if pieces > 1 else parts[0]

    def instructions(self, count: int) -> Any:
        """Instructions of about 130 characters, one in a thousand with the needle."""
        join: Any = pc.binary_join_element_wise
        texts = self.texts(count, 2)
        marked = column(self.rng.random(count) < 0.001)
        return pc.if_else(marked, join(texts, pa.scalar(NEEDLE), " "), texts)

    def tasks(self, count: int) -> Any:
        """Tasks, some far more frequent than others."""
        weights = 1 / (1 + np.arange(len(TASKS)))
        return column(TASKS).take(column(self.rng.choice(len(TASKS), count, p=weights / weights.sum())))

    def scores(self, count: int, mean: float) -> Any:
        """Judge scores with one decimal, in [1, 10]."""
        return column(np.clip(np.round(self.rng.normal(mean, 2.2, count), 1), 1, 10))

    def ids(self, count: int) -> Any:
        """Ids of 24 hexadecimal digits."""
        raw = self.rng.bytes(12 * count).hex()
        return column([raw[at : at + 24] for at in range(0, 24 * count, 24)])


def column(values: Any, type_: Any = None) -> Any:
    """A column of pyarrow's, whose type stubs do not know what it holds."""
    return pa.array(values, type=type_)


def turns(texts: Any) -> Any:
    """A column of conversations of one user turn each."""
    count = len(texts)
    kind = schema_of(Example).field("turns").type.value_type
    items = pa.StructArray.from_arrays([pa.repeat("user", count), texts], fields=list(kind))
    return pa.ListArray.from_arrays(column(np.arange(count + 1, dtype=np.int32)), items)


def lineage(count: int, round_: int = 0, parents: Any = None) -> Any:
    """A column of origins."""
    kind = schema_of(Example).field("lineage").type
    lists = parents if parents is not None else column([[]] * count, pa.list_(pa.string()))
    nothing = pa.nulls(count, pa.string())
    values = [pa.repeat("synthetic", count), nothing, pa.repeat(round_, count), lists, nothing, nothing]
    return pa.StructArray.from_arrays(
        [one.cast(field.type) for one, field in zip(values, kind, strict=True)], fields=list(kind)
    )


@dataclass
class Book:
    """Writes stages into one run directory."""

    directory: Path
    clock: float = 1_700_000_000.0

    def write(
        self, label: str, kind: type[Row], columns: dict[str, Any], *, refused: int = 0, reason: str = "duplicate",
        role: bool = True, notes: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """One whole stage."""
        home = self.directory / "stages" / label
        home.mkdir(parents=True, exist_ok=True)
        schema = schema_of(kind)
        table = pa.table({field.name: columns[field.name] for field in schema}).cast(schema)
        pq.write_table(table, home / "rows.parquet", compression="zstd", row_group_size=BATCH_ROWS)
        lost = [
            {"id": f"lost{i:020d}", "reason": reason, "detail": f"{reason} of a row", "text": f"text {i}"}
            for i in range(refused)
        ]
        pq.write_table(
            pa.Table.from_pylist(lost, schema=schema_of(Refused)), home / "refused.parquet", compression="zstd"
        )
        self.clock += 60
        record = {
            "name": label, "round": int(label[:2]), "key": f"key-{label}", "tries": 1,
            "recipe": {"role": {"made": True}} if role else {}, "row_type": kind.__name__,
            "rows_in": len(table) + refused, "kept": len(table), "refused": {reason: refused} if refused else {},
            "started": self.clock, "seconds": 60.0,
            "notes": notes or {}, "checkpoint": None, "is_shared": False,
        }  # fmt: skip
        write_json(home / "stage.json", record)


def config(name: str, runs: Path, new: int) -> RunConfig:
    """The configuration of a synthetic run."""
    tree = {
        "name": name, "runs": str(runs), "corpus": {"path": "corpus.jsonl"}, "student": {"model": "student"},
        "teacher": {"kind": "world"}, "judge": {"kind": "world"}, "tasks": {"classifier": {"kind": "world"}},
        "expand": {"new_per_round": new}, "evaluation": {"sets": [{"name": "held-out", "path": "items.jsonl"}]},
    }  # fmt: skip
    return RunConfig.model_validate(tree)


def build_run(runs: Path, rows: int, *, rounds: int = 3, items: int = 800, seed: int = 0) -> Path:
    """Write a whole run of `rows` corpus rows; returns its directory."""
    make = Maker(seed)
    cfg = config(f"synthetic-{rows}", runs, rows // 10)
    cfg.directory.mkdir(parents=True, exist_ok=True)
    write_json(cfg.directory / "manifest.json", {"tapir": "0", "config": cfg.model_dump(mode="json"), "versions": {}})
    book = Book(cfg.directory)
    ids, texts, own = make.ids(rows), make.instructions(rows), make.texts(rows, 4)
    base = {"id": ids, "turns": turns(texts), "lineage": lineage(rows)}
    book.write("00-corpus", Example, {**base, "response": own}, refused=rows // 50)
    book.write("00-decontaminate", Example, {**base, "response": own}, role=False)
    student, teacher = make.texts(rows, 3), make.texts(rows, 5)
    stop, count = pa.repeat("stop", rows), pa.repeat(40, rows)
    book.write("00-answer", Answer, {"id": ids, "response": student, "finish": stop, "tokens": count})
    book.write("00-respond", Example, {**base, "response": teacher})
    scored = {
        **base, "response": teacher, "student_response": student, "teacher_score": make.scores(rows, 8.5),
        "student_score": make.scores(rows, 7.0), "rationale": make.texts(rows, 2),
        "judge_detail": pa.nulls(rows, pa.string()),
    }  # fmt: skip
    tasks = make.tasks(rows)
    book.write("00-judge", Judged, scored)
    sure = column(make.rng.random(rows))
    book.write("00-label", Label, {"id": ids, "task": tasks, "score": sure, "margin": sure})
    hard = column(scored["teacher_score"].to_numpy() - scored["student_score"].to_numpy() > 2)
    labelled = {**scored, "task": tasks, "task_score": sure, "task_margin": sure}
    seeds = {name: column.filter(hard) for name, column in labelled.items()}
    book.write("00-select", Labelled, seeds, role=False, notes={"threshold": 2.0, "notes": []})
    lessons = {name: seeds[name] for name in ("id", "turns", "response", "lineage", "task")}
    book.write("00-refine", Lesson, {**lessons, "is_hard": pa.repeat(True, len(seeds["id"]))})
    shown = _items(make, items)
    book.write("00-evaluate", Evaluated, _evaluated(make, shown, items, 0.4))
    pool = len(seeds["id"])
    for r in range(1, rounds + 1):
        pool += _round(book, make, r, rows // 10, seeds["id"], pool, rows)
        book.write(f"{r:02d}-evaluate", Evaluated, _evaluated(make, shown, items, 0.4 + 0.1 * r))
    return cfg.directory


def _round(book: Book, make: Maker, r: int, new: int, seeds: Any, pool: int, rows: int) -> int:
    """One round's stages; the rows that joined the pool."""
    picked = seeds.take(column(make.rng.integers(0, len(seeds), new)))
    parents = pa.ListArray.from_arrays(column(np.arange(new + 1, dtype=np.int32)), picked)
    base = {"id": make.ids(new), "turns": turns(make.instructions(new)), "lineage": lineage(new, r, parents)}
    tasks = make.tasks(new)
    drafts = {**base, "task": tasks, "response": make.texts(new, 5), "is_hard": pa.repeat(True, new)}
    book.write(f"{r:02d}-expand", Draft, drafts, refused=new // 100, reason="not-written")
    book.write(f"{r:02d}-admit", Draft, drafts, role=False)
    book.write(f"{r:02d}-refine", Lesson, drafts)
    share = 0.1 + 0.2 * r
    empty = {field.name: column([], field.type) for field in schema_of(Lesson)}
    hard = round(share * rows)
    notes = {
        "alpha": share, "size": rows, "hard": hard, "easy": rows - hard, "repeated": 0, "pool": pool + new,
        "tokens": rows * 100, "tasks": {TASKS[0]: hard}, "shares": {task: 1 / len(TASKS) for task in TASKS},
        "absent": [],
    }  # fmt: skip
    book.write(f"{r:02d}-mix", Lesson, empty, role=False, notes=notes)
    return new


def _items(make: Maker, items: int) -> dict[str, Any]:
    return {
        "id": make.ids(items), "set": pa.repeat("held-out", items), "task": make.tasks(items),
        "difficulty": pa.nulls(items, pa.int64()), "weight": pa.repeat(1.0, items),
        "instruction": make.instructions(items), "reference": make.texts(items, 3),
    }  # fmt: skip


def _evaluated(make: Maker, shown: dict[str, Any], items: int, chance: float) -> dict[str, Any]:
    right = make.rng.random(items) < chance
    score = np.where(right, 9.0, 3.0)
    return {**shown, "response": make.texts(items, 3), "score": column(score), "is_correct": column(right)}
