"""From raw rows to examples: shapes, repairs, traps and refusals."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.corpus import REASONS, REPAIRS, Bad, Cleaning, Raw, clean
from tapir.corpus.traps import find_trap, mend_input, mend_response
from tapir.rows import Example, Lineage, Message, Refused, turns_id, user_turn

ALPACA = Path(os.environ.get("TAPIR_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")) / "alpaca"
"""Where the two Alpaca files lie; the test that reads them is skipped without."""
CLEANING = Cleaning(max_chars=1000, license=None)


def cleaned(fields: dict[str, Any]) -> Any:
    return clean(Raw("rows.jsonl", "line 1", fields), CLEANING)


def accepted(fields: dict[str, Any]) -> tuple[list[tuple[str, str]], str, list[str]]:
    """Turns, response and the kinds of repair of a row that must be accepted."""
    result = cleaned(fields)
    assert isinstance(result.row, Example), result.row
    assert result.row.id == turns_id(result.row.turns)
    kinds = [repair.kind for repair in result.repairs]
    assert set(kinds) <= set(REPAIRS)
    return [(turn.role, turn.content) for turn in result.row.turns], result.row.response, kinds


def reason(fields: dict[str, Any]) -> str:
    """The reason for which a row must be refused."""
    row = cleaned(fields).row
    assert isinstance(row, Refused), row
    assert row.reason in REASONS
    assert row.detail.startswith("rows.jsonl, line 1: ")
    return row.reason


def asks(*turns: str) -> list[dict[str, str]]:
    """Messages by user and assistant in turn; one that begins with `system:` is the system's."""
    roles = ["user", "assistant"]
    messages = []
    for index, text in enumerate(text for text in turns if not text.startswith("system:")):
        messages.append({"role": roles[index % 2], "content": text})
    system = [{"role": "system", "content": text[7:]} for text in turns if text.startswith("system:")]
    return system + messages


@pytest.mark.parametrize(
    "fields",
    [
        {"instruction": "Add.", "input": "2 3", "output": "5"},
        {"instruction": "Add.", "context": "2 3", "response": "5", "category": "math"},
        {"prompt": "Add.\n\n2 3", "completion": "5"},
        {"question": "Add.", "context": "2 3", "answer": "5"},
        {"Instruction": "Add.", "Input": "2 3", "Output": "5"},
        {"input": "Add.\n\n2 3", "output": "5"},
        {"instruction": "Add.", "input": "2 3", "output": "5", "prompt": "Below is an instruction ... Add."},
        {"instruction": "", "input": "Add.\n\n2 3", "output": "5"},
        {"messages": asks("Add.\n\n2 3", "5")},
        {"conversation": asks("Add.\n\n2 3", "5")},
        {"conversations": [{"from": "human", "value": "Add.\n\n2 3"}, {"from": "gpt", "value": "5"}]},
        {"conversations": [{"from": "user", "value": "Add.\n\n2 3"}, {"from": "assistant", "value": "5"}]},
        {"prompt": asks("Add.\n\n2 3"), "completion": [{"role": "assistant", "content": "5"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Add.\n\n2 3"}]}, *asks("x", "5")[1:]]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "input_text", "text": "Add.\n\n2 3"}]},
                *asks("x", "5")[1:],
            ]
        },
    ],
)
def test_every_shape_gives_the_same_example(fields: dict[str, Any]) -> None:
    assert accepted(fields) == ([("user", "Add.\n\n2 3")], "5", [])


@pytest.mark.parametrize(
    "fields",
    [
        {"instruction": "Hi", "output": "Ho", "system": "Be brief."},
        {"system_prompt": "Be brief.", "question": "Hi", "response": "Ho"},
        {"messages": asks("system:Be brief.", "Hi", "Ho")},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}], "system": "Be brief."},
    ],
)
def test_system_prompts_are_kept(fields: dict[str, Any]) -> None:
    assert accepted(fields) == ([("system", "Be brief."), ("user", "Hi")], "Ho", [])


def test_the_last_response_is_the_one_to_learn_and_earlier_exchanges_stay() -> None:
    turns = [("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c")]
    assert accepted({"messages": asks("system:S", "a", "b", "c", "d")}) == (turns, "d", [])
    alpaca = {"instruction": "c", "output": "d", "system": "S", "history": [["a", "b"]]}
    assert accepted(alpaca) == (turns, "d", [])


@pytest.mark.parametrize("text", ["", " \n", "\u200b", None])
def test_a_system_turn_without_text_is_removed_and_counted(text: str | None) -> None:
    messages = [{"role": "system", "content": text}, *asks("a", "b")]
    assert accepted({"messages": messages}) == ([("user", "a")], "b", ["empty-system"])
    turns = [("system", "S"), ("user", "a")]
    assert accepted({"messages": messages, "system": "S"}) == (turns, "b", ["empty-system"])


def test_an_unanswered_turn_is_cut_and_counted() -> None:
    assert accepted({"messages": asks("a", "b", "c")}) == ([("user", "a")], "b", ["unanswered-turn"])


def test_a_greeting_before_the_first_instruction_is_cut_and_counted() -> None:
    messages = [{"role": "assistant", "content": "Hello!"}, *asks("a", "b")]
    assert accepted({"messages": messages}) == ([("user", "a")], "b", ["leading-response"])


def test_neighbouring_turns_of_one_speaker_are_joined_and_counted() -> None:
    messages = [*asks("a"), *asks("b", "c")]
    assert accepted({"messages": messages}) == ([("user", "a\n\nb")], "c", ["joined-turns"])


def test_a_conversation_written_as_json_inside_a_text_is_read() -> None:
    assert accepted({"messages": json.dumps(asks("a", "b"))}) == ([("user", "a")], "b", ["json-in-text"])


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({"messages": asks("a")}, "no-response"),
        ({"messages": [{"role": "system", "content": "S"}]}, "no-instruction"),
        ({"messages": [{"role": "assistant", "content": "b"}, *asks("a")]}, "no-instruction"),
        ({"messages": []}, "no-instruction"),
        ({"messages": "not a list"}, "wrong-type"),
        ({"messages": ["a", "b"]}, "wrong-type"),
        ({"messages": [{"role": "alien", "content": "a"}]}, "unknown-role"),
        ({"messages": [{"content": "a"}]}, "unknown-role"),
        ({"messages": [*asks("a"), {"role": "tool", "content": "x"}, *asks("b", "c")]}, "tool-turns"),
        ({"messages": [*asks("a"), {"role": "system", "content": "x"}, *asks("b", "c")[1:]]}, "turn-order"),
        ({"messages": asks("a", " ", "c", "d")}, "empty-turn"),
        ({"messages": asks("a", "")}, "empty-response"),
        ({"messages": asks(" ", "b")}, "empty-instruction"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, *asks("a", "b")]}, "missing-media"),
        ({"instruction": "a"}, "unknown-shape"),
        ({"output": "b"}, "unknown-shape"),
        ({"text": "a"}, "unknown-shape"),
        ({}, "unknown-shape"),
        ({"instruction": "a", "output": ""}, "empty-response"),
        ({"instruction": "a", "output": None}, "empty-response"),
        ({"instruction": "a", "output": " \n\t"}, "empty-response"),
        ({"instruction": None, "output": "b"}, "empty-instruction"),
        ({"instruction": "\u200b \x00", "output": "b"}, "empty-instruction"),
        ({"instruction": "a", "output": "\u200b\u2060\ufeff\u2800"}, "empty-response"),
        ({"instruction": "<image>\nWhat is it?", "output": "A bus."}, "missing-media"),
        ({"messages": [*asks("a\n <video> ", "b", "c", "d")]}, "missing-media"),
        ({"instruction": "a", "output": "[output]"}, "placeholder-response"),
        ({"instruction": {"a": 1}, "output": "b"}, "wrong-type"),
        ({"instruction": "a", "output": ["b", "c"]}, "wrong-type"),
        ({"instruction": "a", "output": True}, "wrong-type"),
        ({"instruction": "a", "output": b"\xff"}, "not-utf-8"),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, "wrong-type"),
        ({"instruction": "a", "output": "b", "response": "c"}, "ambiguous-columns"),
        ({"prompt": "a", "question": "b", "answer": "c"}, "ambiguous-columns"),
        ({"instruction": "a" * 999, "output": "bb"}, "too-long"),
        ({"instruction": "<noinput>", "output": "b"}, "placeholder-instruction"),
        ({"instruction": "N/A", "output": "b"}, "placeholder-instruction"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_with_their_reason(fields: dict[str, Any], want: str) -> None:
    assert reason(fields) == want


def test_a_row_of_exactly_the_longest_length_is_accepted() -> None:
    assert accepted({"instruction": "a" * 999, "output": "b"})[2] == []


@pytest.mark.parametrize(
    ("given_text", "kept", "kinds"),
    [
        ("  a b \n", "a b", ["outer-whitespace"]),
        ("a\r\nb\rc", "a\nb\nc", ["line-endings"]),
        ("a\x00b\x1b[0mc\td", "ab[0mc\td", ["control-characters"]),
        ("a\ud800b", "a\ufffdb", ["lone-surrogate"]),
        ("it\x92s", "it’s", ["windows-1252"]),
        ("\ufeffa", "a", ["byte-order-mark"]),
        ("a  b\n\n\tc", "a  b\n\n\tc", []),
        ("👩\u200d👧 \u0633\u200c", "👩\u200d👧 \u0633\u200c", []),
        ("e\u0301 ﬁ \u202e x", "e\u0301 ﬁ \u202e x", []),
    ],
)
def test_texts_are_changed_only_as_counted(given_text: str, kept: str, kinds: list[str]) -> None:
    assert accepted({"instruction": given_text, "output": "b"}) == ([("user", kept)], "b", kinds)
    assert accepted({"instruction": "a", "output": given_text}) == ([("user", "a")], kept, kinds)


@pytest.mark.parametrize(
    ("value", "kept", "kinds"),
    [
        (42, "42", ["number-as-text"]),
        (2.5, "2.5", ["number-as-text"]),
        (["5"], "5", ["single-item-list"]),
        ("ö".encode(), "ö", ["bytes-as-text"]),
    ],
)
def test_values_that_are_no_texts_are_read_and_counted(value: Any, kept: str, kinds: list[str]) -> None:
    assert accepted({"instruction": "a", "output": value}) == ([("user", "a")], kept, kinds)


def test_a_missing_input_may_be_null_nan_or_empty() -> None:
    for value, kinds in ((None, []), ("", []), (float("nan"), ["nan-to-null"])):
        assert accepted({"instruction": "a", "input": value, "output": "b"}) == ([("user", "a")], "b", kinds)


def test_lineage_comes_from_the_row_where_it_says_something() -> None:
    row = cleaned({"instruction": "a", "output": "b"}).row
    assert row.lineage == Lineage(source="rows.jsonl")
    fields = {"instruction": "a", "output": "b", "source": "flan", "license": "MIT", "model": "gpt-4", "round": 2}
    row = cleaned({**fields, "parents": ["x", "y"], "id": "../../etc/passwd"}).row
    assert row.lineage == Lineage(source="flan", license="MIT", teacher="gpt-4", round=2, parents=("x", "y"))
    licensed = clean(Raw("f", "row 1", {"instruction": "a", "output": "b"}), Cleaning(license="CC-BY-4.0")).row
    assert isinstance(licensed, Example)
    assert licensed.lineage.license == "CC-BY-4.0"
    odd = {"source": ["a"], "license": 5, "round": "2", "parents": "x", "model": " "}
    assert cleaned({"instruction": "a", "output": "b", **odd}).row.lineage == Lineage(source="rows.jsonl")


def test_refusals_of_rows_that_could_not_be_read_have_ids_of_their_places() -> None:
    first = clean(Bad("f", "line 1", "broken-json", "cut", "{"), CLEANING).row
    second = clean(Bad("f", "line 2", "broken-json", "cut", "{"), CLEANING).row
    assert isinstance(first, Refused)
    assert (first.reason, first.detail, first.text) == ("broken-json", "f, line 1: cut", "{")
    assert first.id != second.id


PLACEHOLDER_INPUTS = (
    "<noinput>", "noinput", "Noinput", "NoInput", "No input", "No input.", "no input", "<no input>", "<No Input>",
    "< noinput >", "(no input)", "[noinput]", '"<noinput>"', "`<noinput>`", "\\<noinput\\>", "<noinput>,", "<noinputs>",
    "<noinpute>", "<noinput", "No input required", "No input required.", "No input needed.", "No input provided",
    "Input not required", "N/A", "<N/A>", "None", "none", "<none>", "null", "nan", "(empty)", "Not applicable",
    "No input needed for this task.", "There is no input.", "No context provided",
)  # fmt: skip


@pytest.mark.parametrize("text", PLACEHOLDER_INPUTS)
def test_inputs_that_say_that_there_is_none_are_removed(text: str) -> None:
    fields = {"instruction": "Name three fruits.", "input": text, "output": "Apple, pear, plum."}
    assert accepted(fields) == ([("user", "Name three fruits.")], "Apple, pear, plum.", ["placeholder-input"])


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        ("Translate the following word into French.", "None"),
        ("Expand the given abbreviation.", "N/A"),
        ("Which type has this value in Python?", "None"),
        ("Name the element with this symbol.", "Na"),
        ("Correct the spelling.", "Inputt"),
        ("Negate the sentence.", "No."),
        ("Write a query.", "[Table]"),
        ("Sort the list.", "[]"),
        ("Say what follows.", "Nothing"),
        ("Is it a good idea?", "No inputs were harmed in the making of this film."),
    ],
)
def test_short_inputs_that_mean_something_stay(instruction: str, text: str) -> None:
    assert mend_input(instruction, text) == (text, None)
    assert find_trap(instruction, text, "Yes.", had_placeholder=False) is None


def test_a_line_that_says_that_there_is_no_input_is_removed() -> None:
    fields = {"instruction": "Write a letter.", "input": "Joe Smith \n<noinput>", "output": "Dear Joe"}
    assert accepted(fields)[0] == [("user", "Write a letter.\n\nJoe Smith")]
    assert accepted(fields)[2] == ["placeholder-line"]
    assert mend_input("Complete.", "He was <noinput>")[1] is None
    assert mend_response("<noinput>\n\nThe answer")[0] == "The answer"


@pytest.mark.parametrize(
    "text",
    [
        "<nooutput>", "<no output>", "<NoOutput>", "No output", "no output.", "<noinput>", "<none>", "<N/A>",
        "<No output. The task requires a poster, not text.>", "<nooutput> - Visuals cannot be created.",
        "No output as GPT models cannot create visual or audio output.",
        "No output possible, this is not suitable for a GPT language model.",
    ],
)  # fmt: skip
def test_responses_that_were_never_written_are_refused(text: str) -> None:
    assert reason({"instruction": "Design a logo.", "output": text}) in ("placeholder-response", "unable-response")


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        ("Which of these numbers is prime? 4, 6, 8", "None"),
        ("What does print(None) show?", "None"),
        ("What is the output of this program? pass", "No output"),
        ("What does this code print? x = 1", "No output."),
        ("Extract the telephone number, or write N/A.", "N/A"),
        ("Does it rain?", "No"),
        ("Remove every item from the list.", "[]"),
        ("Give the value of an absent key in JSON.", "null"),
        ("Is there a solution?", "Not applicable"),
        ("Which HTML element embeds sound?", "<audio>"),
        ("Write an HTML tag for a picture.", '<img src="image.jpg">'),
        ("Extract the nouns as a list.", "[graph]"),
        ("Describe the loop.", "No output is produced, because the loop never runs."),
    ],
)
def test_short_responses_that_mean_something_stay(instruction: str, text: str) -> None:
    assert accepted({"instruction": instruction, "output": text}) == ([("user", instruction)], text, [])


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        ("Make a sketch of a beach.", "<sketch/drawing>"),
        ("Compose a piano tune.", "[MUSICAL PIECE]"),
        ("Design a logo.", "![Logo](https://i.imgur.com/HJkfX5E.png)"),
        ("Draw a word cloud.", '<img src="word-cloud.png" alt="Word Cloud">'),
        ("Compose a melody.", '<audio src="https://a.b/c.mp3">Happy Birthday</audio>'),
    ],
)
def test_responses_that_stand_for_media_are_refused(instruction: str, text: str) -> None:
    assert reason({"instruction": instruction, "output": text}) == "media-response"


@pytest.mark.parametrize(
    ("instruction", "text", "want"),
    [
        ("Describe the scene in this photo.", "[Insert Photo Here]", "missing-media"),
        ("Name the country of this flag.", "(Flag image)", "missing-media"),
        ("Compliment the painting.", "Painting: (attached image)", "missing-media"),
        ("Name the bird.", '<img src="https://i.imgur.com/aVDU6IH.jpg" alt="Bird">', "missing-media"),
        ("Summarise the article.", "<LINK TO ARTICLE>", "missing-media"),
        ("Summarize the article.", "https://www.nytimes.com/2021/a.html", "missing-link"),
        ("Describe the painting in the link.", "Link: https://a.org/b", "missing-link"),
        ("Name the instrument in the song.", "https://www.youtube.com/watch?v=1", "missing-link"),
        ("Give the domain of this website address.", "http://www.example.com/", None),
        ("Normalize the URL.", "https://www.google.com/search?q=a", None),
        ("Write alt text as an HTML tag.", "[Image of a cat]", None),
        ("Describe it.", "<Image of a misty mountain valley during sunrise>", None),
        ("Summarise.", "Read https://a.org/b for the facts: cats sleep up to sixteen hours a day.", None),
    ],
)
def test_instructions_about_what_is_not_there_are_refused(instruction: str, text: str, want: str | None) -> None:
    fields = {"instruction": instruction, "input": text, "output": "An answer."}
    if want is None:
        assert accepted(fields)[0] == [("user", f"{instruction}\n\n{text}")]
    else:
        assert reason(fields) == want


def test_a_second_instruction_after_the_response_is_cut_off() -> None:
    merged = "She watered them.\n##\n6. Instruction: Write a poem.\n6. Input:\n<noinput>\n6. Output:\nRoses"
    _, response, kinds = accepted({"instruction": "Make it active.", "output": merged})
    assert (response, kinds) == ("She watered them.", ["merged-instruction"])
    recipe = "Ingredients:\n- milk\n\nInstructions:\n1. Stir.\n2. Serve."
    assert accepted({"instruction": "Give a recipe.", "output": recipe})[1:] == (recipe, [])
    numbered = "Steps:\n6. Instruction: read it.\n7. Do it."
    assert accepted({"instruction": "List steps.", "output": numbered})[1:] == (numbered, [])


@pytest.mark.timeout(5)
def test_hostile_texts_are_judged_in_linear_time() -> None:
    cleaning = Cleaning(max_chars=10**6)
    for unit in ("\n1. Instruction:", "\n---", "[" * 10, "what ", "<noinput>\n", "\n#", "(" * 10, "No output because "):
        for name in ("instruction", "input", "output"):
            fields = {"instruction": "a", "input": "b", "output": "c", name: unit * 8_000}
            clean(Raw("f", "row 1", fields), cleaning)


@pytest.mark.skipif(not ALPACA.exists(), reason="the Alpaca rows are not on this machine")
def test_the_traps_of_alpaca_are_found_as_often_as_a_person_found_them() -> None:
    counts: Counter[str] = Counter()
    for name in ("alpaca_random_9229.json.gz", "alpaca_extra_selected.json.gz"):
        for index, fields in enumerate(json.loads(gzip.decompress((ALPACA / name).read_bytes()))):
            result = clean(Raw(name, f"row {index + 1}", fields), Cleaning())
            counts["rows"] += 1
            counts.update([result.row.reason] if isinstance(result.row, Refused) else [])
            counts.update({repair.kind for repair in result.repairs})
    assert counts == {
        "rows": 17387,
        "missing-link": 50,
        "missing-media": 40,
        "placeholder-response": 30,
        "media-response": 24,
        "unable-response": 13,
        "empty-response": 9,
        "placeholder-input": 243,
        "merged-instruction": 21,
        "placeholder-line": 6,
        "control-characters": 2,
        "outer-whitespace": 1,
    }


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["instruction", "input", "output", "prompt", "completion", "messages", "conversations", "history", "system"]
) | st.sampled_from(["role", "from", "content", "value", "source", "round", "parents", "x"])
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "human", "tool"]), "content": st.text(max_size=20)}
)


@given(st.dictionaries(NAMES, JSON_VALUES | st.lists(TURNS, max_size=5), max_size=5))
def test_any_row_is_either_accepted_or_refused_and_never_raises(fields: dict[str, Any]) -> None:
    row = clean(Raw("f", "row 1", fields), CLEANING).row
    if isinstance(row, Refused):
        assert row.reason in REASONS
        row.text.encode()
        row.detail.encode()
    else:
        assert row.turns[-1].role == "user"
        assert all(turn.content.strip() for turn in row.turns)
        assert row.response.strip()
        "".join(turn.content for turn in row.turns).encode()
        roles = [turn.role for turn in row.turns if turn.role != "system"]
        assert roles == (["user", "assistant"] * len(roles))[: len(roles)]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60))
def test_plain_text_comes_through_unchanged(text: str) -> None:
    fields = {"instruction": f"Say: {text}!", "output": f"It is: {text}!"}
    if "\ufeff" not in text:
        assert accepted(fields) == ([("user", f"Say: {text}!")], f"It is: {text}!", [])


def test_the_example_is_the_one_that_other_code_makes() -> None:
    row = cleaned({"instruction": "Hi", "output": "Ho", "system": "S"}).row
    assert (
        row.turns == user_turn("Hi", "S") == (Message(role="system", content="S"), Message(role="user", content="Hi"))
    )
