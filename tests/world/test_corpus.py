"""The world's raw corpus and test set."""

from collections import Counter

import pytest

from tapir.world.corpus import (
    DIFFICULTY_SKEW,
    FAMILY_SKEW,
    balanced_test_set,
    corpus_weights,
    raw_corpus,
)
from tapir.world.families import solve


def test_the_corpus_holds_different_instructions_in_skewed_shares() -> None:
    corpus = raw_corpus(0)
    assert len(corpus) == len({item.instruction for item in corpus}) == 3000
    families = Counter(item.family for item in corpus)
    assert all(abs(families[family] / 3000 - share) < 0.03 for family, share in FAMILY_SKEW.items())
    levels = Counter(item.difficulty for item in corpus)
    assert all(abs(levels[i + 1] / 3000 - share) < 0.04 for i, share in enumerate(DIFFICULTY_SKEW))


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another() -> None:
    assert raw_corpus(3, 50) == raw_corpus(3, 50)
    assert raw_corpus(3, 50) != raw_corpus(4, 50)
    assert raw_corpus(3, 80)[:50] == raw_corpus(3, 50)


def test_the_test_set_is_balanced_and_new_except_for_the_finite_lists() -> None:
    items = balanced_test_set(0)
    assert set(Counter((item.family, item.difficulty) for item in items).values()) == {40}
    assert len(items) == 8 * 5 * 40
    known = {item.instruction for item in raw_corpus(0)}
    overlap = {(item.family, item.difficulty) for item in items if item.instruction in known}
    assert overlap <= {("know", 1), ("know", 2), ("conv", 1), ("conv", 2)}


def test_the_test_set_keeps_out_what_it_is_told_to() -> None:
    first = balanced_test_set(1, 2, exclude=())
    again = balanced_test_set(1, 2, exclude={item.instruction for item in first})
    assert not {item.instruction for item in first} & {item.instruction for item in again}


def test_corpus_weights_are_the_shares_of_the_cells() -> None:
    weights = corpus_weights()
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["know", 1] == pytest.approx(0.26 * 0.6)
    assert weights["code", 5] == pytest.approx(0.04 * 0.03)


def test_a_corpus_too_large_for_an_easy_cell_goes_on_with_harder_ones() -> None:
    items = raw_corpus(0, 6000)
    assert len({item.instruction for item in items}) == 6000
    assert all(solve(item.instruction) == item for item in items[:200])
