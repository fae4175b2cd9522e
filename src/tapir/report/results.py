"""The answer: what each student reached, how sure that is, and where TAPIR loses."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tapir.evaluation.results import PARTS, Difference, Summary, paired_difference, value
from tapir.report.reading import RunFiles
from tapir.rows import Evaluated
from tapir.status import Status, evaluated_arms
from tapir.tables import PART_TITLES, arm_title

Z = 1.959964
"""The normal quantile of a 95 % interval."""
TASK_DRAWS = 1000
"""Bootstrap draws of an interval per task."""

UNLABELLED = "unlabelled"

Kind = Literal["start", "rival", "round", "final"]


@dataclass(frozen=True)
class Estimate:
    """A mean over evaluation items, in percent, with its 95 % interval."""

    mean: float
    low: float
    high: float
    items: int


@dataclass(frozen=True)
class Student:
    """What one student reached."""

    arm: str
    title: str
    kind: Kind
    parts: Mapping[str, Estimate]
    tasks: Mapping[str, Estimate]
    levels: Mapping[str, Estimate]
    """By the item's own difficulty, where the set states one."""
    summary: Summary


@dataclass(frozen=True)
class Results:
    """All students of a run, S_0 first, then rivals, then TAPIR round by round."""

    students: tuple[Student, ...]
    is_accuracy: bool
    """Whether the figures are shares of right answers; else judge scores in percent of the scale."""
    differences: Mapping[str, Mapping[str, Difference]]
    """The last TAPIR student minus each other arm, per part."""
    task_differences: Mapping[str, Mapping[str, Difference]]
    """The same per task."""
    is_last: bool
    """Whether the last round is in."""

    @property
    def unit(self) -> str:
        """What the figures are."""
        return "% right" if self.is_accuracy else "% of the judge's scale"

    def student(self, arm: str) -> Student | None:
        """One student by the name of its arm."""
        return next((one for one in self.students if one.arm == arm), None)

    @property
    def start(self) -> Student | None:
        """S_0."""
        return self.student("s0")

    @property
    def final(self) -> Student | None:
        """TAPIR's newest student."""
        own = [one for one in self.students if one.kind in ("round", "final")]
        return own[-1] if own else None

    @property
    def rivals(self) -> list[Student]:
        """The other arms, best first."""
        found = [one for one in self.students if one.kind == "rival"]
        return sorted(found, key=lambda one: -one.parts["all"].mean)

    def losses(self, arm: str) -> dict[str, Difference]:
        """Tasks on which TAPIR ends below `arm` and the interval leaves no doubt, worst first."""
        gaps = self.task_differences.get(arm, {})
        lost = {task: gap for task, gap in gaps.items() if gap.high < 0}
        return dict(sorted(lost.items(), key=lambda item: item[1].mean))


def read_results(run: RunFiles, status: Status) -> Results | None:
    """The results of a run; None where nothing has been evaluated."""
    arms = evaluated_arms(run.directory)
    if not arms:
        return None
    order = _order(arms)
    last = max((one.round for one in run.named("evaluate")), default=0)
    return Results(
        students=tuple(_student(arm, arms[arm], status, last) for arm in order),
        is_accuracy=all(one.is_accuracy for one in status.evaluation.values()),
        differences=status.differences,
        task_differences=_task_differences(arms),
        is_last=status.rounds_done >= status.rounds,
    )


def _order(arms: Mapping[str, Sequence[Evaluated]]) -> list[str]:
    own = [arm for arm in arms if arm.startswith("tapir-")]
    rivals = [arm for arm in arms if not arm.startswith("tapir") and arm != "s0"]
    return [*(["s0"] if "s0" in arms else []), *rivals, *own]


def _student(arm: str, rows: Sequence[Evaluated], status: Status, last: int) -> Student:
    kind: Kind = "rival"
    if arm == "s0":
        kind = "start"
    elif arm.startswith("tapir-"):
        kind = "final" if int(arm.removeprefix("tapir-")) == last else "round"
    tasks: dict[str, list[Evaluated]] = defaultdict(list)
    levels: dict[str, list[Evaluated]] = defaultdict(list)
    for row in rows:
        tasks[row.task.value if row.task else UNLABELLED].append(row)
        if row.difficulty is not None:
            levels[str(row.difficulty)].append(row)
    parts = {name: [row for row in rows if belongs(row)] for name, belongs in PARTS.items()}
    return Student(
        arm=arm,
        title=arm_title(arm),
        kind=kind,
        parts={name: estimate(part) for name, part in parts.items() if part},
        tasks={name: estimate(part) for name, part in sorted(tasks.items())},
        levels={name: estimate(part) for name, part in sorted(levels.items())},
        summary=status.evaluation[arm],
    )


def estimate(rows: Sequence[Evaluated]) -> Estimate:
    """The mean of `rows` with its 95 % interval: Wilson's where answers are right or wrong, else the normal one."""
    values = [value(row) for row in rows]
    count = len(values)
    mean = sum(values) / count
    if all(row.is_correct is not None for row in rows):
        share = mean / 100
        middle = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
        half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count)) / (1 + Z * Z / count)
        return Estimate(mean, max(0.0, 100 * (middle - half)), min(100.0, 100 * (middle + half)), count)
    spread = math.sqrt(sum((one - mean) ** 2 for one in values) / max(1, count - 1) / count)
    return Estimate(mean, max(0.0, mean - Z * spread), min(100.0, mean + Z * spread), count)


def _task_differences(arms: Mapping[str, Sequence[Evaluated]]) -> dict[str, dict[str, Difference]]:
    ours: dict[str, list[Evaluated]] = defaultdict(list)
    for row in arms.get("tapir", ()):
        ours[row.task.value if row.task else UNLABELLED].append(row)
    found: dict[str, dict[str, Difference]] = {}
    for arm, rows in arms.items():
        if not ours or arm.startswith("tapir"):
            continue
        gaps = {task: paired_difference(mine, rows, draws=TASK_DRAWS) for task, mine in sorted(ours.items())}
        found[arm] = {task: gap for task, gap in gaps.items() if gap is not None}
    return found


def part_titles(results: Results) -> dict[str, str]:
    """The parts that any student has items in, with their titles."""
    present = {name for one in results.students for name in one.parts}
    return {name: PART_TITLES[name] for name in PARTS if name in present}
