"""Least-squares fits of the linear heads, in closed form: the same rows give the same weights.

With more features than rows the fit is solved in the space of rows: for the kernel K = X Xᵀ and the targets Y (+1 for
a row's task, -1 for the others) A = (K + λI)⁻¹ (Y - mean), and the weights are Xᵀ A.
"""

from dataclasses import dataclass

import numpy as np

from tapir.classifiers import features
from tapir.classifiers.features import Floats, Ints, Sparse

CHUNK = 512
"""Rows whose products with all others are computed together."""


@dataclass(frozen=True)
class FitSettings:
    """Chosen by cross-validation over the shipped seeds and on the development split (benchmarks/tasks.py)."""

    ridge_alone: float = 0.5
    """λ of the n-grams by themselves; their vectors have length one."""
    ridge_joint: float = 1.0
    """λ of n-grams and embeddings together."""
    embedding_weight: float = 3.0
    """Weight of the embeddings' kernel beside that of the n-grams."""
    pair_weight: float = 1.5
    """Weight of that kernel's square: products of two of an embedding's numbers, so that a task may be a region."""
    directions: int = 32
    """Directions in which each task's square form is kept: of 384, 8 lose a point, 32 nothing that can be seen."""


def ngram_kernel(vectors: Sparse) -> Floats:
    """Products of all rows with each other."""
    import torch

    seen, columns = np.unique(vectors.columns, return_inverse=True)
    places = torch.from_numpy(np.stack([vectors.row_of, columns]))
    matrix = torch.sparse_coo_tensor(
        places, torch.from_numpy(vectors.values), (len(vectors), len(seen)), check_invariants=False
    )
    kernel = torch.empty(len(vectors), len(vectors))
    for at in range(0, len(vectors), CHUNK):
        some = features.take(vectors, np.arange(at, min(at + CHUNK, len(vectors))))
        dense = torch.zeros(len(seen), len(some))
        dense[torch.from_numpy(np.searchsorted(seen, some.columns)), torch.from_numpy(some.row_of)] = torch.from_numpy(
            some.values
        )
        kernel[:, at : at + len(some)] = torch.sparse.mm(matrix, dense)
    return kernel.numpy()


def embedding_kernel(left: Floats, right: Floats, settings: FitSettings) -> Floats:
    """What the embeddings add to the kernel: w G + p G² for their products G."""
    products = left @ right.T
    found: Floats = products * (settings.embedding_weight + settings.pair_weight * products)
    return found


def square_forms(embedded: Floats, dual: Floats, settings: FitSettings) -> tuple[Floats, Floats]:
    """Each task's Σ p aᵢ eᵢ eᵢᵀ, by its strongest directions (size x tasks x directions) and their curvature."""
    import torch

    rows = torch.from_numpy(embedded)
    directions, curvature = [], []
    for weights in torch.from_numpy(dual).T:
        values, vectors = torch.linalg.eigh(settings.pair_weight * (rows.T * weights) @ rows)
        strongest = values.abs().argsort(descending=True)[: settings.directions]
        directions.append(vectors[:, strongest])
        curvature.append(values[strongest])
    return torch.stack(directions, dim=1).numpy(), torch.stack(curvature).numpy()


def solve(kernel: Floats, gold: Ints, tasks: int, ridge: float) -> tuple[Floats, Floats]:
    """The dual weights A (rows x tasks) and the mean of the targets, which is the bias."""
    import torch

    targets = 2.0 * np.eye(tasks, dtype=np.float32)[gold] - 1.0
    bias = targets.mean(axis=0)
    damped = torch.from_numpy(kernel + ridge * np.eye(len(kernel), dtype=np.float32))
    dual = torch.cholesky_solve(torch.from_numpy(targets - bias), torch.linalg.cholesky(damped))
    return dual.numpy(), bias


def held_out_scores(kernel: Floats, gold: Ints, tasks: int, ridge: float, fold: Ints) -> Floats:
    """Scores of each row by a fit that has not seen its fold."""
    scores = np.zeros((len(gold), tasks), dtype=np.float32)
    for k in np.unique(fold):
        inside, outside = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if len(inside):
            dual, bias = solve(kernel[np.ix_(inside, inside)], gold[inside], tasks, ridge)
            scores[outside] = kernel[np.ix_(outside, inside)] @ dual + bias
    return scores


def ngram_weights(vectors: Sparse, dual: Floats) -> Floats:
    """The weights Xᵀ A of every bucket."""
    order = np.argsort(vectors.columns, kind="stable")
    found = np.bincount(vectors.columns, minlength=features.BUCKETS)
    starts = np.concatenate([[0], np.cumsum(found)]).astype(np.int64)
    return Sparse(starts, vectors.row_of[order], vectors.values[order]).times(dual)


def fit_sharpness(scores: Floats, gold: Ints) -> float:
    """The factor s for which softmax(s * scores) gives the rows held out the highest likelihood."""
    grid = np.geomspace(0.5, 50, 93)
    losses = []
    for factor in grid:
        scaled = scores.astype(np.float64) * factor
        peak = scaled.max(axis=1)
        total = peak + np.log(np.exp(scaled - peak[:, None]).sum(axis=1))
        losses.append(float((total - scaled[np.arange(len(gold)), gold]).mean()))
    return float(grid[int(np.argmin(losses))])
