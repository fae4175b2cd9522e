"""The task taxonomy and the target distribution P(T)."""

from collections.abc import Mapping
from enum import StrEnum


class Task(StrEnum):
    """The 33 task types of TAPIR, and Others for what fits none."""

    MATH = "Math"
    CODE_GENERATION = "Code Generation"
    WRITING = "Writing"
    COMPUTER_SCIENCE = "Computer Science"
    REASONING = "Reasoning"
    COMPLEX_FORMAT = "Complex Format"
    CODE_DEBUG = "Code Debug"
    COMMON_SENSE = "Common-Sense"
    COUNTERFACTUAL = "Counterfactual"
    MULTILINGUAL = "Multilingual"
    ROLEPLAY = "Roleplay"
    BIOLOGY = "Biology"
    TECHNOLOGY = "Technology"
    ETHICS = "Ethics"
    TRUTHFUL_QA = "TruthfulQA"
    SPORT = "Sport"
    LAW = "Law"
    MEDICINE = "Medicine"
    LITERATURE = "Literature"
    ENTERTAINMENT = "Entertainment"
    ART = "Art"
    MUSIC = "Music"
    TOXICITY = "Toxicity"
    ECONOMY = "Economy"
    PHYSICS = "Physics"
    HISTORY = "History"
    CHEMISTRY = "Chemistry"
    PHILOSOPHY = "Philosophy"
    HEALTH = "Health"
    ECOLOGY = "Ecology"
    GRAMMAR = "Grammar"
    PARAPHRASE = "Paraphrase"
    ACADEMIC_WRITING = "Academic Writing"
    OTHERS = "Others"


_STEERED = {
    Task.MATH: 0.167,
    Task.REASONING: 0.167,
    Task.CODE_GENERATION: 0.083,
    Task.CODE_DEBUG: 0.083,
    Task.OTHERS: 0.041,
}

DEFAULT_TARGET: Mapping[Task, float] = {task: _STEERED.get(task, 0.017) for task in Task}
"""The authors' published recipe for a later model family (EasyDistill, DistilQwen2). Relative weights: they are
normalised wherever they are used."""
