"""Quotas, shares and the expansion plan."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.balance import plan_expansion, renormalise, sample_evenly, target_shares, task_quotas
from tapir.errors import ConfigError
from tapir.rows import Lesson, Lineage, turns_id, user_turn
from tapir.tasks import DEFAULT_TARGET, Task

shares = st.dictionaries(st.sampled_from(list(Task)), st.floats(0, 1e6), min_size=1).filter(
    lambda d: sum(d.values()) > 0
)


def a_lesson(task: Task, number: int) -> Lesson:
    turns = user_turn(f"{task} {number}")
    return Lesson(id=turns_id(turns), turns=turns, response="r", lineage=Lineage(source="t"), task=task, is_hard=True)


@given(shares, st.integers(0, 10_000))
def test_quotas_sum_to_total_for_any_target(target: dict[Task, float], total: int) -> None:
    quotas = task_quotas(target, total)
    assert sum(quotas.values()) == total
    weight = sum(target.values())
    for task, share in target.items():
        assert abs(quotas[task] - total * share / weight) < 1 + 1e-6


def test_quotas_give_the_largest_remainders_the_rows_left_over() -> None:
    target = {Task.MATH: 0.5, Task.REASONING: 0.3, Task.ART: 0.2}
    assert task_quotas(target, 7) == {Task.MATH: 4, Task.REASONING: 2, Task.ART: 1}


def test_equal_remainders_go_to_the_task_named_first() -> None:
    assert task_quotas({Task.ART: 1, Task.MATH: 1}, 3) == {Task.ART: 2, Task.MATH: 1}


@pytest.mark.parametrize("target", [{}, {Task.MATH: 0.0}, {Task.MATH: 1.0, Task.ART: -0.1}])
def test_a_target_without_weight_or_with_a_negative_share_is_an_error(target: dict[Task, float]) -> None:
    with pytest.raises(ConfigError, match="no quotas"):
        task_quotas(target, 10)


def test_a_task_without_seeds_gives_its_share_to_the_others_in_proportion() -> None:
    found = renormalise({Task.MATH: 0.5, Task.ART: 0.25, Task.LAW: 0.25}, [Task.MATH, Task.ART, Task.SPORT])
    assert found.shares == {Task.MATH: pytest.approx(2 / 3), Task.ART: pytest.approx(1 / 3)}
    assert found.absent == (Task.LAW,)


def test_where_the_target_names_no_task_at_hand_the_rows_own_shares_stand() -> None:
    found = renormalise({Task.LAW: 1.0}, [Task.MATH, Task.MATH, Task.ART])
    assert found.shares == {Task.MATH: pytest.approx(2 / 3), Task.ART: pytest.approx(1 / 3)}


def test_the_default_target_is_the_published_recipe() -> None:
    assert len(Task) == 34
    assert DEFAULT_TARGET[Task.MATH] == DEFAULT_TARGET[Task.REASONING] == 0.167
    assert DEFAULT_TARGET[Task.CODE_DEBUG] == DEFAULT_TARGET[Task.CODE_GENERATION] == 0.083
    assert DEFAULT_TARGET[Task.OTHERS] == 0.041
    assert DEFAULT_TARGET[Task.ETHICS] == 0.017


def test_without_balancing_the_shares_follow_the_rows() -> None:
    rows = [a_lesson(Task.MATH, n) for n in range(3)] + [a_lesson(Task.ART, 0)]
    assert target_shares(rows, {Task.ART: 1.0}, balance=False).shares == {Task.MATH: 0.75, Task.ART: 0.25}
    assert target_shares(rows, {Task.ART: 1.0}, balance=True).shares == {Task.ART: 1.0}


@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 6), st.integers(0, 5))
def test_a_plan_asks_for_exactly_the_quota(quota: int, shown: int, per_draw: int, seed: int) -> None:
    seeds = [a_lesson(Task.MATH, n) for n in range(4)]
    plan = plan_expansion(seeds, {Task.MATH: quota}, round_=1, shown=shown, per_draw=per_draw, seed=seed)
    assert sum(draw.count for draw in plan) == quota
    assert all(1 <= draw.count <= per_draw and len({row.id for row in draw.seeds}) == len(draw.seeds) for draw in plan)
    assert len({draw.id for draw in plan}) == len(plan)
    assert plan == plan_expansion(seeds, {Task.MATH: quota}, round_=1, shown=shown, per_draw=per_draw, seed=seed)


def test_every_seed_is_shown_before_one_is_shown_again() -> None:
    seeds = [a_lesson(Task.MATH, n) for n in range(5)]
    plan = plan_expansion(seeds, {Task.MATH: 12}, round_=1, shown=1, per_draw=1, seed=0)
    counts = Counter(draw.seeds[0].id for draw in plan)
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]


def test_a_task_without_seeds_gets_no_draw() -> None:
    assert plan_expansion([], {Task.MATH: 3}, round_=1, shown=1, per_draw=1, seed=0) == []


@given(st.integers(0, 50), st.integers(0, 200))
def test_sampling_evenly_repeats_no_row_before_all_are_drawn(rows: int, count: int) -> None:
    drawn = sample_evenly(list(range(rows)), count, random.Random(0))
    assert len(drawn) == (count if rows else 0)
    counts = Counter(drawn)
    if rows:
        assert max(counts.values(), default=0) - min((counts[n] for n in range(rows)), default=0) <= 1
