"""Linear heads: fitted, kept, shipped."""

import json
from pathlib import Path

import numpy as np
import pytest

from tapir.classifiers import features
from tapir.classifiers.fit import (
    FitSettings,
    embedding_kernel,
    fit_sharpness,
    ngram_kernel,
    ngram_weights,
    solve,
    square_forms,
)
from tapir.classifiers.heads import SETTINGS, SHIPPED, TENSORS, load_heads, save_heads, softmax
from tapir.classifiers.train import MOST_ROWS, Tagged, _digest, folds, read_tagged, seeds, train_heads
from tapir.errors import ConfigError, DataError
from tapir.tasks import Task

from classifier_support import TINY_ROWS  # isort: skip

TINY = [Tagged(instruction=text, task=task) for task, text in TINY_ROWS]


def test_the_closed_form_equals_ridge_regression_in_the_space_of_features() -> None:
    random = np.random.default_rng(1)
    inputs = random.normal(size=(40, 6)).astype(np.float32)
    gold = random.integers(0, 3, 40)
    dual, bias = solve(inputs @ inputs.T, gold, 3, ridge=0.7)
    targets = 2.0 * np.eye(3)[gold] - 1
    expected = np.linalg.solve(inputs.T @ inputs + 0.7 * np.eye(6), inputs.T @ (targets - targets.mean(axis=0)))
    np.testing.assert_allclose(inputs.T @ dual, expected, atol=1e-4)
    np.testing.assert_allclose(bias, targets.mean(axis=0), atol=1e-6)


def test_the_kernel_and_the_weights_agree_with_dense_products() -> None:
    counted = features.stack(list(features.counts([row.instruction for row in TINY])))
    vectors = features.tfidf(counted, features.inverse_frequency(counted))
    dense = np.zeros((len(vectors), features.BUCKETS), dtype=np.float32)
    dense[vectors.row_of, vectors.columns] = vectors.values
    np.testing.assert_allclose(ngram_kernel(vectors), dense @ dense.T, atol=1e-5)
    dual = np.random.default_rng(2).normal(size=(len(vectors), 2)).astype(np.float32)
    np.testing.assert_allclose(ngram_weights(vectors, dual), dense.T @ dual, atol=1e-5)


def test_square_forms_score_as_the_squared_kernel_does() -> None:
    random = np.random.default_rng(4)
    seen, new = (random.normal(size=(rows, 8)).astype(np.float32) / 3 for rows in (30, 5))
    dual = random.normal(size=(30, 2)).astype(np.float32)
    settings = FitSettings(embedding_weight=0.0, pair_weight=1.5, directions=8)
    directions, curvature = square_forms(seen, dual, settings)
    scores = np.einsum("ntk,tk->nt", np.einsum("nd,dtk->ntk", new, directions) ** 2, curvature)
    np.testing.assert_allclose(scores, embedding_kernel(new, seen, settings) @ dual, atol=1e-4)
    assert square_forms(seen, dual, FitSettings(directions=3))[0].shape == (8, 2, 3)


def test_sharpness_is_high_where_scores_are_right_and_low_where_they_are_noise() -> None:
    random = np.random.default_rng(3)
    gold = random.integers(0, 4, 300)
    right = 2.0 * np.eye(4, dtype=np.float32)[gold] - 1
    noise = random.normal(size=(300, 4)).astype(np.float32)
    assert fit_sharpness(right, gold) > 10
    assert fit_sharpness(noise, gold) == pytest.approx(0.5)


def test_training_twice_gives_the_same_heads_and_learns_the_rows(tmp_path: Path) -> None:
    first = save_heads(train_heads(TINY, None), tmp_path / "a")
    second = save_heads(train_heads(TINY, None), tmp_path / "b")
    assert first.digest == second.digest
    found = first.probabilities([row.instruction for row in TINY], None)
    assert [first.tasks[i] for i in found.argmax(axis=1)] == [row.task for row in TINY]
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_heads_read_back_give_the_probabilities_they_gave(tmp_path: Path) -> None:
    heads = train_heads(TINY, None)
    texts = ["Write a song", "What is 5 - 2?", ""]
    kept = save_heads(heads, tmp_path)
    np.testing.assert_allclose(kept.probabilities(texts, None), heads.probabilities(texts, None), atol=0.02)
    assert load_heads(tmp_path).digest == kept.digest


def test_heads_with_embeddings_read_back_give_the_probabilities_they_gave(tmp_path: Path) -> None:
    class Lengths:
        name, digest = "lengths", "0"

        def embed(self, texts: list[str], progress: object = None) -> np.ndarray:
            angles = np.array([[len(text) / 50] for text in texts], dtype=np.float32)
            return np.hstack([np.cos(angles), np.sin(angles)])

    encoder = Lengths()
    heads = train_heads(TINY, encoder)  # type: ignore[arg-type]
    texts = ["Write a song", "What is 5 - 2?", ""]
    kept = save_heads(heads, tmp_path)
    assert kept.joint is not None
    assert kept.joint.directions.shape == (2, len(kept.tasks), 2)
    both = (one.probabilities(texts, encoder) for one in (kept, heads))  # type: ignore[arg-type]
    np.testing.assert_allclose(*both, atol=0.02)


def test_one_task_type_trains_no_classifier() -> None:
    with pytest.raises(ConfigError, match="give two types at least"):
        train_heads(TINY[:4], None)


def test_more_rows_than_fit_in_memory_are_refused() -> None:
    with pytest.raises(ConfigError, match="fine-tune an encoder"):
        train_heads(TINY * (MOST_ROWS // len(TINY) + 1), None)


@pytest.mark.parametrize("damage", ["missing", "json", "version", "tensors"])
def test_a_directory_without_sound_heads_is_named(tmp_path: Path, damage: str) -> None:
    if damage != "missing":
        save_heads(train_heads(TINY, None), tmp_path)
    match damage:
        case "json":
            (tmp_path / SETTINGS).write_text("{")
        case "version":
            settings = json.loads((tmp_path / SETTINGS).read_text())
            (tmp_path / SETTINGS).write_text(json.dumps(settings | {"format": 0}))
        case "tensors":
            (tmp_path / TENSORS).write_bytes(b"not tensors")
    with pytest.raises(ConfigError, match="tapir tag --train"):
        load_heads(tmp_path)


def test_rows_that_begin_alike_share_a_fold() -> None:
    rows = [Tagged(instruction=f"Tell me about {word}.", task=Task.ART) for word in "abcdefgh"]
    fold, is_lone = folds([*rows, Tagged(instruction="Who painted it?", task=Task.ART)])
    assert len(set(fold[:-1].tolist())) == 1
    assert is_lone.tolist() == [False] * 8 + [True]


def test_labelled_rows_are_read_with_their_source(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "2+2?", "task": "Math", "source": "a", "split": "dev"}\n\n', encoding="utf-8")
    assert read_tagged(path) == [Tagged(instruction="2+2?", task=Task.MATH, source="a")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ('{"instruction": "x"}', "rows.jsonl:1"),
        ('{"instruction": "x", "task": "Maths"}', "Maths"),
    ],
)
def test_a_line_that_is_no_labelled_row_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_tagged(path)


def test_the_shipped_heads_were_trained_on_the_shipped_seeds() -> None:
    heads = load_heads(SHIPPED)
    assert heads.about["rows_digest"] == _digest(seeds())
    assert heads.tasks == tuple(Task)
    assert (SHIPPED / TENSORS).stat().st_size < 6_000_000


def test_every_task_has_seeds_written_by_hand() -> None:
    written = [row for row in seeds() if row.source == "written"]
    for task in Task:
        assert sum(row.task is task for row in written) >= 60
    assert len({row.instruction for row in seeds()}) == len(seeds())


def test_softmax_of_large_scores_is_finite() -> None:
    np.testing.assert_allclose(softmax(np.array([[1000.0, 999.0]], dtype=np.float32)), [[0.7310586, 0.2689414]])
