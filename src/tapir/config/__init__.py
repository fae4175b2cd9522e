"""The configuration of a run: one tree, every setting and its default written once.

Values marked (tunable) are this project's, not the paper's: see docs/method.md.
"""

from tapir.config.base import Config, Fraction, NonNegative, Text
from tapir.config.data import CorpusConfig, EvaluationConfig, EvaluationSetConfig, NearDuplicateConfig
from tapir.config.endpoints import EndpointConfig, PriceConfig, SamplingConfig
from tapir.config.load import apply_override, load_config, parse_config, parse_section
from tapir.config.method import CurriculumConfig, DifficultyConfig, ExpandConfig, RefineConfig, TasksConfig
from tapir.config.roles import (
    CascadeClassifierConfig,
    ClassifierConfig,
    EncoderClassifierConfig,
    EndpointJudgeConfig,
    EndpointTeacherConfig,
    JudgeConfig,
    LocalClassifierConfig,
    OracleClassifierConfig,
    PoolTeacherConfig,
    ReferenceJudgeConfig,
    TeacherConfig,
    WorldRoleConfig,
)
from tapir.config.run import Arm, BudgetConfig, RunConfig
from tapir.config.student import GenerationConfig, ScratchConfig, StudentConfig, TrainConfig, VllmConfig

__all__ = [
    "Arm",
    "BudgetConfig",
    "CascadeClassifierConfig",
    "ClassifierConfig",
    "Config",
    "CorpusConfig",
    "CurriculumConfig",
    "DifficultyConfig",
    "EncoderClassifierConfig",
    "EndpointConfig",
    "EndpointJudgeConfig",
    "EndpointTeacherConfig",
    "EvaluationConfig",
    "EvaluationSetConfig",
    "ExpandConfig",
    "Fraction",
    "GenerationConfig",
    "JudgeConfig",
    "LocalClassifierConfig",
    "NearDuplicateConfig",
    "NonNegative",
    "OracleClassifierConfig",
    "PoolTeacherConfig",
    "PriceConfig",
    "ReferenceJudgeConfig",
    "RefineConfig",
    "RunConfig",
    "SamplingConfig",
    "ScratchConfig",
    "StudentConfig",
    "TasksConfig",
    "TeacherConfig",
    "Text",
    "TrainConfig",
    "VllmConfig",
    "WorldRoleConfig",
    "apply_override",
    "load_config",
    "parse_config",
    "parse_section",
]
