"""docs/prompts.md says what the code does."""

import re
from pathlib import Path
from typing import Any

import pytest

from tapir import prompts
from tapir.oracles.asking import ASKED_AGAIN_TEMPERATURE, PROBE
from tapir.oracles.roles import TEACHER_ASKS
from tapir.prompts import EXPAND, JUDGE_PAIR, JUDGE_SINGLE, LABEL, REFINE, Unreadable
from tapir.tasks import Task

PAGE = (Path(__file__).parents[1] / "docs" / "prompts.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(accepted|refused) (\w+)\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_names_every_prompt_with_its_version_and_digest() -> None:
    """Where this fails because a prompt was changed: give it a new version too, then copy the digest."""
    documented = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| `([0-9a-f]+)` \|", PAGE, re.MULTILINE)
    questions = [one for pair in (JUDGE_PAIR, JUDGE_SINGLE, LABEL, EXPAND) for one in (pair.text, pair.structured)]
    known = [*questions, *dict.fromkeys(REFINE.values()), PROBE]
    assert documented == [(prompt.name, str(prompt.version), prompt.digest) for prompt in known]


def test_the_page_names_the_tasks_of_every_refining_prompt() -> None:
    for name, tasks in re.findall(r"^\| `(refine-[a-z]+)` \|.*\| ([A-Z][^:|]*): ", PAGE, re.MULTILINE):
        assert {REFINE[Task(task)].name for task in tasks.split(", ")} == {name}
        assert len(tasks.split(", ")) == sum(prompt.name == name for prompt in REFINE.values())


def test_the_page_shows_every_parser_at_work() -> None:
    parsers = {name for name in prompts.__all__ if name.startswith("parse_")}
    assert {parser for _, parser, _ in EXAMPLES} == parsers - {"parse_response"}
    assert {kind for kind, _, _ in EXAMPLES} == {"accepted", "refused"}


@pytest.mark.parametrize(("kind", "parser", "reply"), EXAMPLES)
def test_the_page_is_right_about_each_reply(kind: str, parser: str, reply: str) -> None:
    parse: Any = getattr(prompts, parser)
    if kind == "accepted":
        parse(reply)
    else:
        with pytest.raises(Unreadable):
            parse(reply)


def test_the_page_states_the_numbers_of_the_code() -> None:
    assert f"of {ASKED_AGAIN_TEMPERATURE} at least" in PAGE
    assert TEACHER_ASKS == 3 and "three for the teacher" in PAGE
