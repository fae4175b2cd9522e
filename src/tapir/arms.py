"""Rivals: the same loop with one switch turned, from the same S_0, with the same tokens.

`sft` trains on D as it is; `distillation` on D with the teacher's refined responses; `expansion` on random rows of D,
refined, and new instructions from them, without difficulty, balance or curriculum: what a good pipeline without TAPIR
does. The others take one part of TAPIR away.
"""

from collections.abc import Mapping
from typing import Any

from tapir.config import Arm, RunConfig

_WHOLE_CORPUS: Mapping[str, Mapping[str, Any]] = {
    "difficulty": {"select": "all"},
    "tasks": {"balance": False},
    "expand": {"enabled": False},
    "curriculum": {"alpha": 1.0},
}

ARMS: Mapping[Arm, Mapping[str, Mapping[str, Any]]] = {
    "sft": {**_WHOLE_CORPUS, "refine": {"enabled": False}},
    "distillation": _WHOLE_CORPUS,
    "expansion": {
        "difficulty": {"select": "random"},
        "tasks": {"balance": False},
        "curriculum": {"alpha": 1.0},
    },
    "random-seeds": {"difficulty": {"select": "random"}},
    "no-refine": {"refine": {"enabled": False}},
    "no-expand": {"expand": {"enabled": False}},
    "no-balance": {"tasks": {"balance": False}},
    "alpha-1": {"curriculum": {"alpha": 1.0}},
}
"""The settings that make each arm; everything else is the run's own."""

ARM_TITLES: Mapping[str, str] = {
    "s0": "S0: fine-tuned on D",
    "sft": "SFT on D, same tokens",
    "distillation": "distillation: D refined",
    "expansion": "expansion rival",
    "random-seeds": "TAPIR, random seeds",
    "no-refine": "TAPIR, no refinement",
    "no-expand": "TAPIR, no expansion",
    "no-balance": "TAPIR, no balancing",
    "alpha-1": "TAPIR, alpha = 1",
    "tapir": "TAPIR",
}
"""What each arm is called where people read it."""


def arm_config(cfg: RunConfig, arm: Arm) -> RunConfig:
    """The run's configuration with the switches of `arm` turned."""
    sections = {name: getattr(cfg, name).model_copy(update=dict(changes)) for name, changes in ARMS[arm].items()}
    sections["evaluation"] = cfg.evaluation.model_copy(update={"every_round": False})
    return cfg.model_copy(update={**sections, "compare": ()})
