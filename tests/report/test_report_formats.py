"""Numbers and texts as they are shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from tapir.evaluation.results import Difference
from tapir.report.formats import cell, gap, is_figure, listed, share, shown, signed
from tapir.report.table import Cell


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), ("a", "a"), (3000, "3,000"), (2.25, "2.2"), (1234.5, "1,234.5"), (0, "0")]
)
def test_cells(value: Cell, text: str) -> None:
    assert cell(value) == text


@pytest.mark.parametrize("value", [3, 2.5, "1,234", "−0.25", "+12.0", "0.0360", "1e-05", "38.1\u00a0%"])
def test_figures_are_told_from_words(value: Cell) -> None:
    assert is_figure(value)


@pytest.mark.parametrize("value", [None, "", "Math", "1 of 2", "+1.0 [0.5, 2.0]", "v1"])
def test_words_are_told_from_figures(value: Cell) -> None:
    assert not is_figure(value)


def test_differences_carry_a_true_minus_and_no_signed_zero() -> None:
    assert signed(-1.25) == "−1.2"
    assert signed(0.04) == signed(-0.04) == "0.0"
    assert signed(3, 0) == "+3"
    assert gap(Difference(-1, -2.5, 0.01, 9)) == "−1.0\u00a0[−2.5,\u00a00.0]"


def test_a_share_of_nothing_is_a_dash() -> None:
    assert share(1, 0) == "–"
    assert share(1, 4) == "25.0\u00a0%"


def test_lists_read_as_sentences_do() -> None:
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_markup_is_escaped_and_invisible_characters_are_named() -> None:
    assert shown("<b>&") == Markup("&lt;b&gt;&amp;")
    assert shown("a\u202eb") == Markup('a<span class="hidden-char">U+202E</span>b')
    assert "U+200B" in shown("zero\u200bwidth")
    assert shown("line\nand\ttab") == Markup("line\nand\ttab")


def test_joiners_stay_where_a_script_or_an_emoji_needs_them() -> None:
    assert shown("می\u200cخواهم") == Markup("می\u200cخواهم")
    assert shown("👩\u200d💻") == Markup("👩\u200d💻")
    assert "U+200D" in shown("a\u200db")
    assert "U+200C" in shown("\u200c")


def test_a_long_text_is_cut_where_it_is_said() -> None:
    assert shown("abcdef", 3) == Markup("abc")


@given(st.text())
def test_what_is_shown_holds_no_markup_and_no_hidden_character(text: str) -> None:
    found = str(shown(text))
    plain = found.replace('<span class="hidden-char">', "").replace("</span>", "")
    assert "<" not in plain
    assert not any(char in found for char in "\u202e\u2066\u200b\x00")
