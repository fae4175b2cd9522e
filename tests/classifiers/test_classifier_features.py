"""Hashed n-grams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapir.classifiers import features
from tapir.classifiers.features import Sparse


def counted(*texts: str) -> Sparse:
    return features.stack(list(features.counts(texts)))


def block_sizes(row: Sparse) -> tuple[int, int, int]:
    ends = [features.WORD_BUCKETS, features.WORD_BUCKETS + features.CHAR_BUCKETS]
    block = np.searchsorted(ends, row.columns, side="right")
    words, chars, shape = np.bincount(block, minlength=3)
    return int(words), int(chars), int(shape)


def test_a_text_has_its_words_pairs_opening_and_character_runs() -> None:
    # Words: the, cat; pair: the cat; opening: the. Runs in " the " and " cat ": 3 of 3, 2 of 4 and 1 of 5 each.
    assert block_sizes(counted("The cat")) == (4, 12, 8)


def test_repeats_count_sublinearly() -> None:
    row = counted("go go go")
    assert sorted(row.values[row.columns < features.WORD_BUCKETS].tolist()) == pytest.approx(
        [1.0, 1 + np.log(2), 1 + np.log(3)]
    )


def test_case_and_digits_make_no_difference_to_words_and_characters() -> None:
    rows = counted("In 1945 It Ended", "in 2023 it ended")
    end = features.WORD_BUCKETS + features.CHAR_BUCKETS
    first, second = (features.take(rows, np.array([i])) for i in (0, 1))
    assert first.columns[first.columns < end].tolist() == second.columns[second.columns < end].tolist()


@pytest.mark.parametrize("text", ["", " \n\t", "\x00", "\ud800", "İ" * 4000, "a" * 100_000, "漢字かな交じり文", "😀😀"])
def test_any_text_gives_finite_features(text: str) -> None:
    rows = counted(text, "plain")
    assert len(rows) == 2
    assert np.isfinite(rows.values).all()
    assert rows.columns.min() >= 0
    assert rows.columns.max() < features.BUCKETS


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=8))
def test_features_of_a_text_do_not_depend_on_its_neighbours(texts: list[str]) -> None:
    together = counted(*texts)
    for i, text in enumerate(texts):
        alone, among = counted(text), features.take(together, np.array([i]))
        assert alone.columns.tolist() == among.columns.tolist()
        assert alone.values.tolist() == among.values.tolist()


def test_a_long_text_is_read_at_its_beginning_and_its_end() -> None:
    text = "a" * features.HEAD_CHARS + "b" * 5000 + "c" * features.TAIL_CHARS
    assert features.clip(text) == "a" * features.HEAD_CHARS + "\n" + "c" * features.TAIL_CHARS
    assert features.clip("short") == "short"


def test_words_of_other_scripts_share_a_token() -> None:
    rows = counted("привет мир", "漢字です", "hello world")
    words = [set(features.take(rows, np.array([i])).columns[:50].tolist()) for i in range(3)]
    assert words[0] & words[1] - words[2]


def test_tfidf_vectors_of_equal_texts_have_cosine_one() -> None:
    rows = counted("Write a poem.", "Write a poem.", "Solve x + 1 = 2 please")
    vectors = features.tfidf(rows, features.inverse_frequency(rows))
    dense = np.zeros((features.BUCKETS, 3), dtype=np.float32)
    dense[vectors.columns, vectors.row_of] = vectors.values
    cosine = vectors.times(dense)
    assert cosine[0, 1] == pytest.approx(1, abs=0.01)
    assert cosine[0, 2] < 0.2
    np.testing.assert_allclose(cosine, cosine.T, atol=1e-6)


def test_buckets_that_too_few_rows_hold_weigh_nothing() -> None:
    rows = counted("alpha beta", "alpha gamma")
    idf = features.inverse_frequency(rows, least=2)
    found = np.bincount(rows.columns, minlength=features.BUCKETS)
    assert ((idf > 0) == (found >= 2)).all()


def test_the_sparse_product_equals_the_dense_one() -> None:
    random = np.random.default_rng(0)
    dense = np.where(random.random((700, 30)) < 0.2, random.random((700, 30)), 0).astype(np.float32)
    dense[5] = 0
    rows, columns = np.nonzero(dense)
    starts = np.searchsorted(rows, np.arange(701))
    sparse = Sparse(starts, columns, dense[rows, columns])
    weights = random.random((30, 4)).astype(np.float32)
    np.testing.assert_allclose(sparse.times(weights), dense @ weights, rtol=1e-5)
    some = features.take(sparse, np.array([5, 3, 3]))
    np.testing.assert_allclose(some.times(weights), dense[[5, 3, 3]] @ weights, rtol=1e-5)


def test_no_texts_give_no_rows() -> None:
    assert len(counted()) == 0
