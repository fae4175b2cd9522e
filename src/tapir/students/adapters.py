"""LoRA adapters: made, gone on with, kept beside their base model, or merged into it."""

import json
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tapir.config import TrainConfig
from tapir.errors import StudentError
from tapir.students.jobs import Job
from tapir.students.models import context_length, load_config, load_model, save_model, settle_generation, stored_dtype
from tapir.students.tokens import ChatTokenizer

ADAPTER_CONFIG = "adapter_config.json"

SHORT_ROWS = 128
"""Longest rows, in tokens, that eager attention trains at least as fast on CPU as fused kernels; beyond, its memory
grows with the square of the length."""


def is_adapter(source: str | Path) -> bool:
    """Whether `source` is a directory that holds an adapter and not a whole model."""
    return (Path(source) / ADAPTER_CONFIG).is_file()


def base_of(source: str | Path) -> str:
    """The model that an adapter's directory belongs to; `source` itself where it is a whole model."""
    if not is_adapter(source):
        return str(source)
    settings = json.loads((Path(source) / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    return str(settings["base_model_name_or_path"])


def load_for_training(job: Job, chat: ChatTokenizer, dtype: Any, longest: int) -> Any:
    """The model that `job` starts from: whole, quantised for QLoRA, or with the adapter that it goes on training.

    `longest` is the tokens of the longest row.

    Raises:
        StudentError: it cannot be loaded, or QLoRA is asked for where it cannot work.
    """
    if job.config.method != "full":
        # peft 0.21 asks transformers 5.23 under the old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    settings = {**_attention(job, longest), **(_four_bit(dtype) if job.config.method == "qlora" else {})}
    model = load_model(base_of(job.model), dtype=dtype, trust_remote_code=job.trust_remote_code, **settings)
    settle_generation(model, chat)
    if is_adapter(job.model):
        from peft import PeftModel

        return PeftModel.from_pretrained(model, job.model, is_trainable=True)
    return model


def _attention(job: Job, longest: int) -> dict[str, Any]:
    """Which attention to train with, where that is not left to the model."""
    wanted = job.config.attention
    if wanted == "auto" and job.device == "cpu" and longest <= SHORT_ROWS:
        wanted = "eager"
    return {} if wanted == "auto" else {"attn_implementation": wanted}


def _four_bit(dtype: Any) -> dict[str, Any]:
    """Loading settings of QLoRA: 4-bit NormalFloat weights, computed with in `dtype`."""
    import torch
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise StudentError(
            "student.train.method qlora needs the package bitsandbytes and a CUDA GPU; "
            "use method lora here, or install bitsandbytes on a machine with a GPU"
        )
    quantised = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": quantised}


def context_of(source: str | Path, trust_remote_code: bool) -> int | None:
    """Tokens that fit into a student's context; None where its configuration does not say.

    Raises:
        StudentError: it is not there or of an unknown architecture.
    """
    return context_length(load_config(base_of(source), trust_remote_code=trust_remote_code))


def lora_settings(config: TrainConfig) -> Any:
    """A new adapter's configuration."""
    from peft import LoraConfig

    targets = config.lora_target
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )


def save_adapter(model: Any, state: dict[str, Any], chat: ChatTokenizer, directory: Path) -> None:
    """Write the adapter with the tokenizer and the stop tokens that it was trained with."""
    model.save_pretrained(directory, state_dict=state)
    (directory / "README.md").unlink(missing_ok=True)
    chat.save(directory)
    model.generation_config.save_pretrained(directory)


def save_merged(model: Any, state: dict[str, Any], chat: ChatTokenizer, directory: Path, trust: bool) -> None:
    """Write the base model with the adapter added to its weights.

    The base is read again in full precision: what was trained on may be quantised or sharded.
    """
    import torch
    from peft import PeftModel

    adapter = directory.with_suffix(".adapter")
    save_adapter(model, state, chat, adapter)
    base = base_of(adapter)
    whole = PeftModel.from_pretrained(
        load_model(base, dtype=torch.float32, trust_remote_code=trust), adapter
    ).merge_and_unload()
    save_model(whole, whole.state_dict(), chat, directory, stored_dtype(base, trust_remote_code=trust))
    shutil.rmtree(adapter)
