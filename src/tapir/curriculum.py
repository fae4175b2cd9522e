"""The multi-round curriculum: how much of a round is hard, and which rows that makes (METHOD step 9)."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapir.balance import task_quotas
from tapir.config import CurriculumConfig
from tapir.errors import ConfigError
from tapir.rows import Lesson
from tapir.tasks import Task


def alpha(round_: int, cfg: CurriculumConfig) -> float:
    """The share of hard rows in round `round_` >= 1: α_{r+1} = min(1, α_r + Δα), in [0, 1]."""
    return min(1.0, round(cfg.alpha + (round_ - 1) * cfg.alpha_step, 10))


@dataclass(frozen=True)
class Mixture:
    """The training set of one round."""

    lessons: list[Lesson]
    hard: int
    """Rows from D_P: exactly round(α·N)."""
    easy: int
    """Rows from D \\ D_S."""
    repeated: int
    """Rows beyond the first of the same instruction, because a pool was smaller than what was drawn from it."""

    def task_counts(self) -> dict[Task, int]:
        """Hard rows per task."""
        return dict(Counter(row.task for row in self.lessons if row.is_hard and row.task is not None))


def mix(
    hard: Sequence[Lesson],
    easy: Sequence[Lesson],
    alpha: float,
    total: int,
    shares: Mapping[Task, float],
    seed: int,
    *,
    taught: Mapping[str, int],
) -> Mixture:
    """Realise the loss weights by sampling: round(α·N) hard rows by `shares`, the rest easy rows, shuffled together.

    Within a task, and among the easy rows, no row is repeated before all were drawn once, and those come first that
    earlier rounds drew least often: `taught` has how often, by id.

    Raises:
        ConfigError: a part that must have rows has none to draw from.
    """
    rng = random.Random(seed)
    hard_total = round(alpha * total)
    by_task: dict[Task, list[Lesson]] = defaultdict(list)
    for row in hard:
        if row.task is not None:
            by_task[row.task].append(row)
    drawn: list[Lesson] = []
    if hard_total:
        quotas = task_quotas({task: share for task, share in shares.items() if by_task.get(task)}, hard_total)
        for task, quota in quotas.items():
            drawn += _least_taught(by_task[task], quota, taught, rng)
    if total > hard_total and not easy:
        raise ConfigError(f"a mixture of {total} rows with α = {alpha:g} needs easy rows and there are none")
    drawn += _least_taught(easy, total - hard_total, taught, rng)
    rng.shuffle(drawn)
    return Mixture(drawn, hard_total, total - hard_total, total - len({row.id for row in drawn}))


def _least_taught(rows: Sequence[Lesson], count: int, taught: Mapping[str, int], rng: random.Random) -> list[Lesson]:
    """`count` rows: all of them as often as that goes, then those least taught so far, at random among equals."""
    passes, rest = divmod(count, len(rows)) if rows else (0, 0)
    ranked = sorted(rng.sample(rows, len(rows)), key=lambda row: taught.get(row.id, 0))
    return [*rows] * passes + ranked[:rest]


def mixture_rows(
    cfg: CurriculumConfig,
    alpha: float,
    *,
    corpus_rows: int,
    hard_tokens: Mapping[Task, float],
    shares: Mapping[Task, float],
    easy_tokens: float,
) -> int:
    """N, the rows of a round's mixture: as configured, or as many as fit `tokens_per_round`.

    `hard_tokens` holds the mean tokens of a hard row per task, `easy_tokens` of an easy row. At least 1.
    """
    if cfg.tokens_per_round is None:
        return cfg.rows_per_round or corpus_rows
    hard = sum(share * hard_tokens.get(task, 0.0) for task, share in shares.items())
    mean = alpha * hard + (1 - alpha) * easy_tokens
    return max(1, round(cfg.tokens_per_round / mean)) if mean > 0 else 1
