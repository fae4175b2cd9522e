"""The balance of tasks: what D held, what was hard, what was wanted and what was taught."""

from collections.abc import Mapping
from dataclasses import dataclass

from tapir.balance import renormalise, task_quotas
from tapir.report.reading import RunFiles, Stage, column_counts, summed
from tapir.tasks import Task


@dataclass(frozen=True)
class TaskShares:
    """Rows per task at each step."""

    raw: Mapping[str, int]
    """D, as labelled."""
    seeds: Mapping[str, int]
    target: Mapping[str, float]
    """The shares that hard rows are drawn by: P(T) over the tasks that have seeds; sums to 1."""
    written: Mapping[str, int]
    """New instructions admitted, over all rounds."""
    taught: Mapping[str, int]
    """Hard rows of all mixtures."""
    deficits: Mapping[int, Mapping[str, int]]
    """By round: how many new instructions each task is short of its quota."""
    absent: tuple[str, ...]
    """Tasks of the target without a seed."""
    is_balanced: bool

    @property
    def tasks(self) -> list[str]:
        """All tasks that occur, by target share, then by their rows in D."""
        names = {*self.raw, *self.seeds, *self.target, *self.written, *self.taught}
        return sorted(names, key=lambda task: (-self.target.get(task, 0), -self.raw.get(task, 0), task))


def read_shares(run: RunFiles) -> TaskShares | None:
    """Rows per task; None where no row of D is labelled yet."""
    labels = run.stage("label")
    if labels is None:
        return None
    select = run.stage("select")
    seeds = column_counts(select.read("task")["task"]) if select else {}
    cfg = run.config.tasks
    tasks = [Task(name) for name, count in seeds.items() for _ in range(count)]
    shares = renormalise(cfg.target if cfg.balance else {}, tasks)
    mixes = run.named("mix")
    if mixes:
        target = {str(task): float(share) for task, share in mixes[-1].notes["shares"].items()}
    else:
        target = {task.value: share for task, share in shares.shares.items()}
    admitted = run.named("admit")
    return TaskShares(
        raw=column_counts(labels.read("task")["task"]),
        seeds=seeds,
        target=target,
        written=summed(column_counts(one.read("task")["task"]) for one in admitted),
        taught=summed({str(task): int(count) for task, count in one.notes["tasks"].items()} for one in mixes),
        deficits={r: found for r in run.rounds if cfg.balance and (found := _deficits(run, r, target))},
        absent=tuple(task.value for task in shares.absent),
        is_balanced=cfg.balance,
    )


def _deficits(run: RunFiles, round_: int, target: Mapping[str, float]) -> dict[str, int]:
    """How many admitted instructions each task is short of its quota in a round; empty before it is planned."""
    admitted: list[Stage] = run.in_round(round_, "admit")
    if not admitted or not target:
        return {}
    quotas = task_quotas({Task(task): share for task, share in target.items()}, run.config.expand.new_per_round)
    have = summed(column_counts(one.read("task")["task"]) for one in admitted)
    missing = {task.value: quota - have.get(task.value, 0) for task, quota in quotas.items()}
    return {task: count for task, count in missing.items() if count > 0}
