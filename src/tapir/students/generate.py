"""Answering on this machine: in slots where the architecture allows it, else with transformers' `generate`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from tapir.errors import StudentError
from tapir.students.devices import release_memory
from tapir.students.slots import Completion, Decoding, Prompt, decode_in_slots, takes_slots


def complete(
    model: Any, prompts: Sequence[Prompt], decoding: Decoding, rows: int, tick: Callable[[int], bool]
) -> list[Completion] | None:
    """Continue every prompt, at most `rows` at a time, halved whenever memory runs out.

    None where `tick`, told how many rows are done, says to stop.

    Raises:
        StudentError: a single row does not fit into memory.
    """
    decode = decode_in_slots if takes_slots(model) else decode_in_batches
    while True:
        try:
            return decode(model, prompts, decoding, rows, tick)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if rows == 1:
                raise StudentError("answering: one row alone runs out of memory; lower max_new_tokens") from error
        rows //= 2
        release_memory()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is one of the ways in which torch says so."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def decode_in_batches(
    model: Any, prompts: Sequence[Prompt], decoding: Decoding, rows: int, tick: Callable[[int], bool]
) -> list[Completion] | None:
    """Continue prompts with `generate`, in left-padded batches; None where `tick` says to stop.

    A sampled answer depends on the batch that its row is in, which the order of `prompts` and `rows` decide.
    """
    done = []
    for start in range(0, len(prompts), rows):
        if tick(start):
            return None
        batch = prompts[start : start + rows]
        width = max(len(prompt.ids) for prompt in batch)
        ids = torch.full((len(batch), width), decoding.pad_id)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(batch):
            ids[i, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
            mask[i, width - len(prompt.ids) :] = 1
        torch.manual_seed(batch[0].seed)
        out = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=_settings(decoding, max(prompt.max_new_tokens for prompt in batch)),
        )
        done += [_cut(tokens, prompt, decoding) for tokens, prompt in zip(out[:, width:].tolist(), batch, strict=True)]
    return done


def _settings(decoding: Decoding, max_new_tokens: int) -> GenerationConfig:
    """Our decoding in transformers' words."""
    drawn = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_new_tokens,
        eos_token_id=list(decoding.stop_ids),
        pad_token_id=decoding.pad_id,
        do_sample=decoding.temperature > 0,
        **(drawn if decoding.temperature > 0 else {}),
    )


def _cut(tokens: list[int], prompt: Prompt, decoding: Decoding) -> Completion:
    """`tokens` up to and including the first stop token, at most the row's own limit."""
    tokens = tokens[: prompt.max_new_tokens]
    for i, token in enumerate(tokens):
        if token in decoding.stop_ids:
            return Completion(tokens[: i + 1], is_stopped=True)
    return Completion(tokens)
