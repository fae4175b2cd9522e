"""Looking through rows: what is asked for, which rows answer it, and one page of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from tapir.report.reading import INSTRUCTION
from tapir.serve.library import OpenRun, Source
from tapir.serve.lookup import instructions_of, sheet_tasks, tasks_of
from tapir.serve.sheets import TEXT_COLUMNS, Coded, Mask, Sheet

PAGE = 50
EXCERPT = 280
"""Characters of a text that a line of the list shows."""


@dataclass(frozen=True)
class Query:
    """What a reader asks for; an empty field asks for nothing."""

    rows: str = ""
    """The source; empty: the most telling one there is."""
    q: str = ""
    where: str = ""
    """The place to search in; empty: everywhere."""
    task: str = ""
    round: str = ""
    reason: str = ""
    right: str = ""
    low: str = ""
    """Least MFD."""
    high: str = ""
    """Largest MFD."""
    sort: str = ""
    """`mfd` or `score`; with a leading minus the largest first; empty: as the rows stand."""
    page: int = 1

    @classmethod
    def read(cls, given: Mapping[str, str]) -> "Query":
        """The query in an address; what cannot be read is left out."""
        names = {one.name for one in fields(cls)} - {"page"}
        page = given.get("page", "1")
        return cls(
            **{name: given[name].strip() for name in names if name in given},
            page=max(1, int(page)) if page.isdecimal() and len(page) < 9 else 1,
        )

    def address(self, **changes: Any) -> str:
        """The query of an address, with some fields changed."""
        changed = replace(self, **changes)
        given = {one.name: getattr(changed, one.name) for one in fields(self)}
        return "?" + urlencode({name: value for name, value in given.items() if value and (name, value) != ("page", 1)})


@dataclass(frozen=True)
class Line:
    """One row in the list."""

    id: str
    text: str
    task: str
    round: int | None
    teacher: float | None
    student: float | None
    mfd: float | None
    note: str
    """Reason and detail of a refusal, or whether an answer is right."""


@dataclass(frozen=True)
class Found:
    """One page of what answers a query."""

    query: Query
    source: Source
    lines: tuple[Line, ...]
    rows: int
    """Rows that answer, on all pages."""
    pages: int
    abilities: frozenset[str]
    """What this source can be filtered and sorted by: task, round, mfd, score, reason, right."""
    tasks: tuple[str, ...]
    rounds: tuple[int, ...]
    reasons: tuple[str, ...]
    problem: str = ""
    """What of the query could not be understood."""


def default_source(sources: Sequence[Source]) -> Source | None:
    """Judged rows where there are any, else the last rows there are."""
    keys = {one.key: one for one in sources}
    return keys.get("00-judge") or next((one for one in reversed(sources) if one.kind == "rows"), None)


def look(run: OpenRun, query: Query) -> Found | None:
    """One page of the rows that answer a query; None where the run has no rows, or none of this name."""
    sources = run.sources()
    source = next((one for one in sources if one.key == query.rows), None) if query.rows else default_source(sources)
    if source is None:
        return None
    sheet = run.sheet(source)
    able = abilities(sheet, has_labels=any(one.key == "00-label" for one in sources))
    places, problem = _matching(run, sheet, query, able)
    places = _sorted(sheet, places, query.sort, able)
    total = sheet.rows if places is None else len(places)
    page = min(query.page, max(1, -(-total // PAGE)))
    shown = range((page - 1) * PAGE, min(page * PAGE, total))
    picked = list(shown) if places is None else [int(one) for one in places[shown.start : shown.stop]]
    return Found(
        query=replace(query, page=page, rows=source.key),
        source=source,
        lines=tuple(_lines(run, source, sheet, picked)),
        rows=total,
        pages=max(1, -(-total // PAGE)),
        abilities=able,
        tasks=_task_names(run, sheet, able),
        rounds=tuple(sorted({*range(run.files().config.curriculum.rounds + 1)})) if "round" in able else (),
        reasons=tuple(sorted(sheet.reason.names)) if "reason" in able else (),
        problem=problem,
    )


def abilities(sheet: Sheet, *, has_labels: bool) -> frozenset[str]:
    """What a sheet can be filtered and sorted by."""
    kinds = {
        "task": "task" in sheet.columns or (has_labels and "id" in sheet.columns and "reason" not in sheet.columns),
        "round": "lineage" in sheet.columns,
        "mfd": {"teacher_score", "student_score"} <= sheet.columns,
        "score": "score" in sheet.columns,
        "reason": "reason" in sheet.columns,
        "right": "is_correct" in sheet.columns,
    }
    places = {place for place, names in TEXT_COLUMNS.items() if sheet.columns.intersection(names)}
    return frozenset({name for name, is_there in kinds.items() if is_there} | places)


def _matching(run: OpenRun, sheet: Sheet, query: Query, able: frozenset[str]) -> tuple[NDArray[np.int64] | None, str]:
    """The places of the rows that answer, None for all of them; and what could not be understood."""
    masks: list[Mask] = []
    problem = ""
    if query.task and "task" in able:
        masks.append(_tasks(run, sheet).where(query.task))
    if query.round and "round" in able:
        if query.round.isdecimal():
            masks.append(sheet.round == int(query.round[:9]))
        else:
            problem = f"round {query.round!r} is not a number"
    if query.reason and "reason" in able:
        masks.append(sheet.reason.where(query.reason))
    if query.right and "right" in able:
        masks.append(sheet.is_correct.where(query.right))
    for text, is_low in ((query.low, True), (query.high, False)):
        bound = _number(text)
        if text and bound is None:
            problem = f"MFD {text!r} is not a number"
        elif bound is not None and "mfd" in able:
            masks.append(sheet.mfd >= bound if is_low else sheet.mfd <= bound)
    if query.q:
        places = [query.where] if query.where in able else [one for one in TEXT_COLUMNS if one in able]
        masks.append(sheet.search(query.q, places) if places else np.zeros(sheet.rows, dtype=np.bool_))
    if not masks:
        return None, problem
    return np.flatnonzero(np.logical_and.reduce(masks)), problem


def _number(text: str) -> float | None:
    try:
        value = float(text.replace("−", "-"))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _sorted(
    sheet: Sheet, places: NDArray[np.int64] | None, order: str, able: frozenset[str]
) -> NDArray[np.int64] | None:
    """The places in the order asked for; equal rows keep theirs."""
    name = order.removeprefix("-")
    if name not in ("mfd", "score") or name not in able:
        return places
    values = sheet.mfd if name == "mfd" else sheet.score
    chosen = np.arange(sheet.rows, dtype=np.int64) if places is None else places
    keys = -values[chosen] if order.startswith("-") else values[chosen]
    return chosen[np.argsort(keys, kind="stable")]


def _tasks(run: OpenRun, sheet: Sheet) -> Coded:
    return sheet.task if "task" in sheet.columns else sheet_tasks(run, sheet)


def _task_names(run: OpenRun, sheet: Sheet, able: frozenset[str]) -> tuple[str, ...]:
    """The tasks to choose from."""
    if "task" not in able:
        return ()
    if "task" in sheet.columns:
        return tuple(sorted(name for name in sheet.task.names if name))
    labels = run.source("00-label")
    return tuple(sorted(run.sheet(labels).task.names)) if labels else ()


LINE_COLUMNS = (
    "id",
    "task",
    "lineage.round",
    "teacher_score",
    "student_score",
    "score",
    "is_correct",
    "reason",
    "detail",
    "text",
)
TEXT_OF_LINE = (INSTRUCTION, "instruction", "response")
"""What a line shows as its text: the first of these that its rows have."""


def _lines(run: OpenRun, source: Source, sheet: Sheet, places: Sequence[int]) -> list[Line]:
    wanted = [name for name in LINE_COLUMNS if name.partition(".")[0] in sheet.columns]
    wanted += [name for name in TEXT_OF_LINE if name.partition(".")[0] in sheet.columns][:1]
    rows = sheet.take(places, wanted)
    ids = [str(row["id"]) for row in rows]
    tasks = [str(row.get("task") or "") for row in rows]
    if "task" not in sheet.columns:
        tasks = tasks_of(run, sheet, places, ids)
    texts = [_text(row) for row in rows]
    if not sheet.columns & {"turns", "instruction", "reason"}:
        texts = instructions_of(run, source.key[:2], places, ids)
    return [_line(row, task, text) for row, task, text in zip(rows, tasks, texts, strict=True)]


def _line(row: Mapping[str, Any], task: str, text: str) -> Line:
    teacher, student = row.get("teacher_score"), row.get("student_score", row.get("score"))
    lineage = row.get("lineage")
    return Line(
        id=str(row["id"]),
        text=text or _text(row),
        task=task,
        round=int(lineage["round"]) if lineage else None,
        teacher=teacher,
        student=student,
        mfd=None if teacher is None or student is None else teacher - student,
        note=_note(row),
    )


def _text(row: Mapping[str, Any]) -> str:
    """The line's text: the instruction, else what there is."""
    if row.get("turns"):
        return str(row["turns"][-1]["content"])
    return str(row.get("instruction") or row.get("text") or row.get("response") or "")


def _note(row: Mapping[str, Any]) -> str:
    if "reason" in row:
        return f"{row['reason']}: {row['detail']}"
    correct = row.get("is_correct")
    return "" if correct is None else "right" if correct else "wrong"
