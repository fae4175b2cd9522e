"""Which rows make which training step: a pure function of lengths and seed, so that a resumed stage sees the same."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

Slice = tuple[int, ...]
"""Rows of one forward pass on one device; empty where a step has fewer rows than slices."""
Step = tuple[Slice, ...]
"""The slices of one optimiser step, in the order in which devices and accumulation steps take them."""

POOL_BATCHES = 50
POOL_ROWS = 4096


def plan_steps(
    lengths: Sequence[int],
    *,
    epochs: float,
    rows: int,
    tokens: int | None = None,
    micro: int | None = None,
    devices: int = 1,
    seed: int,
) -> list[Step]:
    """Every optimiser step of a stage.

    Each epoch is shuffled; pools of many batches are sorted by length, cut into batches, and the batches shuffled:
    rows of one batch are of like length, so little is padded. A batch holds `rows` rows, or, where `tokens` is given,
    as many as fit into `tokens` once padded (at least one). It is dealt in slices of at most `micro` rows, the same
    number of slices at every step, a multiple of `devices`. A fraction of an epoch takes that share of its rows.
    """
    batches = [
        batch
        for epoch, size in _epochs(len(lengths), epochs)
        for batch in _epoch(lengths, size, rows, tokens, np.random.default_rng([seed, epoch]))
    ]
    largest = max(map(len, batches), default=1)
    slices = devices * max(1, math.ceil(largest / (devices * (micro or largest))))
    return [_deal(batch, slices) for batch in batches]


def _epochs(rows: int, epochs: float) -> Iterator[tuple[int, int]]:
    """Each epoch's number and how many rows it takes."""
    whole = math.floor(epochs)
    yield from ((epoch, rows) for epoch in range(whole))
    rest = round((epochs - whole) * rows)
    if rest:
        yield whole, rest


def _epoch(
    lengths: Sequence[int], size: int, rows: int, tokens: int | None, rng: np.random.Generator
) -> list[list[int]]:
    """The batches of one epoch over `size` of the rows."""
    order = rng.permutation(len(lengths))[:size].tolist()
    pool = max(POOL_ROWS, POOL_BATCHES * rows)
    batches = []
    for start in range(0, len(order), pool):
        ranked = sorted(order[start : start + pool], key=lambda row: lengths[row])
        batches += _by_tokens(ranked, lengths, tokens) if tokens else _by_rows(ranked, rows)
    return [batches[i] for i in rng.permutation(len(batches))]


def _by_rows(ranked: list[int], rows: int) -> list[list[int]]:
    return [ranked[i : i + rows] for i in range(0, len(ranked), rows)]


def _by_tokens(ranked: list[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Batches of rising length whose padded size stays within `tokens`."""
    batches: list[list[int]] = [[]]
    for row in ranked:
        if batches[-1] and lengths[row] * (len(batches[-1]) + 1) > tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def _deal(batch: list[int], slices: int) -> Step:
    """`batch` in `slices` consecutive parts whose sizes differ by at most one."""
    bounds = [len(batch) * i // slices for i in range(slices + 1)]
    return tuple(tuple(batch[low:high]) for low, high in pairwise(bounds))
