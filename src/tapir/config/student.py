"""The student: training, answering, and where its weights come from."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tapir.config.base import Config, Fraction, NonNegative, Text
from tapir.config.endpoints import EndpointConfig


class TrainConfig(Config):
    """How the student is fine-tuned."""

    method: Literal["full", "lora", "qlora"] = "full"
    warmup_epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over D for S_0 (tunable)."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over a round's mixture."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows per optimiser step, over all devices and accumulation steps."""
    batch_tokens: Annotated[int, Field(ge=8)] | None = None
    """Instead of batch_size: tokens per optimiser step, padding included; rows of like length share a step."""
    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Rows per device and forward pass; None: the whole batch at once."""
    max_length: Annotated[int, Field(ge=8)] = 2048
    """Tokens after which a row is cut."""
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    min_lr_fraction: Fraction = 0.1
    """The learning rate at the end of a round, as a share of its peak (cosine only)."""
    weight_decay: NonNegative = 0.0
    adam_beta1: Annotated[float, Field(gt=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 where the GPU has it, fp16 on older GPUs, fp32 on CPU."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """`auto`: eager for short rows on CPU, where it is faster, else what the model chooses."""
    packing: bool = False
    gradient_checkpointing: bool = False
    checkpoint_steps: Annotated[int, Field(ge=1)] = 200
    """Optimiser steps between checkpoints inside a stage."""
    lora_rank: Annotated[int, Field(ge=1)] = 16
    lora_alpha: Annotated[int, Field(ge=1)] = 32
    lora_dropout: Fraction = 0.05
    lora_target: str | tuple[str, ...] = "all-linear"
    adapters: Literal["merge", "keep"] = "merge"
    """Whether a round's LoRA adapter is merged into its student or kept beside the base model."""
    accelerate_config: Path | None = None
    """A file of `accelerate config`; training then runs through `accelerate launch`."""
    processes: Annotated[int, Field(ge=1)] = 1
    """Processes of the training stage; more than one runs it through `accelerate launch`."""
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()


class GenerationConfig(Config):
    """How the student answers."""

    max_new_tokens: Annotated[int, Field(ge=1)] = 512
    temperature: NonNegative = 0.0
    """0: greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Rows at a time; halved when memory runs out."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 where the device computes in it, else fp32."""


class VllmConfig(Config):
    """A generation server that tapir starts and stops."""

    command: tuple[str, ...] = ("vllm", "serve", "{model}", "--port", "{port}")
    """Placeholders: {model} the student's directory (the base model's, for a kept adapter), {port} a free port."""
    adapter_arguments: tuple[str, ...] = (
        "--enable-lora",
        "--max-lora-rank",
        "{rank}",
        "--lora-modules",
        "{name}={adapter}",
    )
    """Added for a student that is an adapter: {adapter} its directory, {name} the name it is asked by, {rank}."""
    start_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    environment: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it


class ScratchConfig(Config):
    """The shape of a student made from nothing: an untrained Llama, its tokenizer trained on the corpus."""

    vocab_size: Annotated[int, Field(ge=261)] = 4096
    hidden_size: Annotated[int, Field(ge=8)] = 192
    layers: Annotated[int, Field(ge=1)] = 6
    heads: Annotated[int, Field(ge=1)] = 6
    context: Annotated[int, Field(ge=16)] = 512


class StudentConfig(Config):
    """The small model."""

    model: Text
    """A directory or hub id of a causal LM, `world`, or `scratch` for a small untrained one to try the loop with."""
    scratch: ScratchConfig = ScratchConfig()
    """The shape of `model: scratch`."""
    engine: Literal["transformers", "endpoint", "vllm"] = "transformers"
    endpoint: EndpointConfig | None = None
    """Where engine `endpoint` sends its questions."""
    vllm: VllmConfig = VllmConfig()
    device: str | None = None
    """A torch device; None: cuda, mps or cpu, the first there is."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of torch; None: torch's own choice."""
    trust_remote_code: bool = False
    train: TrainConfig = TrainConfig()
    generation: GenerationConfig = GenerationConfig()

    @model_validator(mode="after")
    def _endpoint_is_given(self) -> Self:
        if self.engine == "endpoint" and self.endpoint is None:
            raise ValueError("engine `endpoint` needs student.endpoint with base_url and model")
        return self
