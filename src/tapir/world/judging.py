"""The embedded world's programmatic judge: a score of 1-10 from the right answer, with partial credit."""

import re

from tapir.world.families import ANSWER_MARK, Item, solve

RIGHT = 9.0
MOST_FOR_WRONG = 7.0


def final_answer(response: str) -> str:
    """What stands after the last answer mark; the whole response where there is none."""
    return response.rpartition(ANSWER_MARK)[2].strip()


def is_correct(item: Item, response: str) -> bool:
    """Whether the final answer is the right one, character by character."""
    return final_answer(response) == item.direct


def judge(instruction: str, response: str) -> float:
    """The score of a response to an instruction of the world, from 1 to 10.

    9 for the right final answer, 10 when the response is the teacher's own refined one; a wrong answer scores
    1 + 4 x the share of its characters that are right in their place + 1 for the right length + 2 x the share of
    right steps, at most 7, to one decimal.

    Raises:
        DataError: the instruction is not of the world.
    """
    return score(solve(instruction), response)


def score(item: Item, response: str) -> float:
    """The score of a response to an item: see `judge`."""
    if is_correct(item, response):
        return RIGHT + (response.strip() == item.refined)
    given, wanted = final_answer(response), item.direct
    points = (
        1 + 4 * _share(given, wanted) + (len(given) == len(wanted)) + 2 * _share(_steps(response), _steps(item.refined))
    )
    return min(MOST_FOR_WRONG, round(points, 1))


def _steps(response: str) -> list[str]:
    steps, mark, _ = response.rpartition(ANSWER_MARK)
    return [step for step in re.split(r"[;.] ", steps.strip() + " ") if step] if mark else []


def _share(given: str | list[str], wanted: str | list[str]) -> float:
    """The share of places, of the longer of the two, at which both agree."""
    longest = max(len(given), len(wanted))
    return sum(a == b for a, b in zip(given, wanted, strict=False)) / longest if longest else 0.0
