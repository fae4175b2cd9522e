"""Decoding in slots: a preallocated cache whose rows are given to the next prompt as soon as they are free."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from transformers import AttentionInterface, Cache, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

SLOT_MODELS = frozenset({"llama", "qwen2", "qwen3", "mistral", "phi3", "granite", "smollm3", "olmo2"})
"""Architectures with one full-attention cache per layer."""

REFILL_SHARE = 8
"""Slots are refilled once one in so many is free: each refill is a forward pass of its own."""

CAPACITY_STEP = 32
"""Slots grow and shrink by so many tokens."""


@dataclass(frozen=True)
class Prompt:
    """One row to answer."""

    ids: Sequence[int]
    max_new_tokens: int
    seed: int
    """Seed of this row's own random numbers: a sampled answer does not depend on its neighbours."""


@dataclass(frozen=True)
class Decoding:
    """How tokens are drawn and when a row ends."""

    stop_ids: tuple[int, ...]
    pad_id: int
    temperature: float
    top_p: float


@dataclass
class Completion:
    """The tokens generated for one prompt, the stop token included where one came."""

    ids: list[int] = field(default_factory=list)
    is_stopped: bool = False


def takes_slots(model: Any) -> bool:
    """Whether `decode_in_slots` serves this model: full attention in every layer, plain rotary positions."""
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return (
        config.model_type in SLOT_MODELS
        and kinds == {"full_attention"}
        and not getattr(config, "sliding_window", None)
        and rope in ("default", "linear", "llama3")
    )


def decode_in_slots(
    model: Any, prompts: Sequence[Prompt], decoding: Decoding, slots: int, tick: Callable[[int], bool]
) -> list[Completion] | None:
    """Continue every prompt, `slots` at a time; None where `tick`, told how many rows are done, says to stop.

    A row's place in its slot is its place in its text: rows of any length share a step without padding, and the
    answers are those of `generate` (up to rounding that depends on the shape of a batch).
    """
    usual = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    try:
        with torch.inference_mode():
            board = _Board(model, prompts, decoding, min(slots, len(prompts)))
            while board.is_busy:
                if tick(board.finished):
                    return None
                board.refill()
                board.step()
    finally:
        model.set_attn_implementation(usual)
    return board.done


class _SlotCache(Cache):
    """Keys and values of every slot, as long as the longest row needs; `update` writes one token a row.

    Each layer's keys are one contiguous block, grown and shrunk in steps: a batched product over a part of a larger
    block runs several times slower on CPU. Zeros fill what is not written yet, because what is masked is still
    multiplied by 0, and 0 * NaN is NaN.
    """

    def __init__(self, config: Any, slots: int, dtype: torch.dtype, device: torch.device) -> None:
        heads = config.num_key_value_heads or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.layers = []
        self.keys = [torch.zeros(slots, heads, 0, size, dtype=dtype, device=device) for _ in range(_depth(config))]
        self.values = [torch.zeros_like(block) for block in self.keys]
        self.rows = torch.arange(slots, device=device)
        self.positions = torch.zeros(slots, dtype=torch.long, device=device)

    @property
    def capacity(self) -> int:
        """Tokens that fit into a slot now."""
        return self.keys[0].shape[2]

    def get_seq_length(self, *_: Any) -> int:
        """Tokens that fit into a slot now: what the model's masks would have to cover."""
        return self.capacity

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the token that each row is at; the keys and values of all slots."""
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys[self.rows, :, self.positions] = key_states.squeeze(2).to(keys.dtype)
        values[self.rows, :, self.positions] = value_states.squeeze(2).to(values.dtype)
        return keys, values

    def fit(self, length: int) -> None:
        """Make every slot hold at least `length` tokens, and not many more."""
        wanted = -(-length // CAPACITY_STEP) * CAPACITY_STEP
        if wanted != self.capacity:
            self._remake(lambda block: _resized(block, wanted))

    def place(self, filled: DynamicCache, slots: torch.Tensor) -> None:
        """Copy the cache of a forward pass over new prompts into their slots."""
        for layer, part in enumerate(cast("list[Any]", filled.layers)):
            length = part.keys.shape[2]
            self.keys[layer][slots, :, :length] = part.keys.to(self.keys[layer].dtype)
            self.values[layer][slots, :, :length] = part.values.to(self.values[layer].dtype)

    def keep(self, slots: torch.Tensor) -> None:
        """Forget every slot but these, which move together."""
        self._remake(lambda block: block[slots])
        self.rows = self.rows[: len(slots)]

    def _remake(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Apply `change` to every block, one at a time: the old one is free before the next is made."""
        for blocks in (self.keys, self.values):
            for layer, block in enumerate(blocks):
                blocks[layer] = change(block)


def _depth(config: Any) -> int:
    """The number of layers."""
    return int(config.num_hidden_layers)


def _resized(block: torch.Tensor, capacity: int) -> torch.Tensor:
    """`block` with room for `capacity` tokens a slot."""
    slots, heads, held, size = block.shape
    made = block.new_zeros(slots, heads, capacity, size)
    kept = min(held, capacity)
    made[:, :, :kept] = block[:, :, :kept]
    return made


def _attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, **settings: Any
) -> tuple[torch.Tensor, None]:
    """Attention of one token a row over its slot, in fp32 on CPU; of whole prompts by transformers' own function.

    torch's fused kernel is made for long queries: with one token a row it takes several times as long on CPU.
    """
    if query.shape[2] > 1 or query.device.type != "cpu" or mask is None:
        return sdpa_attention_forward(module, query, key, value, mask, **settings)
    rows, heads, _, size = query.shape
    shared = key.shape[1]
    scaled = query.to(key.dtype) * (settings.get("scaling") or size**-0.5)
    scores = scaled.view(rows, shared, heads // shared, size) @ key.transpose(2, 3)
    weights = scores.masked_fill_(~mask, float("-inf")).softmax(dim=-1)
    return (weights @ value).to(query.dtype).view(rows, 1, heads, size), None


ATTENTION = "tapir_slots"
AttentionInterface.register(ATTENTION, _attention)


class _Board:
    """Which prompt sits in which slot, and where in its text it is."""

    def __init__(self, model: Any, prompts: Sequence[Prompt], decoding: Decoding, slots: int) -> None:
        self.model, self.prompts, self.decoding = model, prompts, decoding
        self.stop_ids = frozenset(decoding.stop_ids)
        self.done = [Completion() for _ in prompts]
        self.queue = deque(range(len(prompts)))
        dtype = torch.float32 if model.device.type == "cpu" else model.dtype
        self.cache = _SlotCache(model.config, slots, dtype, model.device)
        self.row_of: list[int | None] = [None] * slots
        self.last = np.full(slots, decoding.pad_id)
        self.position = np.zeros(slots, dtype=np.int64)
        self.uniform: list[np.ndarray[Any, Any]] = [np.zeros(0)] * slots

    @property
    def finished(self) -> int:
        """How many rows are done."""
        return len(self.prompts) - len(self.queue) - sum(row is not None for row in self.row_of)

    @property
    def is_busy(self) -> bool:
        """Whether any row is still to be finished."""
        return bool(self.queue) or any(row is not None for row in self.row_of)

    def refill(self) -> None:
        """Give free slots to the next prompts, or, where none is left, close ranks around the rows still running."""
        free = [slot for slot, row in enumerate(self.row_of) if row is None]
        if self.queue:
            if len(free) * REFILL_SHARE >= len(self.row_of):
                self._start(free[: len(self.queue)])
        elif len(free) * 4 >= len(self.row_of):
            self._close_ranks([slot for slot, row in enumerate(self.row_of) if row is not None])

    def step(self) -> None:
        """Generate one token in every slot."""
        device = self.model.device
        cache = self.cache
        position = torch.from_numpy(self.position).to(device)
        cache.positions = position
        cache.fit(int(self.position.max()) + 1)
        mask = torch.arange(cache.capacity, device=device) <= position[:, None]
        logits = self.model(
            input_ids=torch.from_numpy(self.last).to(device)[:, None],
            attention_mask=mask[:, None, None, :],
            position_ids=position[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        for slot, token in enumerate(self._draw(logits).tolist()):
            row = self.row_of[slot]
            if row is None:
                continue
            completion = self.done[row]
            completion.ids.append(token)
            completion.is_stopped = token in self.stop_ids
            if completion.is_stopped or len(completion.ids) == self.prompts[row].max_new_tokens:
                self.row_of[slot] = None
                self.last[slot], self.position[slot] = self.decoding.pad_id, 0
            else:
                self.last[slot] = token
                self.position[slot] += 1

    def _start(self, slots: list[int]) -> None:
        """Read the next prompts, all but their last token: that is the first one a step takes."""
        rows = [self.queue.popleft() for _ in slots]
        width = max(len(self.prompts[row].ids) for row in rows) - 1
        ids = np.full((len(rows), width), self.decoding.pad_id)
        for i, (slot, row) in enumerate(zip(slots, rows, strict=True)):
            prompt = self.prompts[row]
            ids[i, : len(prompt.ids) - 1] = prompt.ids[:-1]
            self.row_of[slot] = row
            self.last[slot] = prompt.ids[-1]
            self.position[slot] = len(prompt.ids) - 1
            if self.decoding.temperature > 0:
                self.uniform[slot] = np.random.default_rng(prompt.seed).random(prompt.max_new_tokens)
        if width:
            filled = DynamicCache(config=self.model.config)
            device = self.model.device
            self.model(
                input_ids=torch.from_numpy(ids).to(device), past_key_values=filled, use_cache=True, logits_to_keep=1
            )
            self.cache.fit(int(self.position.max()) + 1)
            self.cache.place(filled, torch.tensor(slots, device=device))

    def _close_ranks(self, running: list[int]) -> None:
        """Drop the free slots."""
        self.cache.keep(torch.tensor(running, device=self.model.device))
        self.row_of = [self.row_of[slot] for slot in running]
        self.uniform = [self.uniform[slot] for slot in running]
        self.last, self.position = self.last[running], self.position[running]

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        """The next token of every slot: the likeliest, or one drawn with the row's own random number."""
        if self.decoding.temperature == 0:
            return logits.argmax(dim=-1)
        numbers = [
            self.uniform[slot][len(self.done[row].ids)] if row is not None else 0.0
            for slot, row in enumerate(self.row_of)
        ]
        uniform = torch.tensor(numbers, dtype=torch.float32, device=logits.device)
        shares, tokens = (logits.float() / self.decoding.temperature).softmax(dim=-1).sort(dim=-1, descending=True)
        total = shares.cumsum(dim=-1)
        # The nucleus: every token before which less than top_p is taken; never empty.
        inside = total - shares < self.decoding.top_p
        nucleus = (shares * inside).sum(dim=-1)
        drawn = torch.searchsorted(total, (uniform * nucleus)[:, None], right=True)
        last = inside.sum(dim=-1, keepdim=True) - 1
        return tokens.gather(-1, torch.minimum(drawn, last)).squeeze(-1)
