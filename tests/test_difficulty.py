"""MFD and the seed set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.config import DifficultyConfig
from tapir.difficulty import mfd, quantile_threshold, select_seeds, solved_share
from tapir.rows import Labelled, Lineage, turns_id, user_turn
from tapir.tasks import Task


def labelled(number: int, teacher: float, student: float) -> Labelled:
    turns = user_turn(f"question {number}")
    return Labelled(
        id=turns_id(turns),
        turns=turns,
        response="y",
        lineage=Lineage(source="t"),
        student_response="z",
        teacher_score=teacher,
        student_score=student,
        task=Task.MATH,
        task_score=1.0,
        task_margin=1.0,
    )


ROWS = [labelled(n, 9, 9 - n) for n in range(8)]  # MFD 0..7


def test_mfd_is_teacher_minus_student() -> None:
    assert mfd(labelled(0, 9, 2)) == 7
    assert mfd(labelled(0, 2, 9)) == -7


def test_a_row_is_hard_when_its_mfd_exceeds_the_threshold() -> None:
    found = select_seeds(ROWS, DifficultyConfig(threshold=2), seed=0)
    assert [mfd(row) for row in found.seeds] == [3, 4, 5, 6, 7]
    assert [mfd(row) for row in found.easy] == [0, 1, 2]
    assert found.threshold == 2


def test_a_quantile_takes_the_hardest_rows() -> None:
    found = select_seeds(ROWS, DifficultyConfig(quantile=0.25), seed=0)
    assert [mfd(row) for row in found.seeds] == [6, 7]
    assert found.threshold == 5


def test_a_quantile_never_takes_a_row_that_the_student_matches() -> None:
    found = select_seeds(ROWS, DifficultyConfig(quantile=1.0), seed=0)
    assert [mfd(row) for row in found.seeds] == [1, 2, 3, 4, 5, 6, 7]


@given(st.lists(st.integers(-9, 9).map(float), max_size=60), st.floats(0, 1))
def test_no_more_rows_than_the_quantile_lie_above_its_threshold(values: list[float], share: float) -> None:
    threshold = quantile_threshold(values, share)
    assert threshold >= 0
    above = [value for value in values if value > threshold]
    assert len(above) <= share * len(values) or set(above) == {max(values)}
    assert above or max(values, default=0) <= 0 or int(share * len(values)) == 0


def test_where_most_rows_are_as_hard_as_can_be_the_quantile_draws_some_of_them() -> None:
    rows = [labelled(n, 10, 1 if n < 8 else 9) for n in range(10)]
    found = select_seeds(rows, DifficultyConfig(quantile=0.3), seed=0)
    assert [mfd(row) for row in found.seeds] == [9, 9, 9] and len(found.easy) == 7
    assert found.notes[-1] == "8 rows share the largest MFD: 3 of them are drawn at random"
    assert found == select_seeds(rows, DifficultyConfig(quantile=0.3), seed=0)
    assert any(select_seeds(rows, DifficultyConfig(quantile=0.3), seed=s).seeds != found.seeds for s in range(5))


def test_random_seeds_are_as_many_as_mfd_would_give() -> None:
    cfg = DifficultyConfig(threshold=2, select="random")
    found = select_seeds(ROWS, cfg, seed=3)
    assert len(found.seeds) == 5 and len(found.easy) == 3
    assert found == select_seeds(ROWS, cfg, seed=3)
    assert any(select_seeds(ROWS, cfg, seed=s).seeds != found.seeds for s in range(5))


def test_all_takes_every_row() -> None:
    found = select_seeds(ROWS, DifficultyConfig(select="all"), seed=0)
    assert found.seeds == ROWS and found.easy == []


def test_the_solved_share_counts_rows_within_one_point() -> None:
    assert solved_share(ROWS) == pytest.approx(2 / 8)
    assert solved_share([]) == 0


def test_a_student_that_solves_little_is_told_that_selection_will_not_matter() -> None:
    notes = select_seeds(ROWS, DifficultyConfig(), seed=0).notes
    assert any("cannot be expected to matter" in note for note in notes)
