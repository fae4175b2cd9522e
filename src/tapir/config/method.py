"""What TAPIR decides by: difficulty, tasks, expansion, refinement, curriculum."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from tapir.config.base import Config, Fraction, NonNegative
from tapir.config.data import NearDuplicateConfig
from tapir.config.roles import ClassifierConfig, LocalClassifierConfig
from tapir.tasks import DEFAULT_TARGET, Task


class DifficultyConfig(Config):
    """Which rows are hard for this student."""

    select: Literal["mfd", "random", "all"] = "mfd"
    """`random`: as many seeds as MFD would give, drawn at random (ablation); `all`: every row (baselines)."""
    threshold: Annotated[float, Field(ge=-9, le=9)] = 2.0
    """δ: a row is hard when MFD > δ (tunable; look at the histogram)."""
    quantile: Fraction | None = None
    """Instead of the threshold: the share of rows to take, hardest first. Ties are all taken or all left."""
    reference: Literal["teacher", "corpus"] = "teacher"
    """Whose response is scored against the student's: the teacher's fresh answer, or the corpus' own response."""
    rescore_new: bool = False
    """Let the current student answer new instructions and keep only those it finds hard (ours, not the paper's)."""


class TasksConfig(Config):
    """Task types and the target distribution P(T)."""

    classifier: ClassifierConfig = LocalClassifierConfig()
    balance: bool = True
    """Draw seeds and hard rows by `target`; off: in proportion to what there is (ablation)."""
    target: dict[Task, NonNegative] = Field(default_factory=lambda: dict(DEFAULT_TARGET))
    """Relative weights; normalised over the tasks that have seeds."""

    @field_validator("target")
    @classmethod
    def _has_weight(cls, value: dict[Task, float]) -> dict[Task, float]:
        if not any(value.values()):
            raise ValueError("gives no task a weight; give at least one task a weight above 0")
        return value


class ExpandConfig(Config):
    """New instructions from seeds."""

    enabled: bool = True
    new_per_round: Annotated[int, Field(ge=1)] = 2000
    """Instructions to add to the hard pool in each round (tunable)."""
    seeds_per_prompt: Annotated[int, Field(ge=1)] = 3
    """Seeds shown to an endpoint teacher in one call."""
    per_prompt: Annotated[int, Field(ge=1)] = 5
    """New instructions asked of an endpoint teacher in one call."""
    passes: Annotated[int, Field(ge=1)] = 3
    """Times that a shortfall is planned again in one round."""
    near_duplicates: NearDuplicateConfig = NearDuplicateConfig(similarity=0.7)
    min_chars: Annotated[int, Field(ge=1)] = 8
    max_chars: Annotated[int, Field(ge=1)] = 8000
    check_task: bool = True
    """Refuse a draft that the local classifier is sure belongs to another task."""
    check_language: bool = True
    """Refuse a draft in another script than its seeds'."""


class RefineConfig(Config):
    """Responses in the style that the task type needs."""

    enabled: bool = True
    """Off: seeds keep their own responses and drafts get the teacher's plain ones (ablation)."""
    plain_tasks: frozenset[Task] = frozenset()
    """Task types answered plainly all the same, because a long chain does not help them."""


class CurriculumConfig(Config):
    """Multi-round curriculum planning."""

    rounds: Annotated[int, Field(ge=1)] = 3
    """R (tunable)."""
    alpha: Fraction = 0.3
    """α_1: the share of hard rows in round 1 (tunable)."""
    alpha_step: Fraction = 0.2
    """Δα: α_{r+1} = min(1, α_r + Δα) (tunable)."""
    easy_response: Literal["reference", "corpus"] = "reference"
    """y of the easy rows: the response that was scored against the student's (`reference`), or D's own (`corpus`)."""
    rows_per_round: Annotated[int, Field(ge=1)] | None = None
    """N: rows in a round's mixture. None, with tokens_per_round unset: as many as D has."""
    tokens_per_round: Annotated[int, Field(ge=1)] | None = None
    """Choose N so that a round's mixture holds about this many tokens."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.rows_per_round and self.tokens_per_round:
            raise ValueError("rows_per_round and tokens_per_round both set a round's size; give one of them")
        return self
