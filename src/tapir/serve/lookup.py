"""What rows do not carry themselves, looked up in other stages: their task, their instruction."""

import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from tapir.report.difficulty import task_codes
from tapir.report.reading import INSTRUCTION, read_columns
from tapir.serve.library import OpenRun
from tapir.serve.sheets import Coded, Sheet

LABELS = "00-label"

_known: WeakKeyDictionary[Sheet, tuple[Sheet, Coded]] = WeakKeyDictionary()
_lock = threading.Lock()


def sheet_tasks(run: OpenRun, sheet: Sheet) -> Coded:
    """The task of every row of a sheet, worked out once; rows without a label have a name of their own."""
    source = run.source(LABELS)
    labels = run.sheet(source) if source else None
    with _lock:
        known = _known.get(sheet)
        if known is not None and known[0] is labels:
            return known[1]
    names, codes = task_codes(sheet.ids, read_columns(labels.path, ("id", "task")) if labels else None)
    coded = Coded(names, codes)
    if labels is not None:
        with _lock:
            _known[sheet] = labels, coded
    return coded


def tasks_of(run: OpenRun, sheet: Sheet, places: Sequence[int], ids: Sequence[str]) -> list[str]:
    """The tasks of a few rows: from the same places of the labels where they stand there, else from the whole sheet."""
    source = run.source(LABELS)
    if source is None or not ids or "reason" in sheet.columns:
        return [""] * len(ids)
    if sheet not in _known:
        rows = _same_places(run.sheet(source), places, ids, ["id", "task"])
        if rows is not None:
            return [str(row["task"]) for row in rows]
    coded = sheet_tasks(run, sheet)
    return [coded.names[coded.codes[place]] for place in places]


WRITTEN = ("decontaminate", "corpus", "expand", "refine")
"""Stages whose rows carry their instruction, the likeliest first."""


def instructions_of(run: OpenRun, number: str, places: Sequence[int], ids: Sequence[str]) -> list[str]:
    """The instructions of a few rows that carry none, from stages of the same round that do; empty where unknown."""
    texts: dict[str, str] = {}
    mine = [one for one in run.sources() if one.kind == "rows" and one.key.startswith(f"{number}-")]
    for verb in WRITTEN:
        for source in [one for one in mine if one.key[3:].startswith(verb)]:
            missing = [id_ for id_ in ids if id_ not in texts]
            if missing:
                sheet, columns = run.sheet(source), ["id", INSTRUCTION]
                rows = _same_places(sheet, places, ids, columns) or sheet.take(sheet.find(missing), columns)
                texts.update((str(row["id"]), str(row["turns"][-1]["content"])) for row in rows)
    return [texts.get(id_, "") for id_ in ids]


def _same_places(
    sheet: Sheet, places: Sequence[int], ids: Sequence[str], columns: Sequence[str]
) -> list[dict[str, Any]] | None:
    """The rows at these places, if they have these ids."""
    if not places or max(places) >= sheet.rows:
        return None
    rows = sheet.take(places, columns)
    return rows if all(row["id"] == id_ for row, id_ in zip(rows, ids, strict=True)) else None
