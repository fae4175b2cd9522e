"""The key-less judge: a response is as good as it is like the reference. No model, no key.

Likeness is a character n-gram F-score (as in chrF), averaged with the similarity of sentence embeddings where an
encoder is configured. What the instruction itself says counts little: to repeat "The capital of France is" is no
answer. The scale is calibrated on Alpaca's responses: like unrelated text is 1, like the reference itself is 10.
It cannot see that another wording is as right, nor that one wrong number spoils a derivation.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapir.classifiers.embedding import SentenceEncoder, encoder_named
from tapir.config import ReferenceJudgeConfig
from tapir.roles import Stage
from tapir.rows import Answer, Example, Judged, Refused, excerpt

Floats = NDArray[np.float64]
Keys = NDArray[np.uint64]

ORDERS = (3, 4, 5, 6)
"""Lengths of the character n-grams. Shorter ones are shared by any two English texts."""

SAID_WEIGHT = 0.05
"""Weight of an n-gram that the instruction holds too."""

UNRELATED_MOST, UNRELATED_HALF = 0.18, 200
"""F-score that 95 % of unrelated responses stay below, by the reference's length n: 0.18 n / (n + 200). Fitted to
17,387 Alpaca rows against shuffled responses (0.02 at 25 characters, 0.10 at 265, 0.14 at 700): `python
benchmarks/reference.py` measures it again."""

UNRELATED_COSINE = 0.2
"""Cosine of MiniLM embeddings that 95 % of unrelated responses stay below (same rows)."""

EMBEDDING_MOST, EMBEDDING_HALF = 0.5, 60
"""Weight of the embedding similarity by the reference's length n: 0.5 n / (n + 60). Encoders place any two numbers, or
any two names, close together: for an answer of a word or two the letters decide."""

SHORT, LONG = 0.5, 2.0
"""A response shorter or longer than the reference by more than these factors loses embedding similarity in proportion;
the F-score sees length by itself."""

MAX_CHARS = 8000
BATCH = 1024
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_NEWLINE = 10


class ReferenceJudge:
    """Scores the student's response by its likeness to the reference, whose own score is 10."""

    def __init__(self, config: ReferenceJudgeConfig) -> None:
        self._config = config

    def identity(self, verb: str) -> Mapping[str, Any]:
        """The constants of the scale and the digest of the encoder."""
        encoder = self._encoder
        return {
            "kind": "reference",
            "scale": [*ORDERS, SAID_WEIGHT, UNRELATED_MOST, UNRELATED_HALF, MAX_CHARS],
            "embedding_scale": [UNRELATED_COSINE, EMBEDDING_MOST, EMBEDDING_HALF, SHORT, LONG] if encoder else None,
            "encoder": encoder.identity if encoder else None,
        }

    async def score(
        self, stage: Stage, references: Sequence[Example], answers: AsyncIterable[Answer]
    ) -> AsyncIterator[Judged | Refused]:
        """The answers in the order in which they come; one to an instruction without a reference is refused."""
        by_id = {row.id: row for row in references}
        batch: list[Answer] = []
        async for answer in answers:
            batch.append(answer)
            if len(batch) == BATCH:
                for row in await asyncio.to_thread(self._judge, by_id, batch):
                    yield row
                batch = []
        for row in await asyncio.to_thread(self._judge, by_id, batch):
            yield row

    def _judge(self, by_id: Mapping[str, Example], answers: Sequence[Answer]) -> list[Judged | Refused]:
        usable = [answer for answer in answers if _fault(by_id.get(answer.id)) is None]
        rows = [by_id[answer.id] for answer in usable]
        scores = reference_scores(
            [row.response for row in rows],
            [answer.response for answer in usable],
            [row.instruction for row in rows],
            self._encoder,
        )
        score_of = {answer.id: float(score) for answer, score in zip(usable, scores, strict=True)}
        return [_verdict(by_id.get(answer.id), answer, score_of) for answer in answers]

    @cached_property
    def _encoder(self) -> SentenceEncoder | None:
        return encoder_named(self._config.encoder or "none")


def _fault(reference: Example | None) -> tuple[str, str] | None:
    """Why an answer cannot be scored; None where it can."""
    if reference is None:
        return "no-reference", "there is no reference response to this instruction"
    if not reference.response.strip():
        return "empty-reference", "the reference response is empty"
    return None


def _verdict(reference: Example | None, answer: Answer, score_of: Mapping[str, float]) -> Judged | Refused:
    fault = _fault(reference)
    if reference is None or fault is not None:
        reason, detail = fault or ("", "")
        return Refused(id=answer.id, reason=reason, detail=detail, text=excerpt(answer.response))
    return Judged(
        id=reference.id,
        turns=reference.turns,
        response=reference.response,
        lineage=reference.lineage,
        student_response=answer.response,
        teacher_score=10.0,
        student_score=score_of[answer.id],
    )


def reference_scores(
    references: Sequence[str],
    responses: Sequence[str],
    instructions: Sequence[str],
    encoder: SentenceEncoder | None = None,
) -> Floats:
    """The score of each response, in [1, 10]: 10 for the reference itself, 1 for what is no more like it than
    unrelated text, rising with likeness between.

    The square root spreads the lower half, where responses in other words lie: half of the way from unrelated to
    identical scores 7.4.
    """
    lengths = np.array([len(_normal(text)) for text in references], dtype=np.float64)
    unrelated = UNRELATED_MOST * lengths / (lengths + UNRELATED_HALF)
    likeness = _above(ngram_f_scores(references, responses, instructions), unrelated)
    if encoder is not None:
        weight = EMBEDDING_MOST * lengths / (lengths + EMBEDDING_HALF)
        likeness += weight * (_embedding_likeness(references, responses, encoder) - likeness)
    same = [_normal(a) == _normal(b) for a, b in zip(references, responses, strict=True)]
    found: Floats = 1 + 9 * np.sqrt(np.where(same, 1.0, likeness))
    return found


def _above(similarity: Floats, unrelated: Floats | float) -> Floats:
    """Similarity rescaled: 0 up to what unrelated text reaches, 1 for identity."""
    found: Floats = np.clip((similarity - unrelated) / (1 - unrelated), 0.0, 1.0)
    return found


def _embedding_likeness(references: Sequence[str], responses: Sequence[str], encoder: SentenceEncoder) -> Floats:
    both = encoder.embed([*references, *responses]).astype(np.float64)
    cosine = (both[: len(references)] * both[len(references) :]).sum(axis=1)
    ratio = np.array([(1 + len(b)) / (1 + len(a)) for a, b in zip(references, responses, strict=True)])
    fits: Floats = np.minimum(1.0, np.minimum(ratio / SHORT, LONG / ratio))
    return _above(cosine, UNRELATED_COSINE) * fits


def ngram_f_scores(references: Sequence[str], responses: Sequence[str], instructions: Sequence[str]) -> Floats:
    """The mean over `ORDERS` of the F1-score of character n-grams, in [0, 1]; 0 for an empty response."""
    cells = len(references) * len(ORDERS)
    of_reference, in_reference = _grams(references)
    of_response, in_response = _grams(responses)
    said, _ = _grams(instructions)
    reference_weight = np.where(np.isin(of_reference, said, assume_unique=True), SAID_WEIGHT, 1.0)
    response_weight = np.where(np.isin(of_response, said, assume_unique=True), SAID_WEIGHT, 1.0)
    _, here, there = np.intersect1d(of_response, of_reference, assume_unique=True, return_indices=True)
    shared = np.minimum(in_response[here], in_reference[there]) * response_weight[here]
    matched = _per_cell(of_response[here], shared, cells)
    total = _per_cell(of_reference, in_reference * reference_weight, cells)
    total += _per_cell(of_response, in_response * response_weight, cells)
    f_scores = np.divide(2 * matched, total, out=np.zeros(cells), where=total > 0).reshape(-1, len(ORDERS))
    orders = np.count_nonzero(total.reshape(-1, len(ORDERS)), axis=1)
    found: Floats = f_scores.sum(axis=1) / np.maximum(orders, 1)
    return found


def _per_cell(keys: Keys, weights: NDArray[Any], cells: int) -> Floats:
    return np.bincount((keys >> np.uint64(40)).astype(np.int64), weights, minlength=cells).astype(np.float64)


def _grams(texts: Sequence[str]) -> tuple[Keys, NDArray[np.int64]]:
    """The n-grams of all texts and how often each stands in its text.

    A key holds text and order in its upper 24 bits (the cell), a hash of the n-gram in the lower 40.
    """
    joined = "".join(f"\n {_normal(text)} " for text in texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    is_start = points == _NEWLINE
    text_of = np.cumsum(is_start) - 1
    rolled, is_inside = points * _MULTIPLIER, ~is_start
    keys: list[Keys] = [np.zeros(0, dtype=np.uint64)]
    for size in range(2, ORDERS[-1] + 1):
        if len(rolled) < 2:
            break
        rolled = (rolled[:-1] + points[size - 1 :]) * _MULTIPLIER
        is_inside = is_inside[:-1] & ~is_start[size - 1 :]
        if size in ORDERS:
            cell = text_of[: len(is_inside)][is_inside] * len(ORDERS) + ORDERS.index(size)
            folded = rolled[is_inside]
            folded = (folded ^ (folded >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            keys.append((cell.astype(np.uint64) << np.uint64(40)) | (folded >> np.uint64(24)))
    found, repeats = np.unique(np.concatenate(keys), return_counts=True)
    return found, repeats


def _normal(text: str) -> str:
    """Lower case, single spaces, the first `MAX_CHARS` characters."""
    return " ".join(text[:MAX_CHARS].lower().split())


def unrelated_percentiles(
    rows: Sequence[Example], encoder: SentenceEncoder | None = None, seed: int = 0
) -> dict[str, float]:
    """Calibration: percentiles of the scores that `rows` get for each other's responses, drawn at random."""
    order = list(range(len(rows)))
    Random(seed).shuffle(order)
    scores = reference_scores(
        [row.response for row in rows],
        [rows[i].response for i in order],
        [row.instruction for row in rows],
        encoder,
    )[[i != at for at, i in enumerate(order)]]
    return {f"p{q}": float(np.percentile(scores, q)) for q in (50, 75, 90, 95, 99)}
