"""The schedule and the mixture."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.config import CurriculumConfig
from tapir.curriculum import alpha, mix, mixture_rows
from tapir.errors import ConfigError
from tapir.rows import Lesson, Lineage, turns_id, user_turn
from tapir.tasks import Task

TASKS = [Task.MATH, Task.ART, Task.LAW]


def lessons(count: int, *, is_hard: bool) -> list[Lesson]:
    rows = []
    for number in range(count):
        turns = user_turn(f"{is_hard} {number}")
        rows.append(
            Lesson(
                id=turns_id(turns),
                turns=turns,
                response="r",
                lineage=Lineage(source="t"),
                task=TASKS[number % 3],
                is_hard=is_hard,
            )
        )
    return rows


def test_alpha_grows_by_its_step_and_stops_at_one() -> None:
    cfg = CurriculumConfig(alpha=0.3, alpha_step=0.2, rounds=6)
    assert [alpha(r, cfg) for r in range(1, 7)] == [0.3, 0.5, 0.7, 0.9, 1.0, 1.0]


@given(st.floats(0, 1), st.integers(0, 300), st.integers(3, 40), st.integers(1, 40), st.integers(0, 3))
def test_a_mixture_has_exactly_its_share_of_hard_rows(
    share: float, total: int, hard: int, easy: int, seed: int
) -> None:
    shares = {Task.MATH: 0.5, Task.ART: 0.25, Task.LAW: 0.25}
    made = mix(lessons(hard, is_hard=True), lessons(easy, is_hard=False), share, total, shares, seed, taught={})
    assert len(made.lessons) == total
    assert sum(row.is_hard for row in made.lessons) == made.hard == round(share * total)
    assert made.easy == total - made.hard
    assert sum(made.task_counts().values()) == made.hard
    assert made == mix(lessons(hard, is_hard=True), lessons(easy, is_hard=False), share, total, shares, seed, taught={})


def test_hard_rows_follow_the_target_distribution() -> None:
    shares = {Task.MATH: 0.5, Task.ART: 0.3, Task.LAW: 0.2}
    made = mix(lessons(30, is_hard=True), lessons(10, is_hard=False), 0.5, 40, shares, seed=1, taught={})
    assert made.task_counts() == {Task.MATH: 10, Task.ART: 6, Task.LAW: 4}
    assert made.repeated == 10  # twenty easy draws from ten rows


def test_hard_and_easy_rows_are_shuffled_together() -> None:
    made = mix(
        lessons(30, is_hard=True), lessons(30, is_hard=False), 0.5, 60, dict.fromkeys(TASKS, 1.0), seed=1, taught={}
    )
    first_half = sum(row.is_hard for row in made.lessons[:30])
    assert 5 < first_half < 25


@given(st.lists(st.integers(0, 60), min_size=1, max_size=4), st.integers(3, 40), st.integers(0, 3))
def test_over_the_rounds_every_row_is_taught_before_one_is_taught_again(
    counts: list[int], rows: int, seed: int
) -> None:
    pool = [row for row in lessons(3 * rows, is_hard=True) if row.task == Task.MATH]
    taught: Counter[str] = Counter()
    for r, count in enumerate(counts):
        made = mix(pool, [], 1.0, count, {Task.MATH: 1.0}, seed + r, taught=taught)
        taught += Counter(row.id for row in made.lessons)
        often = [taught[row.id] for row in pool]
        assert max(often) - min(often) <= 1


def test_rows_that_are_new_in_a_round_come_first_and_old_ones_are_not_left_out() -> None:
    pool = [row for row in lessons(90, is_hard=True) if row.task == Task.MATH]
    taught = dict.fromkeys((row.id for row in pool[:20]), 3)
    made = mix(pool, [], 1.0, 15, {Task.MATH: 1.0}, 0, taught=taught)
    assert {row.id for row in made.lessons} >= {row.id for row in pool[20:]}
    made = mix(pool, [], 1.0, 35, {Task.MATH: 1.0}, 0, taught=taught)  # one pass over all thirty, then five new ones
    often = Counter(row.id for row in made.lessons)
    assert set(often) == {row.id for row in pool}
    assert {row for row, count in often.items() if count > 1} <= {row.id for row in pool[20:]}


def test_a_mixture_that_needs_easy_rows_and_has_none_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no"):
        mix(lessons(3, is_hard=True), [], 0.5, 10, {Task.MATH: 1.0}, seed=0, taught={})


def test_alpha_one_needs_no_easy_rows() -> None:
    assert mix(lessons(3, is_hard=True), [], 1.0, 10, {Task.MATH: 1.0}, seed=0, taught={}).easy == 0


def test_a_token_budget_sets_the_number_of_rows() -> None:
    cfg = CurriculumConfig(tokens_per_round=2700)
    rows = mixture_rows(
        cfg, 0.3, corpus_rows=9, hard_tokens={Task.MATH: 60.0, Task.ART: 20.0}, shares={Task.MATH: 0.5, Task.ART: 0.5},
        easy_tokens=20.0,
    )  # fmt: skip
    assert rows == round(2700 / (0.3 * 40 + 0.7 * 20))


def test_without_a_size_a_round_is_as_large_as_the_corpus() -> None:
    assert mixture_rows(CurriculumConfig(), 0.3, corpus_rows=9, hard_tokens={}, shares={}, easy_tokens=1.0) == 9
    cfg = CurriculumConfig(rows_per_round=5)
    assert mixture_rows(cfg, 0.3, corpus_rows=9, hard_tokens={}, shares={}, easy_tokens=1.0) == 5
