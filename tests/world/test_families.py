"""The world's families: instructions read back into what wrote them, and answers that an independent check confirms."""

import json
import re
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapir.dedup import NearDuplicates
from tapir.errors import DataError
from tapir.world.facts import ATTRIBUTES, COUNTRIES, RESIDENTS, WORDS
from tapir.world.families import DIFFICULTIES, FAMILIES, FAMILY_TASKS, Item, generate, like, solve
from tapir.world.instructions import WRITERS, plural, random_word

seeds = st.integers(0, 2**32)
families = st.sampled_from(FAMILIES)
difficulties = st.sampled_from(DIFFICULTIES)


@settings(max_examples=400)
@given(seeds, families, difficulties)
def test_an_instruction_is_read_back_as_the_family_and_difficulty_that_wrote_it(
    seed: int, family: str, difficulty: int
) -> None:
    item = generate(Random(seed), family, difficulty)
    assert (item.family, item.difficulty) == (family, difficulty)
    assert solve(item.instruction) == item
    assert item.instruction == WRITERS[family](Random(seed), difficulty)


@pytest.mark.parametrize("family", FAMILIES)
def test_different_instructions_are_never_taken_for_repeats(family: str) -> None:
    rng = Random(3)
    instructions = {generate(rng, family, difficulty).instruction for difficulty in DIFFICULTIES for _ in range(200)}
    index = NearDuplicates(1.0)
    assert [index.add(text, text) for text in sorted(instructions)] == [None] * len(instructions)


@given(seeds, families, difficulties)
def test_a_refined_response_ends_in_the_direct_answer(seed: int, family: str, difficulty: int) -> None:
    item = generate(Random(seed), family, difficulty)
    if family in ("text", "format"):
        assert item.refined == item.direct
    else:
        assert item.refined.endswith(f" Answer: {item.direct}")
        assert item.refined.count("Answer: ") == 1


@given(seeds, difficulties)
def test_math_answers_are_what_python_computes(seed: int, difficulty: int) -> None:
    item = generate(Random(seed), "math", difficulty)
    first, op, second = re.search(r"(\d+)([-+*])(\d+)", item.instruction).groups()  # type: ignore[union-attr]
    assert int(item.direct) == {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[op](int(first), int(second))
    assert int(item.refined.split(" Answer")[0].rpartition(",")[2]) == int(item.direct)


@given(seeds, st.sampled_from(("math", "reason", "code", "conv")), difficulties)
def test_every_equation_of_a_worked_answer_is_true(seed: int, family: str, difficulty: int) -> None:
    steps = generate(Random(seed), family, difficulty).refined.split(" Answer")[0]
    for step in steps.split("; "):
        sides = [side for side in step.split(",")[0].split("=") if side not in ("x", "y", "z")]
        values = [eval(re.sub(r"\b0+(?=\d)", "", side)) for side in sides]
        assert len(values) >= 2
        assert len(set(values)) == 1, step


@given(seeds, difficulties)
def test_code_prints_what_running_it_prints(seed: int, difficulty: int) -> None:
    item = generate(Random(seed), "code", difficulty)
    program = re.search(r"output of (.*)\; print\((.)\)", item.instruction)
    assert program is not None
    names: dict[str, int] = {}
    exec(program[1], {}, names)
    assert str(names[program[2]]) == item.direct


@given(seeds, difficulties)
def test_closing_brackets_balance_the_string(seed: int, difficulty: int) -> None:
    item = generate(Random(seed), "debug", difficulty)
    opened = re.search(r"[][(){}]+", item.instruction)
    assert opened is not None
    text = opened[0] + item.direct
    while text != (shorter := text.replace("()", "").replace("[]", "").replace("{}", "")):
        text = shorter
    assert text == ""
    assert len(item.direct) == difficulty + 1


@given(seeds, difficulties)
def test_format_answers_are_sorted_json(seed: int, difficulty: int) -> None:
    item = generate(Random(seed), "format", difficulty)
    numbers = [int(number) for number in re.findall(r"\d+", item.instruction)]
    assert json.loads(item.direct) == {"sorted": sorted(numbers)}
    assert len(numbers) == difficulty + 1


@given(seeds, difficulties)
def test_every_sentence_of_a_knowledge_chain_is_a_fact(seed: int, difficulty: int) -> None:
    item = generate(Random(seed), "know", difficulty)
    sentences = re.findall(r"(.+?)\.(?: |$)", item.refined.rpartition(" Answer")[0])
    assert len(sentences) == {1: 1, 2: 2, 3: 2, 4: 4, 5: 5}[difficulty]
    for sentence in sentences:
        words = sentence.split()
        if words[1] == "lives":
            assert RESIDENTS[words[0]] == words[-1]
        elif words[0] == "The":
            assert COUNTRIES[words[3]][ATTRIBUTES.index(words[1])] == words[-1]
        elif words[2] == "the":
            assert COUNTRIES[words[-1]][ATTRIBUTES.index(words[3])] == words[0]
        else:
            assert COUNTRIES[words[0]][2] == words[-1]


@given(seeds, difficulties)
def test_comparisons_have_exactly_one_right_resident(seed: int, difficulty: int) -> None:
    item = generate(Random(seed), "know", 4)
    continent, first, second = re.fullmatch(r"Who lives in (\w+), (\w+) or (\w+)\?", item.instruction).groups()  # type: ignore[union-attr]
    there = [name for name in (first, second) if COUNTRIES[RESIDENTS[name]][2] == continent]
    assert there == [item.direct]


@given(seeds, st.sampled_from((3, 4, 5)))
def test_reversed_words_are_never_words_of_the_world(seed: int, difficulty: int) -> None:
    item = generate(Random(seed), "text", difficulty)
    word = item.direct[::-1]
    assert word in item.instruction
    assert not {word, item.direct, word.upper()} & set(WORDS)


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("wug", "wugs"),
        ("box", "boxes"),
        ("lass", "lasses"),
        ("arch", "arches"),
        ("bush", "bushes"),
        ("lazz", "lazzes"),
        ("city", "cities"),
        ("toy", "toys"),
    ],
)
def test_plurals_follow_the_regular_rules(noun: str, expected: str) -> None:
    assert plural(noun) == expected


@pytest.mark.parametrize(
    ("instruction", "difficulty", "refined"),
    [
        ("What is 345+678?", 4, "5+8=13,3; 4+7+1=12,23; 3+6+1=10,1023 Answer: 1023"),
        ("Tell me 452-178.", 4, "12-8=4,4; 15-7-1=7,74; 4-1-1=2,274 Answer: 274"),
        ("Give 47*6.", 3, "7*6=42,2; 4*6+4=24+4=28,282 Answer: 282"),
        ("Ana has 7 pens. Then buys 5. Then doubles them. How many?", 2, "7+5=12; 12*2=24 Answer: 24"),
        ("Give the output of x=4; y=x+3; x=y*2; print(x).", 2, "y=4+3=7; x=7*2=14 Answer: 14"),
        ("What is the closing brackets of ([(){?", 2, "open ([{; close }]) Answer: }])"),
        ("Give 45, 3, 78 sorted as JSON.", 2, '{"sorted": [3, 45, 78]}'),
        ("Tell me the plural of wuggy.", 2, "wuggies"),
        ("What is 7 hours and 58 minutes in minutes?", 3, "7*60=420; 420+58=478 Answer: 478"),
        (
            "Give the time 5 hours and 47 minutes after 21:35.",
            5,
            "35+47=82; 82=1*60+22; 21+5+1=27; 27-24=3 Answer: 3:22",
        ),
    ],
)
def test_known_instructions_have_known_solutions(instruction: str, difficulty: int, refined: str) -> None:
    item = solve(instruction)
    assert (item.difficulty, item.refined) == (difficulty, refined)


@pytest.mark.parametrize(
    "instruction",
    [
        "",
        "Write a poem about the sea.",
        "What is 3+4",
        "What is 03+4?",
        "What is 3-7?",
        "What is 103-98?",
        "What is ٣+٤?",
        "What is 99999+1?",
        "Ana has 7 pens. Then buys 5. How many books now?",
        "Give the output of x=4; y=z+3; print(y).",
        "Give the output of x=4; y=x+3; print(z).",
        "What is the closing brackets of ([)?",
        "What is the capital of Atlantis?",
        "What is the capital of the country with capital Tokyo?",
        "Tell me the country with capital Atlantis.",
        "Tell me Japan.",
        "Who lives in Asia, Ana or Ana?",
        "Give 0, 5 sorted as JSON.",
        "What is 7 hours in days?",
        "Tell me the time 5 minutes after 24:00.",
        "What is 3+4?\n",
    ],
)
def test_what_is_not_of_the_world_is_refused(instruction: str) -> None:
    with pytest.raises(DataError, match="not an instruction of the embedded world"):
        solve(instruction)


@given(st.text(max_size=60))
def test_solving_arbitrary_text_answers_or_refuses(text: str) -> None:
    with suppress(DataError):
        assert isinstance(solve(text), Item)


@given(seeds, families, difficulties)
def test_a_like_item_keeps_the_family_and_moves_at_most_one_difficulty(seed: int, family: str, difficulty: int) -> None:
    rng = Random(seed)
    item = generate(rng, family, difficulty)
    new = like(item, rng)
    assert new.family == family
    assert abs(new.difficulty - difficulty) <= 1


def test_like_items_follow_the_stated_shares() -> None:
    rng = Random(0)
    item = generate(rng, "math", 3)
    counts = [0] * 6
    for _ in range(2000):
        counts[like(item, rng).difficulty] += 1
    assert [round(count / 2000, 1) for count in counts] == [0, 0, 0.1, 0.7, 0.2, 0]


def test_every_family_stands_for_a_task_of_its_own() -> None:
    assert len(set(FAMILY_TASKS.values())) == len(FAMILIES) == 8


def test_random_words_have_the_length_asked_for() -> None:
    assert [len(random_word(Random(n), 6, "ch")) for n in range(20)] == [6] * 20
