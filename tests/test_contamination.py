"""Contamination of training text by evaluation items."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.contamination import EvaluationIndex
from tapir.rows import Lineage, Message, example, user_turn

ITEM = "A train leaves the station at nine in the morning and travels sixty miles each hour. When does it arrive?"


def test_a_run_of_thirteen_shared_words_is_a_hit_and_twelve_are_none() -> None:
    index = EvaluationIndex([ITEM])
    run = "a train leaves the station at nine in the morning and travels sixty"
    assert len(run.split()) == 13
    assert index.hits(f"Solve: {run} kilometres.") == run
    assert index.hits("Solve: " + run.rsplit(" ", 1)[0] + " forty miles") is None


def test_case_punctuation_and_white_space_do_not_hide_a_hit() -> None:
    index = EvaluationIndex([ITEM])
    assert index.hits(ITEM.upper().replace(" ", "\n ").replace(".", " ;")) is not None


def test_the_first_shared_run_is_named() -> None:
    index = EvaluationIndex([ITEM], n=3)
    assert index.hits("we know that travels sixty miles each hour") == "travels sixty miles"


def test_short_items_are_matched_as_a_whole_and_not_inside_others() -> None:
    index = EvaluationIndex(["What is 2 + 3?"])
    assert index.hits("what is 2 + 3") == "what is 2 + 3"
    assert index.hits("what is 2 - 3") is None
    assert index.hits("Tell me: what is 2 + 3?") is None
    assert index.hits(ITEM + " What is 2 + 3?") is None


def test_texts_without_words_match_nothing() -> None:
    index = EvaluationIndex(["", "...", "?!"])
    assert len(index) == 0
    assert index.hits("") is None
    assert index.hits("...") is None


def test_chinese_is_compared_by_characters() -> None:
    index = EvaluationIndex(["请用简单的话解释一下光合作用的过程是什么"])
    assert index.hits("问题：请用简单的话解释一下光合作用。") is not None
    assert index.hits("请用简单的话解释一下") is None


def test_a_row_is_refused_for_any_turn_that_is_no_system_prompt() -> None:
    index = EvaluationIndex([ITEM])
    lineage = Lineage(source="s")
    turns = (
        Message(role="user", content=ITEM),
        Message(role="assistant", content="At ten."),
        Message(role="user", content="Why?"),
    )
    refusal = index.refusal(example(turns, "Because.", lineage))
    assert refusal is not None
    assert refusal.reason == "contaminated"
    assert index.refusal(example(user_turn("Why?", system=ITEM), "Because.", lineage)) is None


def test_the_digest_is_of_the_items_and_not_of_their_order() -> None:
    one, other = EvaluationIndex([ITEM, "Why?"]), EvaluationIndex(["Why?", ITEM])
    assert one.digest == other.digest
    assert one.digest != EvaluationIndex([ITEM, "Why?"], n=12).digest
    other.add("How?")
    assert one.digest != other.digest


def test_a_run_needs_at_least_one_word() -> None:
    with pytest.raises(ValueError, match="n is 0"):
        EvaluationIndex([], n=0)


WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=30)


@given(WORDS, WORDS, st.integers(1, 5))
def test_hits_agree_with_a_comparison_of_all_runs(item: list[str], text: list[str], n: int) -> None:
    def runs(found: list[str]) -> list[str]:
        return [" ".join(found[i : i + n]) for i in range(len(found) - n + 1)]

    if len(text) < n:
        want = " ".join(text) if text and text == item else None
    else:
        want = next((run for run in runs(text) if run in runs(item)), None)
    assert EvaluationIndex([" ".join(item)], n).hits(" ".join(text)) == want
