"""One instruction through all stages: its answers and verdicts, up to the seed and down to its children."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tapir.report.judging import Verdict, verdicts
from tapir.report.reading import Arrow, read_columns
from tapir.serve.library import OpenRun, Source
from tapir.serve.sheets import Sheet

DEPTH = 12
"""Generations that lineage is followed up."""
MOST_CHILDREN = 100


@dataclass(frozen=True)
class Answer:
    """A response to the instruction."""

    title: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class Judgement:
    """A verdict on two answers."""

    title: str
    teacher: float
    student: float
    rationale: str
    calls: tuple[Verdict, ...]

    @property
    def mfd(self) -> float:
        """Teacher's score minus student's score."""
        return self.teacher - self.student

    @property
    def has_pair(self) -> bool:
        """Whether the rationale belongs to one of the replies, which then shows it."""
        return any(one.first == "reference" for one in self.calls)


@dataclass(frozen=True)
class Relative:
    """A seed above the row, or a row expanded from it."""

    id: str
    text: str
    round: int
    task: str
    is_seed: bool


@dataclass(frozen=True)
class RowPage:
    """All that a run knows of one instruction."""

    id: str
    turns: tuple[tuple[str, str], ...]
    """Role and text of each turn."""
    task: str
    task_note: str
    facts: tuple[tuple[str, str], ...]
    teacher: tuple[Answer, ...]
    """The corpus' own response, the teacher's, the refined one."""
    student: tuple[Answer, ...]
    judgements: tuple[Judgement, ...]
    refusals: tuple[Answer, ...]
    ancestors: tuple[Relative, ...]
    """From the row's own parents up to the corpus."""
    children: tuple[Relative, ...]
    stages: tuple[tuple[str, str, int], ...]
    """Sources that hold the row: key, title, how often."""


def read_row(run: OpenRun, id_: str) -> RowPage | None:
    """Everything on the instruction with this id; None where no stage knows it."""
    found = [(source, row) for source in run.sources() for row in _rows(run, source, id_)]
    if not found:
        return None
    turns = next((_turns(row) for _, row in found if _turns(row)), ())
    labels = [row for _, row in found if row.get("task") and row.get("margin") is not None]
    tasks = [str(row["task"]) for _, row in found if row.get("task")]
    note = f"confidence {labels[0]['score']:.2f}, {labels[0]['margin']:.2f} above the next" if labels else ""
    lineage = next((row["lineage"] for _, row in found if row.get("lineage")), None)
    return RowPage(
        id=id_,
        turns=turns,
        task=tasks[0] if tasks else "",
        task_note=note,
        facts=_facts(lineage),
        teacher=_teacher_answers(found),
        student=tuple(_student_answers(found)),
        judgements=tuple(_judgements(found)),
        refusals=tuple(
            Answer(source.title, row["text"], f"{row['reason']}: {row['detail']}")
            for source, row in found
            if source.kind == "refused"
        ),
        ancestors=tuple(_ancestors(run, lineage)),
        children=tuple(_children(run, id_)),
        stages=_places(found),
    )


def _rows(run: OpenRun, source: Source, id_: str) -> list[dict[str, Any]]:
    sheet = run.sheet(source)
    places = sheet.find([id_])
    return sheet.take(places) if places else []


def _places(found: Iterable[tuple[Source, Any]]) -> tuple[tuple[str, str, int], ...]:
    counts: dict[tuple[str, str], int] = {}
    for source, _ in found:
        title = f"{source.title}, refused" if source.kind == "refused" else source.title
        counts[source.key, title] = counts.get((source.key, title), 0) + 1
    return tuple((key, title, number) for (key, title), number in counts.items())


def _turns(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if row.get("turns"):
        return tuple((str(turn["role"]), str(turn["content"])) for turn in row["turns"])
    return (("user", str(row["instruction"])),) if row.get("instruction") else ()


def _facts(lineage: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    if lineage is None:
        return ()
    names = {"source": "from", "license": "licence", "teacher": "written by", "prompt": "prompt's digest"}
    facts = [(title, str(lineage[name])) for name, title in names.items() if lineage[name]]
    return (*facts, ("round", str(lineage["round"])))


TEACHER_STAGES = {
    "corpus": "In the corpus",
    "respond": "The teacher's answer",
    "refine": "Refined by the teacher",
}


def _teacher_answers(found: Iterable[tuple[Source, dict[str, Any]]]) -> tuple[Answer, ...]:
    """The responses that are not the student's, each once, in the order of the stages."""
    answers: list[Answer] = []
    for source, row in found:
        name = source.key.partition("-")[2]
        if name in TEACHER_STAGES:
            answers.append(Answer(TEACHER_STAGES[name], str(row["response"])))
        elif row.get("reference") is not None and not answers:
            answers.append(Answer("Reference of the evaluation set", str(row["reference"])))
    kept: list[Answer] = []
    for one in answers:
        same = next((other for other in kept if other.text == one.text), None)
        kept.append(Answer(one.title, "", f"the same as: {same.title.lower()}") if same else one)
    return tuple(kept)


def _student_answers(found: Iterable[tuple[Source, dict[str, Any]]]) -> Iterable[Answer]:
    seen: set[tuple[str, str]] = set()
    for source, row in found:
        verb = source.key.partition("-")[2]
        round_ = int(source.key[:2]) if source.key[:2].isdigit() else 0
        title = "S0" if round_ == 0 else f"Round {round_}"
        if verb == "evaluate":
            correct = {True: ", right", False: ", wrong", None: ""}[row["is_correct"]]
            yield Answer(title, str(row["response"]), f"score {row['score']:.3g}{correct}")
        elif verb.startswith(("answer", "judge")):
            text = str(row["student_response"] if "student_response" in row else row["response"])
            if (title, text) not in seen:
                seen.add((title, text))
                cut = ", cut off" if row.get("finish") == "length" else ""
                yield Answer(title, text, f"{row['tokens']} tokens{cut}" if "tokens" in row else "")


def _judgements(found: Iterable[tuple[Source, dict[str, Any]]]) -> Iterable[Judgement]:
    for source, row in found:
        if source.key.partition("-")[2].startswith("judge") and source.kind == "rows":
            yield Judgement(
                title=source.title,
                teacher=float(row["teacher_score"]),
                student=float(row["student_score"]),
                rationale=str(row["rationale"] or ""),
                calls=tuple(verdicts(row["judge_detail"])),
            )


def _ancestors(run: OpenRun, lineage: Mapping[str, Any] | None) -> Iterable[Relative]:
    """The row's parents, theirs, and so on, up to the corpus."""
    seen: set[str] = set()
    wanted = list(lineage["parents"]) if lineage else []
    sources = [
        one for one in run.sources() if one.kind == "rows" and one.key.endswith(("-refine", "-select", "-corpus"))
    ]
    for _ in range(DEPTH):
        above: list[str] = []
        for id_ in [one for one in wanted if one not in seen]:
            seen.add(id_)
            row = next((row for source in sources for row in _rows(run, source, id_)), None)
            if row is not None:
                above += row["lineage"]["parents"]
                yield _relative(row)
        wanted = above


def _relative(row: Mapping[str, Any]) -> Relative:
    return Relative(
        id=str(row["id"]),
        text=str(row["turns"][-1]["content"]),
        round=int(row["lineage"]["round"]),
        task=str(row.get("task") or ""),
        is_seed=not row["lineage"]["parents"],
    )


def _children(run: OpenRun, id_: str) -> Iterable[Relative]:
    """Rows expanded from this one, as refined, or as admitted where refining is not done."""
    seen: set[str] = set()
    for source in run.sources():
        if source.kind != "rows" or not source.key.partition("-")[2].startswith(("refine", "admit")):
            continue
        if source.key.startswith("00-"):
            continue
        sheet = run.sheet(source)
        for row in sheet.take(_with_parent(sheet, id_)):
            if row["id"] not in seen and len(seen) < MOST_CHILDREN:
                seen.add(row["id"])
                yield _relative(row)


def _with_parent(sheet: Sheet, id_: str) -> list[int]:
    """The places of rows that have this parent."""
    column: Arrow = read_columns(sheet.path, ["lineage.parents.list.element"])["lineage"].combine_chunks()
    parents: Arrow = column.field("parents")
    hits = np.flatnonzero(pc.equal(parents.flatten(), pa.scalar(id_)).to_numpy(zero_copy_only=False))
    ends = np.cumsum(pc.list_value_length(parents).to_numpy())
    return sorted({int(one) for one in np.searchsorted(ends, hits, side="right")})
