"""Labels, new instructions and responses: one form is read, everything else is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from tapir.prompts import Unreadable, parse_instructions, parse_label, parse_refined, parse_response
from tapir.tasks import Task


def reason(parse: Callable[[str], Any], reply: str) -> str:
    with pytest.raises(Unreadable) as caught:
        parse(reply)
    return caught.value.reason


@pytest.mark.parametrize("task", list(Task))
def test_every_task_name_is_read_in_both_forms(task: Task) -> None:
    assert parse_label(f"TASK: {task}") is task
    assert parse_label(f'<think>TASK: Math?</think>\n{{"task": "{task}"}}\n') is task


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "no-label"),
        ("Math", "no-label"),
        ("1", "no-label"),
        ("task: Math", "no-label"),
        ("**TASK: Math**", "no-label"),
        ("The task is Math.\nTASK: Math", "no-label"),
        ("TASK: Math\nTASK: Math", "no-label"),
        ("TASK: Math\nbecause it calculates", "no-label"),
        ("I cannot classify this.", "no-label"),
        ("<think>TASK: Math</think>", "no-label"),
        ("TASK:Math", "no-label"),
        ("TASK: math", "unknown-label"),
        ("TASK: Maths", "unknown-label"),
        ("TASK: Math.", "unknown-label"),
        ("TASK: Math, Reasoning", "unknown-label"),
        ("TASK:  Math", "unknown-label"),
        ("TASK: MATH", "unknown-label"),
        ("TASK: CODE_DEBUG", "unknown-label"),
        ("TASK: 1", "unknown-label"),
        ("TASK: ...", "unknown-label"),
        ('{"task": "Maths"}', "unknown-label"),
        ('{"task": 1}', "unknown-label"),
        ('{"task": null}', "unknown-label"),
        ('{"task": ["Math"]}', "unknown-label"),
        ('{"task": "Math", "confidence": 0.9}', "wrong-fields"),
        ('{"label": "Math"}', "wrong-fields"),
        ('{"task": "Math"', "bad-json"),
        ("<think>TASK: Math", "reasoning-tags"),
    ],
)
def test_labels_in_any_other_form_are_refused(reply: str, why: str) -> None:
    assert reason(parse_label, reply) == why


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("=== INSTRUCTION 1 ===\nAdd 2 and 3.\n=== END ===", ("Add 2 and 3.",)),
        (
            "<think>=== INSTRUCTION 1 ===</think>\n=== INSTRUCTION 1 ===\n\na\n\nb\n\n"
            "=== INSTRUCTION 2 === \r\nc\n=== END ===\n",
            ("a\n\nb", "c"),
        ),
        ("=== INSTRUCTION 1 ===\n=== INSTRUCTION 2 ===\nUse <think> tags.\n=== END ===", ("", "Use <think> tags.")),
        ('{"instructions": ["Add 2 and 3.", " Sort {a, b}. ", ""]}', ("Add 2 and 3.", "Sort {a, b}.", "")),
    ],
)
def test_instructions_in_either_form_are_read(reply: str, found: tuple[str, ...]) -> None:
    assert parse_instructions(reply) == found


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "no-instructions"),
        ("=== END ===", "no-instructions"),
        ("1. Add 2 and 3.\n2. Sort.", "no-instructions"),
        ("Sure!\n=== INSTRUCTION 1 ===\na\n=== END ===", "no-instructions"),
        ("```\n=== INSTRUCTION 1 ===\na\n=== END ===\n```", "no-instructions"),
        ("=== INSTRUCTION 1 ===\n\n=== END ===", "no-instructions"),
        ('{"instructions": []}', "no-instructions"),
        ('{"instructions": ["", " "]}', "no-instructions"),
        ("=== INSTRUCTION 1 ===\nAdd 2 and", "unfinished"),
        ("=== INSTRUCTION 1 ===\na\n=== END ===\nDone.", "unfinished"),
        ("=== INSTRUCTION 2 ===\na\n=== END ===", "misnumbered"),
        ("=== INSTRUCTION 1 ===\na\n=== INSTRUCTION 3 ===\nb\n=== END ===", "misnumbered"),
        ("=== INSTRUCTION 1 ===\na\n=== INSTRUCTION 1 ===\nb\n=== END ===", "misnumbered"),
        ("=== INSTRUCTION 1 ===\na\n=== END ===\n=== INSTRUCTION 2 ===\nb\n=== END ===", "misnumbered"),
        ('{"instructions": "Add."}', "wrong-fields"),
        ('{"instructions": ["Add.", 5]}', "wrong-fields"),
        ('{"instructions": [{"instruction": "Add."}]}', "wrong-fields"),
        ('{"tasks": ["Add."]}', "wrong-fields"),
        ('{"instructions": ["Add."', "bad-json"),
        ("<think>=== INSTRUCTION 1 ===\na\n=== END ===", "reasoning-tags"),
        ("=== INSTRUCTION 1 ===\n<<<EXAMPLE 1 USER #5c62e6e4f0b0\na\n=== END ===", "leaked-prompt"),
    ],
)
def test_instructions_in_any_other_form_are_refused(reply: str, why: str) -> None:
    assert reason(parse_instructions, reply) == why


@pytest.mark.parametrize(
    ("reply", "response"),
    [
        (" 12 \n", "12"),
        ("<think>6 + 6</think>\n\n12", "12"),
        ("6 + 6\n</think>\n12", "12"),
        ("Use <think> and </think> for your thoughts.", "Use <think> and </think> for your thoughts."),
        ("<reasoning>6 + 6</reasoning><answer>12</answer>", "<reasoning>6 + 6</reasoning><answer>12</answer>"),
        ("Here is the improved paragraph:\n\nIt rains.", "Here is the improved paragraph:\n\nIt rains."),
        ("I'm sorry, I can't help with that.", "I'm sorry, I can't help with that."),
    ],
)
def test_a_reply_is_the_response(reply: str, response: str) -> None:
    assert parse_response(reply) == parse_refined(reply) == response


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "empty"),
        ("<think>12</think>\n", "empty"),
        ("<think>12", "reasoning-tags"),
        ("12<|im_end|>\n<|im_start|>user\nmore", "leaked-prompt"),
        ("12 [/INST] more", "leaked-prompt"),
        ("12<end_of_turn>", "leaked-prompt"),
        ("12<|eot_id|>", "leaked-prompt"),
    ],
)
def test_a_reply_without_a_clean_response_is_refused(reply: str, why: str) -> None:
    assert reason(parse_response, reply) == reason(parse_refined, reply) == why


@pytest.mark.parametrize(
    "reply",
    [
        "Here is the improved answer:\n\n12",
        "Sure! Here's a revised response to the question:\n12",
        "**Improved reply:**\n12".replace("**", ""),
        "Refined answer:\n12",
        "<<<EARLIER REPLY #5c62e6e4f0b0\n12",
        "12\nUSER #5c62e6e4f0b0>>>",
    ],
)
def test_a_refined_reply_that_shows_its_page_is_refused(reply: str) -> None:
    assert reason(parse_refined, reply) == "leaked-prompt"
