"""Rows kept away from training: a held-out part of the corpus, and rows that repeat an evaluation item."""

import random
from collections.abc import Sequence

from tapir.config import EvaluationConfig
from tapir.contamination import EvaluationIndex
from tapir.rows import Example, Refused


def hold_out(corpus: Sequence[Example], count: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Split off `count` random rows for evaluation, at most half of the corpus; both parts keep its order."""
    held = set(random.Random(f"held-out:{seed}").sample(range(len(corpus)), min(count, len(corpus) // 2)))
    kept = [row for index, row in enumerate(corpus) if index not in held]
    return kept, [corpus[index] for index in sorted(held)]


def decontaminate(
    corpus: Sequence[Example], items: Sequence[str], cfg: EvaluationConfig
) -> tuple[list[Example], list[Refused]]:
    """Corpus rows that share no long run of words with an evaluation item, and refusals for the others."""
    if not items or not cfg.refuse_contaminated:
        return list(corpus), []
    index = EvaluationIndex(items, cfg.contamination_ngram)
    kept: list[Example] = []
    refused: list[Refused] = []
    for row in corpus:
        refusal = index.refusal(row)
        if refusal is None:
            kept.append(row)
        else:
            refused.append(refusal)
    return kept, refused
