"""Training of the linear heads from labelled instructions."""

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapir.classifiers import features
from tapir.classifiers.embedding import SentenceEncoder
from tapir.classifiers.features import Floats, Ints
from tapir.classifiers.fit import (
    FitSettings,
    embedding_kernel,
    fit_sharpness,
    held_out_scores,
    ngram_kernel,
    ngram_weights,
    solve,
    square_forms,
)
from tapir.classifiers.heads import Alone, Heads, Joint
from tapir.errors import ConfigError, DataError
from tapir.tasks import Task

SEEDS = Path(__file__).parent / "seeds.jsonl"
FOLDS = 5
MOST_ROWS = 12_000
"""The fit holds a matrix of rows x rows in memory."""


class Tagged(msgspec.Struct, frozen=True, kw_only=True):
    """An instruction with its task type, to train on or to compare with."""

    instruction: str
    task: Task
    source: str = ""
    """Where the row is from: accuracy is shown for each source by itself."""


def read_tagged(path: Path) -> list[Tagged]:
    """Rows of a JSON-lines file with `instruction` and `task` (and `source`); other names are ignored.

    Raises:
        DataError: the file cannot be read, or a line is not such a row.
    """
    rows: list[Tagged] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a file of labelled instructions") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(msgspec.json.decode(line, type=Tagged))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(
                    f'{path}:{number}: {error}; a line reads {{"instruction": "...", "task": "Math"}}'
                ) from error
    if not rows:
        raise DataError(f"{path}: holds no rows")
    return rows


def seeds() -> list[Tagged]:
    """The labelled instructions that the shipped heads are trained on, written for this project."""
    return read_tagged(SEEDS)


def train_heads(
    rows: Sequence[Tagged],
    encoder: SentenceEncoder | None,
    settings: FitSettings | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> Heads:
    """Heads fitted to `rows`; how sure they may be is fitted on rows held out, fold by fold.

    Raises:
        ConfigError: the rows hold fewer than two task types, or there are too many.
    """
    settings = settings or FitSettings()
    tasks = tuple(task for task in Task if any(row.task is task for row in rows))
    if len(tasks) < 2:
        raise ConfigError(f"{len(rows)} rows of {len(tasks)} task type(s) train no classifier; give two types at least")
    if len(rows) > MOST_ROWS:
        raise ConfigError(
            f"{len(rows)} rows are more than the {MOST_ROWS} that linear heads are fitted to; "
            "give fewer, or fine-tune an encoder with `tapir tag --train --model`"
        )
    texts = [row.instruction for row in rows]
    gold = np.array([tasks.index(row.task) for row in rows])
    counted = features.stack(list(features.counts(texts)))
    idf = features.inverse_frequency(counted, least=2)
    vectors = features.tfidf(counted, idf)
    kernel = ngram_kernel(vectors)
    fold, is_lone = folds(rows)
    said(f"{len(rows)} rows, {len(tasks)} task types")
    about: dict[str, Any] = {"rows": len(rows), "rows_digest": _digest(rows)}

    held = held_out_scores(kernel, gold, len(tasks), settings.ridge_alone, fold)
    about["held_out_accuracy_alone"] = _accuracy(held[is_lone], gold[is_lone])
    dual, bias = solve(kernel, gold, len(tasks), settings.ridge_alone)
    alone = Alone(ngram_weights(vectors, dual), bias, fit_sharpness(held[is_lone], gold[is_lone]))
    said(f"n-grams alone: accuracy {about['held_out_accuracy_alone']:.3f} on rows held out")
    if encoder is None:
        return Heads(tasks, idf, alone, None, about, digest="")

    embedded = encoder.embed(texts)
    kernel += embedding_kernel(embedded, embedded, settings)
    held = held_out_scores(kernel, gold, len(tasks), settings.ridge_joint, fold)
    about["held_out_accuracy"] = _accuracy(held[is_lone], gold[is_lone])
    about["encoder"] = encoder.name
    dual, bias = solve(kernel, gold, len(tasks), settings.ridge_joint)
    said(f"with embeddings: accuracy {about['held_out_accuracy']:.3f} on rows held out")
    directions, curvature = square_forms(embedded, dual, settings)
    joint = Joint(
        encoder=encoder.digest,
        ngram=ngram_weights(vectors, dual),
        embedding=settings.embedding_weight * (embedded.T @ dual),
        directions=directions,
        curvature=curvature,
        bias=bias,
        sharpness=fit_sharpness(held[is_lone], gold[is_lone]),
    )
    return Heads(tasks, idf, alone, joint, about, digest="")


def folds(rows: Sequence[Tagged]) -> tuple[Ints, NDArray[np.bool_]]:
    """The fold of each row, and whether it is of its own kind.

    Rows of a task that begin with the same three words share a fold, as do rows made from one template: no row is
    scored by a fit that has seen its phrasing. Accuracy and sharpness are taken from the rows that share their
    beginning with none; if there is no such row, from all.
    """
    openings = [f"{row.task}\x00{' '.join(row.instruction.lower().split()[:3])}" for row in rows]
    digests = [blake2b(text.encode("utf-8", "replace"), digest_size=4).digest() for text in openings]
    alike = Counter(openings)
    is_lone = np.array([alike[text] == 1 for text in openings])
    return np.array([digest[0] % FOLDS for digest in digests]), is_lone if is_lone.any() else ~is_lone


def _accuracy(scores: Floats, gold: Ints) -> float:
    return round(float((scores.argmax(axis=1) == gold).mean()), 4)


def _digest(rows: Sequence[Tagged]) -> str:
    state = blake2b(digest_size=12)
    for row in rows:
        state.update(msgspec.json.encode((row.task, row.instruction)))
    return state.hexdigest()
