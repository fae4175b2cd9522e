"""Near-duplicates and the normal form of words."""

import itertools
import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.dedup import (
    CROWD,
    NearDuplicates,
    comparable,
    hashed,
    jaccard,
    rows_per_band,
    scope_of,
    shingled,
)
from tapir.lsh import BandIndex
from tapir.rows import Lineage, Message, example, user_turn
from tapir.scripts import script_of
from tapir.words import words

TEXT = "Name three ways to save water at home and explain briefly why each of them works"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("What's 2 + 3?", ["what", "s", "2", "+", "3"]),
        ("snake_case  C++\tf(x)=y", ["snake", "case", "c", "+", "+", "f", "x", "=", "y"]),
        ("NAÏVE Straße", ["naïve", "strasse"]),
        ("今天天气。", ["今", "天", "天", "气"]),
        ("AI今天", ["ai", "今", "天"]),
        ("สวัสดี", list("สวัสดี")),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("ＡＢ１ ﬁne", ["ab1", "fine"]),
        ("Is it 😀?", ["is", "it", "😀"]),
        ("« Ça va… »", ["ça", "va"]),
        ("... !?", []),
        ("close [({ and ]}, f(x)[0]", ["close", "[({", "and", "]}", "f", "x", ")[", "0"]),
    ],
)
def test_words_in_any_script(text: str, want: list[str]) -> None:
    assert words(text) == want


@given(st.text(st.characters(codec="ascii")))
def test_ascii_text_has_the_same_words_on_both_paths(text: str) -> None:
    assert words(text + " é")[:-1] == words(text)


def test_a_text_repeats_itself_whatever_its_case_and_punctuation() -> None:
    index = NearDuplicates(0.8)
    assert index.add("a", TEXT) is None
    assert index.query(TEXT.upper().replace(" ", "  ") + "!") == ("a", 1.0)
    assert len(index) == 1


def test_similarity_is_the_true_jaccard_of_word_shingles() -> None:
    index = NearDuplicates(0.5)
    index.add("a", "one two three four five six seven")  # 5 shingles
    assert index.query("one two three four five six eight") == ("a", 4 / 6)
    assert index.query("one two three four nine ten eight") is None


def test_the_closest_earlier_text_is_named_and_the_earliest_of_equals() -> None:
    index = NearDuplicates(0.3)
    index.add("far", "a b c d e x y z")
    index.add("near", "a b c d e f g p q r s t u v")
    index.add("other", "h i j k l m n")
    assert index.query("a b c d e f g h") == ("near", 5 / 13)
    index = NearDuplicates(0.6)
    index.add("first", "a b c d e f g h")
    index.add("second", "a b c d e f y h u v w x")
    assert index.query("a b c d e f g h i") == ("first", 6 / 7)


@pytest.mark.parametrize("texts", [("Hi", "Hi there"), ("Hello world", "Hello word"), ("2 + 3", "2 - 3"), ("+", "-")])
def test_texts_of_few_words_repeat_only_exactly(texts: tuple[str, str]) -> None:
    for similarity in (0.5, 1.0):
        index = NearDuplicates(similarity)
        assert index.add("a", texts[0]) is None
        assert index.add("b", texts[1]) is None
        assert index.add("c", texts[0] + " ") == ("a", 1.0)


def test_texts_without_words_are_compared_as_they_stand() -> None:
    index = NearDuplicates(0.8)
    assert index.add("a", "???") is None
    assert index.add("b", "!!!") is None
    assert index.add("c", "???") == ("a", 1.0)


def test_scripts_without_spaces_are_compared_by_characters() -> None:
    index = NearDuplicates(0.6)
    index.add("a", "请用简单的话解释一下光合作用的过程")
    found = index.query("请用简单的话解释一下光合作用的原理")
    assert found is not None
    assert found == ("a", 13 / 17)
    assert index.query("请写一首关于春天的短诗") is None


def test_with_similarity_one_only_the_same_words_in_the_same_order_are_found() -> None:
    index = NearDuplicates(1.0)
    index.add("a", TEXT)
    assert index.query(TEXT + " well") is None
    assert index.query(TEXT + ".") == ("a", 1.0)
    index.add("b", "a b a b a b")
    assert index.query("a b a b a b a b") is None


def test_rows_are_compared_by_what_the_user_says_under_one_system_prompt() -> None:
    lineage = Lineage(source="s")
    plain = example(user_turn(TEXT), "r", lineage)
    other = example(user_turn(TEXT, "Be brief."), "r", lineage)
    turns = (
        Message(role="user", content="Hi"),
        Message(role="assistant", content="Ho"),
        Message(role="user", content="x"),
    )
    assert comparable(example(turns, "r", lineage)) == "Hi\nx"
    assert scope_of(other) == "Be brief."
    index = NearDuplicates(0.8)
    assert index.add_row(plain) is None
    assert index.query_row(other) is None
    assert index.add_row(other) is None
    assert index.query_row(plain) == (plain.id, 1.0)
    assert index.query_row(other) == (other.id, 1.0)


def test_a_query_indexes_nothing_and_a_duplicate_is_not_indexed() -> None:
    index = NearDuplicates(0.8)
    assert index.query(TEXT) is None
    assert index.add("a", TEXT) is None
    assert index.add("b", TEXT) == ("a", 1.0)
    assert len(index) == 1


def test_long_texts_are_compared_by_a_sketch() -> None:
    rng = random.Random(1)
    body = [f"w{rng.randrange(10**6)}" for _ in range(3000)]
    index = NearDuplicates(0.8)
    index.add("a", " ".join(body))
    found = index.query(" ".join(body[:2900]))
    assert found is not None
    assert found.similarity == pytest.approx(2898 / 2998, abs=0.05)
    assert index.query(" ".join(body[:1000])) is None
    assert index.query(" ".join(body)) == ("a", 1.0)


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.95])
def test_nearly_all_pairs_above_the_threshold_are_found(similarity: float) -> None:
    rng = random.Random(7)
    index = NearDuplicates(similarity)
    found = wanted = 0
    for number in range(400):
        text = [f"w{rng.randrange(10**6)}" for _ in range(200)]
        index.add(str(number), " ".join(text))
        edited = list(text)
        for _ in range(rng.randrange(1, 1 + round(40 * (1 - similarity)))):
            edited[rng.randrange(len(edited))] = "x"
        true = jaccard(set(hashed(shingled(text, ""))), hashed_array(shingled(edited, "")))
        if true >= similarity:
            wanted += 1
            found += index.query(" ".join(edited)) == (str(number), true)
    assert wanted > 20
    assert found >= 0.97 * wanted


def hashed_array(shingles: list[str]) -> "array[int]":
    return array("I", hashed(shingles))


def test_bands_follow_the_threshold() -> None:
    assert [rows_per_band(similarity) for similarity in (0.3, 0.5, 0.7, 0.8, 0.9, 0.99)] == [1, 2, 4, 6, 8, 8]


def test_answers_do_not_depend_on_the_process() -> None:
    index = NearDuplicates(0.7)
    assert index._bands is not None
    assert index._bands.hashes(list(range(48)))[:2] == [143530067, 2875779578]
    assert sorted(hashed(shingled(["one", "two", "three", "four"], ""))) == [68322742, 679024295]


def test_templates_stay_affordable_and_exact_copies_are_still_found() -> None:
    index = NearDuplicates(0.9)
    texts = [f"{TEXT} and use the number {a} {b} in it" for a, b in itertools.product(range(30), range(20))]
    for number, text in enumerate(texts):
        assert index.add(str(number), text) is None
    assert 0 < index.crowded <= len(texts) - CROWD
    assert all(index.query(text) == (str(number), 1.0) for number, text in enumerate(texts))


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), max_size=40))
def test_the_band_index_finds_exactly_the_rows_that_share_a_band(rows: list[list[int]]) -> None:
    index = BandIndex(4)
    for number, row in enumerate(rows):
        hashes = [value + 1 for value in row]
        want = {other for other in range(number) if any(a == b for a, b in zip(rows[other], row, strict=True))}
        assert index.candidates(hashes) == want
        index.add(hashes)
    assert len(index) == len(rows)


def test_the_band_index_grows() -> None:
    index = BandIndex(2)
    for number in range(10_000):
        index.add([number + 1, number % 97 + 1], is_findable=number != 5000)
    assert index.candidates([9_001, 500]) == {9_000}
    assert index.candidates([10**6, 3]) == set(range(2, 10_000, 97)) - {5000}
    assert index.candidates([5_001, 500]) == set()


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Hello, 2 + 2", "Latin"),
        ("Привет, world and more", "Latin"),
        ("Привет, мир", "Cyrillic"),
        ("今天天气很好", "Han"),
        ("今日は天気がいい", "Kana"),
        ("안녕하세요", "Hangul"),
        ("नमस्ते", "Devanagari"),
        ("2 + 2 = 4 😀", "none"),
        ("", "none"),
        ("ᚠᚢᚦ", "other"),
    ],
)
def test_the_script_is_that_of_most_letters(text: str, script: str) -> None:
    assert script_of(text) == script
