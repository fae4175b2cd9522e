"""Teacher, judge and classifier: each a choice of kinds."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tapir.config.base import Config, Fraction
from tapir.config.endpoints import EndpointConfig, SamplingConfig


class WorldRoleConfig(Config):
    """The embedded world's own programmatic teacher, judge or classifier."""

    kind: Literal["world"]


class PoolTeacherConfig(Config):
    """A second, larger instruction set stands in for the teacher."""

    kind: Literal["pool"]
    path: str
    """A file, a directory or `hub:owner/name`, read like the corpus."""
    neighbours: Annotated[int, Field(ge=1)] = 10
    """Nearest pool rows of a seed's task among which one is drawn."""
    encoder: Literal["auto", "none"] | str = "none"
    """Compare meanings too: `auto` is MiniLM where installed, else a directory or hub id. Embeds the pool once."""


class EndpointTeacherConfig(Config):
    """A chat model writes instructions and responses."""

    kind: Literal["endpoint"]
    endpoint: EndpointConfig
    expand_sampling: SamplingConfig = SamplingConfig(temperature=1.0, max_tokens=4096)


class ReferenceJudgeConfig(Config):
    """Scores a response by its similarity to the reference: no model, no key."""

    kind: Literal["reference"]
    encoder: str | None = None
    """A sentence-encoder directory, hub id or `minilm` (extra `embed`); None: character n-grams alone."""


class EndpointJudgeConfig(Config):
    """A chat model scores both responses in one call."""

    kind: Literal["endpoint"]
    endpoint: EndpointConfig
    swap: bool = False
    """Ask twice with the order swapped and average (doubles the calls)."""
    mode: Literal["pair", "single"] = "pair"
    """`single`: each response in a call of its own."""
    max_asks: Annotated[int, Field(ge=1)] = 3
    """Times in all that a verdict is asked for before its row is refused as unreadable."""

    @model_validator(mode="after")
    def _swap_needs_a_pair(self) -> Self:
        if self.swap and self.mode == "single":
            raise ValueError("swap changes the order of two responses, and mode single shows one; set one of them")
        return self


class LocalClassifierConfig(Config):
    """Linear heads over character and word n-grams, with sentence embeddings where the extra `embed` is installed."""

    kind: Literal["local"] = "local"
    encoder: Literal["auto", "none"] | str = "auto"
    """`auto`: MiniLM where installed; `none`: n-grams alone; else a sentence-encoder directory or hub id."""
    head: str | None = None
    """A directory of heads trained with `tapir tag --train`; None: the shipped ones."""


class EncoderClassifierConfig(Config):
    """A sequence-classification encoder fine-tuned on labelled rows (the paper's DeBERTa-v3)."""

    kind: Literal["deberta"]
    model: str
    """A directory made by `tapir tag --train --model`, or a hub id whose labels are task types."""
    batch_size: Annotated[int, Field(ge=1)] = 32


class OracleClassifierConfig(Config):
    """A chat model labels every instruction."""

    kind: Literal["oracle"]
    endpoint: EndpointConfig
    max_asks: Annotated[int, Field(ge=1)] = 3


class CascadeClassifierConfig(Config):
    """The local classifier first; the chat model where its margin is small."""

    kind: Literal["cascade"]
    endpoint: EndpointConfig
    margin: Fraction = 0.2
    local: LocalClassifierConfig = LocalClassifierConfig()
    max_asks: Annotated[int, Field(ge=1)] = 3


TeacherConfig = Annotated[WorldRoleConfig | PoolTeacherConfig | EndpointTeacherConfig, Field(discriminator="kind")]

JudgeConfig = Annotated[WorldRoleConfig | ReferenceJudgeConfig | EndpointJudgeConfig, Field(discriminator="kind")]

ClassifierConfig = Annotated[
    WorldRoleConfig
    | LocalClassifierConfig
    | EncoderClassifierConfig
    | OracleClassifierConfig
    | CascadeClassifierConfig,
    Field(discriminator="kind"),
]
