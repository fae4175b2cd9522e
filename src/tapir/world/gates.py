"""What a base must be able to do before it is shipped, measured on a development draw of its own seed."""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from tapir.world.families import DIFFICULTIES, FAMILIES, Item, generate
from tapir.world.judging import is_correct

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

REVERSE_GATE = ("text", 3)
"""Reversing a word of four letters."""
REASON_GATE = ("reason", 2)
"""Worked reasoning of two steps."""
PASS = 0.9
HINT_TOKENS = 3
"""Tokens of the worked answer that are given, so that the base works instead of answering at once."""


def worked_accuracy(model: Any, seed: int, per_cell: int) -> dict[str, list[float]]:
    """The share of right answers by family, one value a difficulty, when the base is led into working them out."""
    from tapir.world.student import tokenizer

    rng = Random(f"gates/{seed}")
    items = [generate(rng, family, level) for family in FAMILIES for level in DIFFICULTIES for _ in range(per_cell)]
    right = [is_correct(item, text) for item, text in zip(items, _complete(model, tokenizer(), items), strict=True)]
    cells = [round(sum(right[i : i + per_cell]) / per_cell, 3) for i in range(0, len(right), per_cell)]
    return {family: cells[5 * i : 5 * i + 5] for i, family in enumerate(FAMILIES)}


def gate_accuracy(model: Any, seed: int, count: int = 200) -> dict[str, float]:
    """The two accuracies that a base is held to."""
    from tapir.world.student import tokenizer

    accuracy = {}
    for name, (family, level) in (("reverse 4 letters", REVERSE_GATE), ("worked two-step reasoning", REASON_GATE)):
        rng = Random(f"gate/{name}/{seed}")
        items = [generate(rng, family, level) for _ in range(count)]
        texts = _complete(model, tokenizer(), items)
        accuracy[name] = sum(map(is_correct, items, texts)) / count
    return accuracy


def _complete(model: Any, tokenizer: "PreTrainedTokenizerFast", items: Sequence[Item], batch: int = 128) -> list[str]:
    """The base's continuation of each item's instruction, greedy, the given start of a worked answer included."""
    import torch

    hints = [tokenizer.encode(item.refined)[: HINT_TOKENS if item.refined != item.direct else 0] for item in items]
    prompts = [tokenizer.encode(f"{item.instruction}\n") for item in items]
    rows = [[tokenizer.bos_token_id, *prompt, *hint] for prompt, hint in zip(prompts, hints, strict=True)]
    texts = [""] * len(items)
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), len(items[i].refined)))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        padded = tokenizer.pad({"input_ids": [rows[i] for i in chosen]}, return_tensors="pt")
        wanted = max(len(tokenizer.encode(items[i].refined)) for i in chosen)
        with torch.inference_mode():
            out = model.generate(
                **padded,
                max_new_tokens=wanted + 8,
                do_sample=False,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        new = out[:, padded["input_ids"].shape[1] :].tolist()
        for i, ids in zip(chosen, new, strict=True):
            texts[i] = str(tokenizer.decode([*hints[i], *ids], skip_special_tokens=True))
    return texts
