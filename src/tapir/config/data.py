"""The corpus, and what is measured on and kept out of training."""

from typing import Annotated

from pydantic import Field, field_validator

from tapir.config.base import Config, Text


class NearDuplicateConfig(Config):
    """When two instructions count as the same."""

    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Estimated Jaccard similarity (word 3-shingles) from which the later row is dropped; 1: exact copies only."""


class CorpusConfig(Config):
    """The raw instruction set D."""

    path: Text
    """A file, a directory, `hub:owner/name`, or `world` for the embedded world's own."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only this many accepted rows, drawn with the run's seed."""
    split: str = "train"
    """The split of a hub data set."""
    license: str | None = None
    near_duplicates: NearDuplicateConfig | None = NearDuplicateConfig()
    """None keeps near-duplicates; exact repeats of an instruction are always refused."""
    max_chars: Annotated[int, Field(ge=1)] = 100_000
    """Longest accepted row."""


class EvaluationSetConfig(Config):
    """A held-out file, answered by the student and scored by the run's judge."""

    name: Text
    path: Text
    """A file read like the corpus, or `world`."""
    limit: Annotated[int, Field(ge=1)] | None = None


class EvaluationConfig(Config):
    """What every student is measured on, and kept out of the training data."""

    sets: tuple[EvaluationSetConfig, ...] = ()
    held_out: Annotated[int, Field(ge=0)] = 0
    """Rows of the corpus set aside, never trained on, as one more evaluation set."""
    every_round: bool = True
    """Measure the student after every round, or only after the last one (rivals are measured only at the end)."""
    contamination_ngram: Annotated[int, Field(ge=2)] = 13
    """Words in a row shared with an evaluation item that make a training row contaminated."""
    refuse_contaminated: bool = True

    @field_validator("sets")
    @classmethod
    def _has_one_of_a_name(cls, value: tuple[EvaluationSetConfig, ...]) -> tuple[EvaluationSetConfig, ...]:
        names = [one.name for one in value]
        if len(set(names)) != len(names):
            raise ValueError(f"two sets have the same name in {names}; rename one")
        return value
