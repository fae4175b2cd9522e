"""The key-less judge."""

import gzip
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapir.classifiers.embedding import encoder_named, has_bundled
from tapir.config import ReferenceJudgeConfig
from tapir.reference import (
    BATCH,
    ReferenceJudge,
    ngram_f_scores,
    reference_scores,
    unrelated_percentiles,
)
from tapir.roles import Aside
from tapir.rows import Answer, Example, Judged, Lineage, Refused, example, user_turn

ADVICE = (
    "Eat a balanced diet with plenty of vegetables, exercise regularly and make sure to get enough sleep every night."
)
SHARED = Path(os.environ.get("TAPIR_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
ALPACA = SHARED / "alpaca" / "alpaca_random_9229.json.gz"
JUDGE = ReferenceJudge(ReferenceJudgeConfig(kind="reference"))


def score(reference: str, response: str, instruction: str = "") -> float:
    return float(reference_scores([reference], [response], [instruction])[0])


def row(instruction: str, response: str) -> Example:
    return example(user_turn(instruction), response, Lineage(source="test"))


async def stream(*answers: Answer) -> AsyncIterator[Answer]:
    for answer in answers:
        yield answer


def answer(to: Example, response: str) -> Answer:
    return Answer(id=to.id, response=response, finish="stop", tokens=1)


def by_hand(reference: str, response: str) -> float:
    """The mean F1 over character runs of 3 to 6, spaces around the text, counted one by one."""
    scores = []
    for size in (3, 4, 5, 6):
        one, two = (
            [padded[i : i + size] for i in range(len(padded) - size + 1)]
            for padded in (f" {reference} ", f" {response} ")
        )
        if one or two:
            shared = sum(min(one.count(run), two.count(run)) for run in set(one))
            scores.append(2 * shared / (len(one) + len(two)))
    return sum(scores) / len(scores)


@pytest.mark.parametrize("text", ["7", "Paris", ADVICE, "def f(x):\n    return x", "漢字", "🙂"])
def test_the_reference_itself_scores_ten(text: str) -> None:
    assert score(text, text, "Say: " + text) == 10.0


@pytest.mark.parametrize(
    ("reference", "response"),
    [("Paris", "London"), ("7", "8"), (ADVICE, ""), (ADVICE, "The boat left at noon."), ("Yes.", "No.")],
)
def test_what_shares_nothing_scores_one(reference: str, response: str) -> None:
    assert score(reference, response) == 1.0


def test_case_and_spacing_do_not_matter() -> None:
    assert score("Paris  is\nlarge", "paris is large") == 10.0


@pytest.mark.parametrize(
    ("reference", "response"), [("the cat sat", "the cat ran"), ("abc", "abcd"), ("aaaa", "aa"), ("one", "two")]
)
def test_the_f_score_is_the_one_counted_by_hand(reference: str, response: str) -> None:
    found = ngram_f_scores([reference], [response], [""])[0]
    assert found == pytest.approx(by_hand(reference, response), abs=1e-9)


def test_the_score_of_a_pair_does_not_depend_on_its_batch() -> None:
    pairs = [("the cat sat", "the cat ran"), (ADVICE, ADVICE[:40]), ("x", ""), ("abc", "abcd")]
    together = reference_scores([a for a, _ in pairs], [b for _, b in pairs], [""] * len(pairs))
    assert together.tolist() == pytest.approx([score(a, b) for a, b in pairs])


def test_scores_fall_as_words_are_lost() -> None:
    words = ADVICE.split()
    scores = [score(ADVICE, " ".join(words[:count])) for count in range(len(words), -1, -1)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 10.0
    assert scores[-1] == 1.0


def test_scores_fall_as_words_are_replaced() -> None:
    words, other = ADVICE.split(), ["zebra", "quartz", "fjord", "vexing"] * 10
    scores = [score(ADVICE, " ".join(other[:count] + words[count:])) for count in range(len(words) + 1)]
    assert scores == sorted(scores, reverse=True)


def test_repeating_the_instruction_is_no_answer() -> None:
    instruction, reference = "What is the capital of France?", "The capital of France is Paris."
    assert score(reference, "The capital of France is London.", instruction) < score(
        reference, "The capital of France is London."
    )
    assert score(reference, instruction, instruction) < 5


def test_padding_with_unrelated_text_lowers_the_score() -> None:
    assert score("Paris", "Paris") > score("Paris", "Paris, I think") > score("Paris", "Paris " + ADVICE)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=20))
def test_every_score_is_on_the_scale(reference: str, response: str, instruction: str) -> None:
    assert 1.0 <= score(reference, response, instruction) <= 10.0


async def test_answers_are_judged_in_the_order_in_which_they_come() -> None:
    first, second = row("Capital of France?", "Paris"), row("Capital of Italy?", "Rome")
    found = [
        one
        async for one in JUDGE.score(
            Aside("judge"), [first, second], stream(answer(second, "Rome"), answer(first, "?"))
        )
    ]
    assert [one.id for one in found] == [second.id, first.id]
    assert all(isinstance(one, Judged) and one.teacher_score == 10.0 for one in found)
    assert [one.student_score for one in found if isinstance(one, Judged)] == [10.0, 1.0]


async def test_answers_beyond_one_batch_are_all_judged() -> None:
    rows = [row(f"Question {i}", f"Reply number {i}") for i in range(BATCH + 3)]
    answers = stream(*(answer(one, one.response) for one in rows))
    found = [one async for one in JUDGE.score(Aside("judge"), rows, answers)]
    assert [one.id for one in found] == [one.id for one in rows]


async def test_an_answer_without_a_usable_reference_is_refused() -> None:
    known, unknown = row("a", " "), row("b", "x")
    found = [
        one async for one in JUDGE.score(Aside("judge"), [known], stream(answer(known, "y"), answer(unknown, "y")))
    ]
    assert [one.reason for one in found if isinstance(one, Refused)] == ["empty-reference", "no-reference"]


async def test_no_answers_give_no_verdicts() -> None:
    assert [one async for one in JUDGE.score(Aside("judge"), [], stream())] == []


def test_calibration_never_compares_a_row_with_itself() -> None:
    rows = [row(str(i), text) for i, text in enumerate(["alpha alpha", "beta beta", "gamma gamma"])]
    assert set(unrelated_percentiles(rows, seed=1).values()) == {1.0}


def test_identity_tells_the_scale() -> None:
    assert JUDGE.identity("score")["encoder"] is None
    assert JUDGE.identity("score") == ReferenceJudge(ReferenceJudgeConfig(kind="reference")).identity("score")


@pytest.mark.skipif(not has_bundled(), reason="needs the extra embed")
class TestWithEncoder:
    def test_meaning_counts_where_the_words_differ(self) -> None:
        encoder = encoder_named("minilm")
        texts = [
            "You should work out, eat healthy food and sleep well.",
            "The old bridge was painted green last summer.",
        ]
        found = reference_scores([ADVICE] * 2, texts, ["Give health advice."] * 2, encoder)
        alone = reference_scores([ADVICE] * 2, texts, ["Give health advice."] * 2)
        assert found[0] > alone[0] + 1
        assert found[1] < 2

    def test_short_answers_are_judged_by_their_letters(self) -> None:
        assert reference_scores(["7"], ["8"], ["?"], encoder_named("minilm"))[0] < 2.0

    def test_the_reference_itself_scores_ten_and_length_counts(self) -> None:
        encoder = encoder_named("minilm")
        found = reference_scores([ADVICE] * 2, [ADVICE, ADVICE * 6], [""] * 2, encoder)
        assert found[0] == 10.0
        assert found[1] < 9.0


@pytest.mark.skipif(not ALPACA.exists(), reason=f"{ALPACA} is not there")
def test_unrelated_responses_of_alpaca_score_one() -> None:
    with gzip.open(ALPACA) as file:
        data = json.load(file)[:3000]
    rows = [row(f"{one['instruction']}\n{one['input']}", one["output"]) for one in data if one["output"].strip()]
    found = unrelated_percentiles(rows)
    assert found["p90"] == 1.0
    assert found["p95"] < 1.6
    assert found["p99"] < 3.2
    assert np.mean(list(found.values())) < 2
