"""Models on disk: loading any causal LM, saving a finished student."""

import json
from pathlib import Path
from typing import Any

from tapir.errors import StudentError
from tapir.students.tokens import ChatTokenizer, first_line

_LOADING_ERRORS = (OSError, ValueError, ImportError, KeyError, RuntimeError)


def load_model(source: str | Path, *, dtype: Any, trust_remote_code: bool = False, **settings: Any) -> Any:
    """The causal LM in a directory or on the hub, its weights in `dtype`; safetensors only.

    Raises:
        StudentError: it is not there, not a causal LM, or not in safetensors.
    """
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, trust_remote_code=trust_remote_code, use_safetensors=True, **settings
        )
    except _LOADING_ERRORS as error:
        raise _not_loadable(source, error) from error


def load_config(source: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The configuration of a model.

    Raises:
        StudentError: it is not there or of an unknown architecture.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except _LOADING_ERRORS as error:
        raise _not_loadable(source, error) from error


def stored_dtype(source: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The number format that a model's weights are stored in; fp32 where its configuration does not say."""
    import torch

    return load_config(source, trust_remote_code=trust_remote_code).dtype or torch.float32


def context_length(config: Any) -> int | None:
    """Tokens that fit into the model's context; None where its configuration does not say."""
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else None


def save_model(model: Any, state: dict[str, Any], chat: ChatTokenizer, directory: Path, dtype: Any) -> None:
    """Write weights (as `dtype`), tokenizer, configuration and stop tokens to `directory`."""
    settle_generation(model, chat)
    model.save_pretrained(directory, state_dict=_cast(state, dtype))
    chat.save(directory)
    path = directory / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def settle_generation(model: Any, chat: ChatTokenizer) -> None:
    """Write the stop and padding tokens into a model's generation configuration, and make it one that can be saved.

    Some published models name a temperature and do not say that they sample: transformers reads that and will not
    write it.
    """
    from transformers import GenerationConfig

    config = model.generation_config
    config.eos_token_id = list(chat.stop_ids(config))
    config.pad_token_id = chat.tokenizer.pad_token_id
    for do_sample in (config.do_sample, True):
        config.do_sample = do_sample
        try:
            config.validate(strict=True)
        except ValueError:
            continue
        return
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )


def _cast(state: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """The weights as `dtype`; tied weights stay one tensor."""
    made: dict[tuple[int, tuple[int, ...]], Any] = {}
    cast = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            cast[name] = tensor
            continue
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if key not in made:
            made[key] = tensor.detach().to(dtype)
        cast[name] = made[key]
    return cast


def _not_loadable(source: str | Path, error: BaseException) -> StudentError:
    """One clear line for the many ways in which a model cannot be loaded."""
    place = "directory" if Path(source).is_dir() else "hub id (no such directory here)"
    return StudentError(
        f"student.model {str(source)!r}: cannot be loaded as a causal LM from this {place}: {first_line(error)}; "
        "give a directory with config.json and *.safetensors, or a hub id while online"
    )
