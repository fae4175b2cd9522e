"""How often a classifier is right: accuracy, macro-F1, recall of each task, and which tasks it takes for which."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from html import escape

import msgspec

from tapir.classifiers.train import Tagged
from tapir.roles import Aside, Classifier
from tapir.rows import Example, Label, Lineage, example, user_turn
from tapir.tasks import Task

CELL, MARGIN = 18, 150
"""Sizes in the confusion table's drawing, in pixels."""


class TaskScore(msgspec.Struct, frozen=True, kw_only=True):
    """How one task fares."""

    rows: int
    """Rows of this task."""
    recall: float
    """Share of them that is found."""
    precision: float
    """Share right among the rows labelled so; 0 where none is."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A classifier's labels against the given ones."""

    rows: int
    accuracy: float
    macro_f1: float
    """Mean F1 over the tasks that the rows hold."""
    tasks: dict[Task, TaskScore]
    """Tasks that the rows hold, most frequent first."""
    sources: dict[str, tuple[int, float]]
    """Rows and accuracy for each source."""
    confusion: dict[Task, dict[Task, int]]
    """Counts by given task, then by label."""


async def evaluate_classifier(classifier: Classifier, rows: Sequence[Tagged]) -> Evaluation:
    """Label every row and compare; a row the classifier refuses counts as wrong."""
    examples = [as_example(row) for row in rows]
    unique = list({one.id: one for one in examples}.values())
    labels: dict[str, Task] = {}
    async for label in classifier.label(Aside("evaluate"), unique):
        if isinstance(label, Label):
            labels[label.id] = label.task
    return compare([row.task for row in rows], [labels.get(one.id) for one in examples], [row.source for row in rows])


def compare(given: Sequence[Task], found: Sequence[Task | None], sources: Sequence[str]) -> Evaluation:
    """The figures; None stands for no label.

    Raises:
        ValueError: there is no row.
    """
    if not given:
        raise ValueError("there is no row to compare")
    confusion: dict[Task, Counter[Task]] = defaultdict(Counter)
    right_by_source: dict[str, list[bool]] = defaultdict(list)
    for task, label, source in zip(given, found, sources, strict=True):
        if label is not None:
            confusion[task][label] += 1
        right_by_source[source].append(task is label)
    labelled = Counter(label for label in found if label is not None)
    tasks = {
        task: TaskScore(
            rows=count,
            recall=confusion[task][task] / count,
            precision=confusion[task][task] / labelled[task] if labelled[task] else 0.0,
        )
        for task, count in Counter(given).most_common()
    }
    return Evaluation(
        rows=len(given),
        accuracy=sum(confusion[task][task] for task in tasks) / len(given),
        macro_f1=sum(_f1(score) for score in tasks.values()) / len(tasks),
        tasks=tasks,
        sources={source: (len(right), sum(right) / len(right)) for source, right in sorted(right_by_source.items())},
        confusion={task: dict(confusion[task].most_common()) for task in tasks},
    )


def as_example(row: Tagged) -> Example:
    """The row as a classifier takes it."""
    return example(user_turn(row.instruction), "", Lineage(source=row.source))


def evaluation_text(evaluation: Evaluation) -> str:
    """The figures as lines for a terminal: totals, sources, and for each task its recall and what it is taken for."""
    lines = [f"{evaluation.rows} rows: accuracy {evaluation.accuracy:.3f}, macro-F1 {evaluation.macro_f1:.3f}"]
    if len(evaluation.sources) > 1:
        lines += ["", f"{'source':<24}{'rows':>6}{'accuracy':>10}"]
        lines += [f"{source:<24}{rows:>6}{right:>10.3f}" for source, (rows, right) in evaluation.sources.items()]
    lines += ["", f"{'task':<18}{'rows':>6}{'recall':>8}{'precision':>11}  taken for"]
    for task, score in evaluation.tasks.items():
        others = [f"{label} {count}" for label, count in evaluation.confusion[task].items() if label is not task]
        row = f"{task:<18}{score.rows:>6}{score.recall:>8.2f}{score.precision:>11.2f}  {', '.join(others[:4])}"
        lines.append(row.rstrip())
    return "\n".join(lines)


def confusion_svg(evaluation: Evaluation) -> str:
    """The confusion table as a drawing: a row for each given task, a column for each label, darker for more."""
    rows = list(evaluation.tasks)
    columns = rows + [task for task in Task if task not in evaluation.tasks and _is_used(evaluation, task)]
    width, height = MARGIN + CELL * len(columns) + 8, MARGIN + CELL * len(rows) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="11">',
        f"<title>Given task (rows) and label (columns), {evaluation.rows} rows</title>",
    ]
    for j, label in enumerate(columns):
        x = MARGIN + CELL * j + CELL // 2
        parts.append(f'<text transform="translate({x + 4},{MARGIN - 6}) rotate(-60)">{escape(label)}</text>')
    for i, task in enumerate(rows):
        y = MARGIN + CELL * i
        parts.append(f'<text x="{MARGIN - 6}" y="{y + 13}" text-anchor="end">{escape(task)}</text>')
        parts += [
            _cell(MARGIN + CELL * j, y, evaluation.confusion[task].get(label, 0), evaluation.tasks[task].rows, i == j)
            for j, label in enumerate(columns)
        ]
    return "\n".join([*parts, "</svg>\n"])


def _cell(x: int, y: int, count: int, total: int, is_right: bool) -> str:
    shade = count / total
    fill = "#1f77b4" if is_right else "#d62728"
    frame = f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="none" stroke="#ddd"/>'
    if not count:
        return frame
    colour = "#fff" if shade > 0.55 else "#222"
    return (
        f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{fill}" fill-opacity="{shade:.2f}" stroke="#ddd"/>'
        f'<text x="{x + CELL // 2}" y="{y + 13}" text-anchor="middle" font-size="9" fill="{colour}">{count}</text>'
    )


def _is_used(evaluation: Evaluation, task: Task) -> bool:
    return any(task in labels for labels in evaluation.confusion.values())


def _f1(score: TaskScore) -> float:
    both = score.precision + score.recall
    return 2 * score.precision * score.recall / both if both else 0.0
