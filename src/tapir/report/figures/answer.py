"""Figures on what the students reached."""

from collections.abc import Mapping
from itertools import pairwise

from tapir.report.charts.dots import Axis, Dot, DotRow, dot_rows
from tapir.report.charts.lines import Frame, Line, lines
from tapir.report.charts.svg import HALF, NARROW, WIDE
from tapir.report.formats import gap, listed, percent, signed
from tapir.report.results import Estimate, Results, Student, part_titles
from tapir.report.table import Cell, Figure, Table

STYLES = {"start": "k-start", "rival": "k-rival", "round": "k-tapir", "final": "k-tapir"}
FEW = 200
"""Items below which an interval is wide enough to say so."""


def students_figure(results: Results) -> Figure:
    """Every student on the whole evaluation set."""
    rows = [_row(one, results) for one in results.students]
    low, high = _range([one.parts["all"] for one in results.students])
    axis = Axis(low, high, f"all evaluation items, {results.unit}")
    parts = part_titles(results)
    has_weights = any(one.summary.d_like is not None for one in results.students)
    head = ("student", *parts.values(), *(["D-like"] if has_weights else []), "judge, 1–10", "items")
    title = "Every student on the same items"
    return Figure(
        key="students",
        title=title,
        conclusion=_conclude_students(results),
        wide=dot_rows(rows, axis, WIDE, title),
        narrow=dot_rows(rows, axis, NARROW, title),
        table=Table(head, tuple(_cells(one, parts, has_weights=has_weights) for one in results.students), _note(parts)),
        legend=_legend(results),
    )


def _row(one: Student, results: Results) -> DotRow:
    every = one.parts["all"]
    hint = f"{one.title}: {percent(every.mean)} [{every.low:.1f}, {every.high:.1f}], {every.items} items"
    dot = Dot(every.mean, STYLES[one.kind], hint, every.low, every.high)
    return DotRow(one.title, (dot,), percent(every.mean), is_strong=one is results.final)


def _cells(one: Student, parts: Mapping[str, str], *, has_weights: bool) -> tuple[Cell, ...]:
    values = [_with_interval(one.parts.get(name)) for name in parts]
    weighted: list[Cell] = [one.summary.d_like] if has_weights else []
    return (one.title, *values, *weighted, one.summary.score, one.summary.items)


def _with_interval(found: Estimate | None) -> str:
    return "" if found is None else f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]"


def _note(parts: Mapping[str, str]) -> str:
    text = "In brackets: 95 % intervals over the items."
    if "core" in parts:
        text += " Easy: difficulty 1–2; hard: 3 and above; core: hard items of math, reasoning and code."
    return text + " D-like: items weighted as D is; it falls when a student forgets what most of D asks."


def _conclude_students(results: Results) -> str:
    start, final, rivals = results.start, results.final, results.rivals
    if final is None:
        return "S0 is where every student starts; TAPIR's own rounds follow." if start else "No round is evaluated yet."
    sentences = []
    if rivals:
        best = rivals[0]
        lead = results.differences[best.arm]["all"]
        sentences.append(f"The strongest rival is “{best.title}”; TAPIR minus it: {gap(lead)} points.")
    if final.parts["all"].items < FEW:
        items = final.parts["all"].items
        sentences.append(f"With {items} items the intervals are wide: read differences, not single figures.")
    sentences.append(
        "Where two bars overlap, read the paired differences below: they compare answers to the same item."
    )
    return " ".join(sentences)


def _legend(results: Results) -> tuple[tuple[str, str], ...]:
    kinds = {one.kind for one in results.students}
    found = [("k-start", "S0")] if "start" in kinds else []
    if "rival" in kinds:
        found.append(("k-rival", "rivals, same tokens"))
    if kinds & {"round", "final"}:
        found.append(("k-tapir", "TAPIR"))
    return tuple(found)


def _range(estimates: list[Estimate]) -> tuple[float, float]:
    """An axis that holds all intervals and begins and ends at a round number."""
    low = min(one.low for one in estimates)
    high = max(one.high for one in estimates)
    return max(0.0, 10 * (low // 10)), min(100.0, 10 * (high // 10 + 1))


def tasks_figure(results: Results) -> Figure | None:
    """Per task: S_0, the SFT baseline (or the best rival) and TAPIR's newest student."""
    start, final = results.start, results.final
    one = final or start
    if one is None:
        return None
    rival = results.student("sft") or next(iter(results.rivals), None)
    shown = [student for student in (start, rival, final) if student is not None]
    order = sorted(one.tasks, key=lambda task: -_gain(task, start, final))
    rows = [
        DotRow(
            task,
            tuple(_task_dot(student, task) for student in shown if task in student.tasks),
            signed(_gain(task, start, final)) if start and final else "",
        )
        for task in order
    ]
    axis = Axis(0, 100, f"{results.unit}; at the right: TAPIR minus S0, points")
    title = "By task"
    return Figure(
        key="by-task",
        title=title,
        conclusion=_conclude_tasks(results, rival),
        wide=dot_rows(rows, axis, WIDE, title),
        narrow=dot_rows(rows, axis, NARROW, title),
        table=_task_table(results, order),
        legend=tuple((STYLES[student.kind], student.title) for student in shown),
    )


def _gain(task: str, start: Student | None, final: Student | None) -> float:
    if start is None or final is None or task not in start.tasks or task not in final.tasks:
        return 0.0
    return final.tasks[task].mean - start.tasks[task].mean


def _task_dot(student: Student, task: str) -> Dot:
    found = student.tasks[task]
    hint = f"{task}, {student.title}: {percent(found.mean)} [{found.low:.1f}, {found.high:.1f}], {found.items} items"
    interval = (found.low, found.high) if student.kind == "final" else (None, None)
    return Dot(found.mean, STYLES[student.kind], hint, *interval)


def _conclude_tasks(results: Results, rival: Student | None) -> str:
    if results.final is None or results.start is None:
        return "Where S0 stands in each task; what is low here is what TAPIR is expected to lift."
    sentences = []
    for arm, name in [("s0", "S0"), *([(rival.arm, rival.title)] if rival else [])]:
        lost = results.losses(arm)
        if lost:
            sentences.append(f"TAPIR loses against {name} on {listed([f'{t} ({gap(g)})' for t, g in lost.items()])}.")
        else:
            sentences.append(f"On no task does TAPIR end below {name} beyond the interval.")
    return " ".join(sentences)


def _task_table(results: Results, order: list[str]) -> Table:
    against = list(results.task_differences)
    titles = {one.arm: one.title for one in results.students}
    head = ("task", "items", *titles.values(), *(f"TAPIR minus {titles[arm]}" for arm in against))
    rows: list[tuple[Cell, ...]] = []
    for task in order:
        values: list[Cell] = [one.tasks[task].mean if task in one.tasks else None for one in results.students]
        gaps: list[Cell] = [
            gap(results.task_differences[arm][task]) if task in results.task_differences[arm] else None
            for arm in against
        ]
        items = max(one.tasks[task].items for one in results.students if task in one.tasks)
        rows.append((task, items, *values, *gaps))
    return Table(head, tuple(rows), "Differences are paired over items; in brackets: 95 % intervals (bootstrap).")


def differences_table(results: Results) -> Table | None:
    """TAPIR minus each other arm, per part; None before there is a TAPIR student."""
    if not results.differences:
        return None
    parts = part_titles(results)
    titles = {one.arm: one.title for one in results.students}
    rows = [
        (titles.get(arm, arm), *(gap(gaps[name]) if name in gaps else None for name in parts))
        for arm, gaps in results.differences.items()
    ]
    note = "95 % intervals: paired bootstrap over the items of this one run. They do not hold the chance of training."
    return Table(("TAPIR minus", *parts.values()), tuple(rows), note)


def levels_figure(results: Results) -> Figure | None:
    """By the items' own difficulty, where the sets state one."""
    rival = results.student("sft") or next(iter(results.rivals), None)
    shown = [one for one in (results.start, rival, results.final) if one is not None and one.levels]
    if not shown:
        return None
    names = sorted({level for one in shown for level in one.levels})
    courses = [
        Line(
            _short_title(one),
            STYLES[one.kind],
            tuple((float(names.index(level)), found.mean) for level, found in one.levels.items()),
            has_marks=True,
        )
        for one in shown
    ]
    title = "By the items' own difficulty"
    frames = [
        Frame(width, 250, title, "difficulty of the item", results.unit, 0, 100, tuple(names))
        for width in (HALF, NARROW)
    ]
    table = Table(
        ("difficulty", *(one.title for one in shown)),
        tuple((level, *(one.levels[level].mean if level in one.levels else None for one in shown)) for level in names),
    )
    return Figure(
        key="by-level",
        title=title,
        conclusion="How far up the scale each student gets. A lift at the low levels only is practice, not new skill.",
        wide=lines(courses, frames[0]),
        narrow=lines(courses, frames[1]),
        table=table,
        legend=tuple((STYLES[one.kind], one.title) for one in shown),
    )


def _short_title(one: Student) -> str:
    return {"start": "S0", "final": "TAPIR", "round": "TAPIR"}.get(
        one.kind, one.title.partition(",")[0].partition(":")[0]
    )


def rounds_figure(results: Results) -> Figure | None:
    """The course over rounds, whole and by part; None before round 1 is evaluated."""
    own = [one for one in results.students if one.kind != "rival"]
    if len(own) < 2:
        return None
    parts = part_titles(results)
    styles = ("k-tapir", "k-new", "k-hard-line", "k-rival")
    courses = [
        Line(
            title,
            styles[index % len(styles)],
            tuple((float(place), one.parts[name].mean) for place, one in enumerate(own) if name in one.parts),
            has_marks=True,
        )
        for index, (name, title) in enumerate(parts.items())
    ]
    names = tuple("S0" if one.kind == "start" else one.title.rpartition(" ")[2] for one in own)
    title = "Over the rounds"
    frames = [Frame(width, 250, title, "round", results.unit, 0, 100, names) for width in (HALF, NARROW)]
    table = Table(
        ("student", *parts.values()),
        tuple((one.title, *(_with_interval(one.parts.get(name)) for name in parts)) for one in own),
    )
    gains = [second.parts["all"].mean - first.parts["all"].mean for first, second in pairwise(own)]
    last = "The last round still adds" if gains[-1] > 0.5 else "The last round adds nothing more:"
    return Figure(
        key="by-round",
        title=title,
        conclusion=f"Gain per round: {', '.join(signed(one) for one in gains)} points. {last} {signed(gains[-1])}.",
        wide=lines(courses, frames[0]),
        narrow=lines(courses, frames[1]),
        table=table,
    )
