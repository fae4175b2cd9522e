"""Balance between task types: shares become whole counts, counts become a plan for the teacher."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

from tapir.errors import ConfigError
from tapir.rows import Draw, Example, Lesson
from tapir.tasks import Task

T = TypeVar("T")


def task_quotas(target: Mapping[Task, float], total: int) -> dict[Task, int]:
    """Whole counts per task that follow `target` and add up to exactly `total` (largest remainder).

    Equal remainders go to the task named first. Shares need not sum to 1.

    Raises:
        ConfigError: `target` is empty, holds a negative share or nothing above 0, or `total` is negative.
    """
    weight = sum(target.values())
    if total < 0 or any(share < 0 for share in target.values()) or not weight > 0:
        raise ConfigError(f"no quotas for {total} rows from the shares {dict(target)}: give shares and a total above 0")
    exact = {task: total * share / weight for task, share in target.items()}
    quotas = {task: int(value) for task, value in exact.items()}
    missing = total - sum(quotas.values())
    for task in sorted(exact, key=lambda name: quotas[name] - exact[name])[:missing]:
        quotas[task] += 1
    return quotas


@dataclass(frozen=True)
class Shares:
    """A target distribution that the rows at hand can fill."""

    shares: dict[Task, float]
    """Sums to 1 over the tasks that have rows."""
    absent: tuple[Task, ...]
    """Tasks of the target without a row; their shares went to the others in proportion."""


def renormalise(target: Mapping[Task, float], present: Iterable[Task]) -> Shares:
    """P(T) over the tasks that have rows (METHOD, target distribution).

    Where none of them is in the target, every row counts the same: the shares follow `present`.
    """
    counts = Counter(present)
    kept = {task: share for task, share in target.items() if share > 0 and counts[task]}
    absent = tuple(task for task, share in target.items() if share > 0 and not counts[task])
    if not kept:
        kept = {task: float(count) for task, count in counts.items()}
    weight = sum(kept.values())
    return Shares({task: share / weight for task, share in kept.items()}, absent)


def target_shares(lessons: Sequence[Lesson], target: Mapping[Task, float], *, balance: bool) -> Shares:
    """The shares that hard rows are drawn by: P(T) over the tasks present, or their own shares without balancing."""
    tasks = [lesson.task for lesson in lessons if lesson.task is not None]
    return renormalise(target if balance else {}, tasks)


def plan_expansion(
    seeds: Sequence[Lesson], quotas: Mapping[Task, int], *, round_: int, shown: int, per_draw: int, seed: int
) -> list[Draw]:
    """What to ask of the teacher: for each task, draws of `shown` seeds whose counts add up to the task's quota.

    Every seed of a task is shown before one is shown again. A task without seeds gets no draw, whatever its quota.
    """
    by_task: dict[Task, list[Lesson]] = defaultdict(list)
    for lesson in seeds:
        if lesson.task is not None:
            by_task[lesson.task].append(lesson)
    draws: list[Draw] = []
    for task, quota in quotas.items():
        rows = by_task.get(task, [])
        if not rows:
            continue
        rng = random.Random(f"{seed}:{round_}:{task.value}")
        counts = [per_draw] * (quota // per_draw) + ([quota % per_draw] if quota % per_draw else [])
        size = min(shown, len(rows))
        picked = sample_evenly(rows, size * len(counts), rng)
        for index, count in enumerate(counts):
            group = {row.id: row for row in picked[index * size : (index + 1) * size]}
            draws.append(_draw(round_, task, list(group.values()), count, rng.getrandbits(31)))
    return draws


def _draw(round_: int, task: Task, seeds: list[Lesson], count: int, seed: int) -> Draw:
    text = f"{round_}:{seed}:" + ",".join(row.id for row in seeds)
    shown = tuple(Example(id=row.id, turns=row.turns, response=row.response, lineage=row.lineage) for row in seeds)
    digest = blake2b(text.encode(), digest_size=12).hexdigest()
    return Draw(id=digest, round=round_, task=task, seeds=shown, count=count, seed=seed)


def sample_evenly(rows: Sequence[T], count: int, rng: random.Random) -> list[T]:
    """`count` rows at random such that no row is drawn twice before all are drawn once; empty where `rows` is empty."""
    drawn: list[T] = []
    while rows and len(drawn) < count:
        drawn += rng.sample(rows, min(len(rows), count - len(drawn)))
    return drawn
