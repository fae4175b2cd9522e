"""One run: all sections, budget and rivals."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tapir.config.base import Config, Fraction, NonNegative
from tapir.config.data import CorpusConfig, EvaluationConfig
from tapir.config.method import CurriculumConfig, DifficultyConfig, ExpandConfig, RefineConfig, TasksConfig
from tapir.config.roles import JudgeConfig, TeacherConfig
from tapir.config.student import StudentConfig


class BudgetConfig(Config):
    """Where a run stops by itself, cleanly and resumably."""

    max_cost: NonNegative | None = None
    max_calls: Annotated[int, Field(ge=0)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    currency: str = "USD"


Arm = Literal["sft", "distillation", "expansion", "random-seeds", "no-refine", "no-expand", "no-balance", "alpha-1"]


class RunConfig(Config):
    """One run of TAPIR."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """The run's directory under `runs`."""
    runs: Path = Path("runs")
    seed: int = 0
    corpus: CorpusConfig
    student: StudentConfig
    teacher: TeacherConfig
    judge: JudgeConfig
    tasks: TasksConfig = TasksConfig()
    difficulty: DifficultyConfig = DifficultyConfig()
    expand: ExpandConfig = ExpandConfig()
    refine: RefineConfig = RefineConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    budget: BudgetConfig = BudgetConfig()
    compare: tuple[Arm, ...] = ()
    """Rivals trained from the same S_0 with the same tokens, and evaluated beside TAPIR."""
    compare_processes: Annotated[int, Field(ge=0)] = 0
    """Processes that train rivals beside the main one (for small students on several cores)."""
    max_refused_fraction: Fraction = 0.2
    """A stage that refuses a larger share of its rows stops the run."""

    @field_validator("compare")
    @classmethod
    def _names_each_once(cls, value: tuple[Arm, ...]) -> tuple[Arm, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"names a rival twice in {list(value)}; name each once")
        return value

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.runs / self.name

    @property
    def draw_size(self) -> tuple[int, int]:
        """Seeds shown and instructions asked for in one draw: one each, unless the teacher is a chat model."""
        if self.teacher.kind == "endpoint":
            return self.expand.seeds_per_prompt, self.expand.per_prompt
        return 1, 1
