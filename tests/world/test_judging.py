"""The world's judge."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.errors import DataError
from tapir.world.families import DIFFICULTIES, FAMILIES, generate, solve
from tapir.world.judging import final_answer, is_correct, judge, score

SUM = "What is 345+678?"


@given(st.integers(0, 2**32), st.sampled_from(FAMILIES), st.sampled_from(DIFFICULTIES))
def test_the_teachers_response_scores_ten_and_a_right_terse_one_at_least_nine(seed: int, family: str, d: int) -> None:
    item = generate(Random(seed), family, d)
    assert judge(item.instruction, item.refined) == 10
    assert judge(item.instruction, item.direct) == (10 if item.refined == item.direct else 9)


@given(st.integers(0, 2**32), st.sampled_from(FAMILIES), st.sampled_from(DIFFICULTIES), st.text(max_size=40))
def test_a_wrong_answer_scores_from_one_to_seven(seed: int, family: str, d: int, response: str) -> None:
    item = generate(Random(seed), family, d)
    if not is_correct(item, response):
        assert 1 <= score(item, response) <= 7


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("1023", 9),
        ("Answer: 1023", 9),
        ("5+8=13,3; 4+7+1=12,23; 3+6+1=10,1023 Answer: 1023", 10),
        ("1123", 1 + 4 * 3 / 4 + 1),
        ("", 1),
        ("9", 1),
        ("5+8=13,3; 4+7+1=11,13; 3+6+1=10,1013 Answer: 1013", 1 + 3 + 1 + 0.7),
        ("5+8=13,3; 4+7+1=12,23; 3+6+1=10,1023 Answer: 1024", 7),
    ],
)
def test_partial_credit_follows_places_length_and_steps(response: str, expected: float) -> None:
    assert judge(SUM, response) == pytest.approx(expected)


def test_the_last_answer_mark_counts() -> None:
    assert final_answer("Answer: 7 Answer: 8") == "8"
    assert not is_correct(solve(SUM), "Answer: 1023 Answer: 3")


def test_an_instruction_from_elsewhere_is_not_judged() -> None:
    with pytest.raises(DataError):
        judge("Write a poem.", "Roses are red.")
