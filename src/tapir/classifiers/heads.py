"""Linear heads over hashed n-grams and sentence embeddings, kept as safetensors.

A directory of heads holds `heads.safetensors` and `heads.json`. The n-gram weights are stored for the buckets that
training has seen twice, as 8-bit integers with one scale a task: the shipped heads take 3 MB.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from tapir.classifiers import features
from tapir.classifiers.embedding import SentenceEncoder
from tapir.classifiers.features import Floats, Sparse
from tapir.errors import ConfigError
from tapir.tasks import Task

TENSORS, SETTINGS = "heads.safetensors", "heads.json"
FORMAT = 2
BUCKETS = [features.WORD_BUCKETS, features.CHAR_BUCKETS, features.SHAPE_BUCKETS]
SURE = 0.95
"""Probability from which the n-gram head's label stands without a look at the embedding: on Alpaca 28 % of the rows,
99 % of them labelled alike by both heads."""
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Alone:
    """The head that sees n-grams only."""

    ngram: Floats
    """Buckets x tasks."""
    bias: Floats
    sharpness: float
    """s in softmax(s * scores), fitted on rows held out."""


@dataclass(frozen=True)
class Joint:
    """The head that sees n-grams and the embeddings of one encoder."""

    encoder: str
    """The encoder's digest."""
    ngram: Floats
    embedding: Floats
    """Embedding size x tasks."""
    directions: Floats
    """Embedding size x tasks x directions: where an embedding's square counts for or against a task."""
    curvature: Floats
    """Tasks x directions: how much, and with which sign."""
    bias: Floats
    sharpness: float

    def scores(self, vectors: Sparse, embedded: Floats) -> Floats:
        """Rows x tasks, before the softmax."""
        size, tasks, count = self.directions.shape
        along = (embedded @ self.directions.reshape(size, -1)).reshape(-1, tasks, count)
        squares = np.einsum("ntk,tk->nt", along * along, self.curvature)
        found: Floats = vectors.times(self.ngram) + embedded @ self.embedding + squares + self.bias
        return found


@dataclass(frozen=True)
class Heads:
    """What a local classifier knows."""

    tasks: tuple[Task, ...]
    idf: Floats
    """Of every bucket; 0 for those that training saw less than twice."""
    alone: Alone
    joint: Joint | None
    about: dict[str, Any]
    """What the heads were trained on, for the reader."""
    digest: str

    def probabilities(
        self, texts: Sequence[str], encoder: SentenceEncoder | None, progress: Callable[[int], None] = lambda _: None
    ) -> Floats:
        """Texts x tasks; each row sums to 1. Without an encoder n-grams alone decide, as they do where they are sure:
        those rows are not embedded."""
        parts = [features.tfidf(counted, self.idf) for counted in features.counts(texts)]
        found = _softmax_of(parts, self.alone.ngram, self.alone.bias, self.alone.sharpness)
        if encoder is None or self.joint is None:
            return found
        joint, unsure = self.joint, np.flatnonzero(found.max(axis=1, initial=0) < SURE)
        progress(len(texts) - len(unsure))
        embedded = encoder.embed([texts[i] for i in unsure.tolist()], progress)
        vectors = features.take(features.stack(parts), unsure)
        found[unsure] = softmax(joint.scores(vectors, embedded) * joint.sharpness)
        return found


def _softmax_of(parts: Sequence[Sparse], weights: Floats, bias: Floats, sharpness: float) -> Floats:
    rows = [softmax((part.times(weights) + bias) * sharpness) for part in parts]
    return np.concatenate(rows) if rows else np.zeros((0, len(bias)), dtype=np.float32)


def softmax(logits: Floats) -> Floats:
    """Probabilities of the rows of `logits`."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    found: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return found


def save_heads(heads: Heads, directory: Path) -> Heads:
    """Write the heads, and give them back as they will be read: 8-bit weights, with the digest of the files."""
    directory.mkdir(parents=True, exist_ok=True)
    seen = np.flatnonzero(heads.idf)
    tensors: dict[str, NDArray[Any]] = {"buckets": seen.astype(np.int32), "idf": heads.idf[seen].astype(np.float16)}
    tensors |= _packed("alone", heads.alone.ngram[seen], heads.alone.bias)
    sharpness = {"alone": heads.alone.sharpness}
    if heads.joint is not None:
        tensors |= _packed("joint", heads.joint.ngram[seen], heads.joint.bias)
        tensors["joint.embedding"] = heads.joint.embedding.astype(np.float32)
        tensors["joint.directions"] = heads.joint.directions.astype(np.float16)
        tensors["joint.curvature"] = heads.joint.curvature.astype(np.float32)
        sharpness["joint"] = heads.joint.sharpness
    settings = {
        "format": FORMAT,
        "tasks": list(heads.tasks),
        "buckets": BUCKETS,
        "sharpness": sharpness,
        "encoder": heads.joint.encoder if heads.joint else None,
        "about": heads.about,
    }
    (directory / TENSORS).write_bytes(save(tensors))
    (directory / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return load_heads(directory)


def load_heads(directory: Path) -> Heads:
    """The heads in a directory.

    Raises:
        ConfigError: the directory holds no heads, or heads of another version.
    """
    try:
        settings = json.loads((directory / SETTINGS).read_text(encoding="utf-8"))
        if settings["format"] != FORMAT or settings["buckets"] != BUCKETS:
            raise ConfigError(f"{directory}: heads of another version; train them again with `tapir tag --train`")
        return _heads(settings, load_file(directory / TENSORS), _digest(directory))
    except (OSError, json.JSONDecodeError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise ConfigError(f"{directory}: holds no heads ({error}); train some with `tapir tag --train`") from error


def _heads(settings: dict[str, Any], tensors: dict[str, NDArray[Any]], digest: str) -> Heads:
    tasks = tuple(Task(name) for name in settings["tasks"])
    idf = np.zeros(features.BUCKETS, dtype=np.float32)
    idf[tensors["buckets"]] = tensors["idf"]
    alone = Alone(_unpacked("alone", tensors), tensors["alone.bias"], settings["sharpness"]["alone"])
    joint = None
    if settings["encoder"]:
        joint = Joint(
            encoder=settings["encoder"],
            ngram=_unpacked("joint", tensors),
            embedding=tensors["joint.embedding"],
            directions=tensors["joint.directions"].astype(np.float32),
            curvature=tensors["joint.curvature"],
            bias=tensors["joint.bias"],
            sharpness=settings["sharpness"]["joint"],
        )
    return Heads(tasks, idf, alone, joint, settings["about"], digest)


def _packed(name: str, weights: Floats, bias: Floats) -> dict[str, NDArray[Any]]:
    """Weights as 8-bit integers with one scale a task."""
    scale = np.maximum(np.abs(weights).max(axis=0, initial=0), 1e-12) / 127
    return {
        f"{name}.ngram": np.rint(weights / scale).astype(np.int8),
        f"{name}.scale": scale.astype(np.float32),
        f"{name}.bias": bias.astype(np.float32),
    }


def _unpacked(name: str, tensors: dict[str, NDArray[Any]]) -> Floats:
    scale = tensors[f"{name}.scale"]
    weights = np.zeros((features.BUCKETS, len(scale)), dtype=np.float32)
    weights[tensors["buckets"]] = tensors[f"{name}.ngram"] * scale
    return weights


def _digest(directory: Path) -> str:
    state = blake2b(digest_size=12)
    for name in (TENSORS, SETTINGS):
        state.update((directory / name).read_bytes())
    return state.hexdigest()
