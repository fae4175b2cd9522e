"""The plan of batches."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.students.batches import plan_steps

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=200)


def rows_of(steps):
    return sorted(chain.from_iterable(part for step in steps for part in step))


@given(LENGTHS, st.integers(1, 40), st.integers(0, 5))
def test_every_epoch_takes_every_row_once(lengths, rows, seed):
    steps = plan_steps(lengths, epochs=2, rows=rows, seed=seed)
    assert rows_of(steps) == sorted([*range(len(lengths)), *range(len(lengths))])
    assert all(sum(map(len, step)) <= rows for step in steps)


@given(LENGTHS, st.integers(1, 200))
def test_token_batches_stay_within_their_padded_size(lengths, tokens):
    steps = plan_steps(lengths, epochs=1, rows=8, tokens=tokens, seed=0)
    assert rows_of(steps) == list(range(len(lengths)))
    for (part,) in steps:
        assert len(part) == 1 or len(part) * max(lengths[row] for row in part) <= tokens


@given(LENGTHS, st.integers(1, 40), st.integers(1, 9), st.integers(1, 3))
def test_every_step_has_the_same_number_of_slices_and_none_is_too_large(lengths, rows, micro, devices):
    steps = plan_steps(lengths, epochs=1, rows=rows, micro=micro, devices=devices, seed=0)
    assert len({len(step) for step in steps}) == 1
    assert len(steps[0]) % devices == 0
    assert max(len(part) for step in steps for part in step) <= micro
    assert rows_of(steps) == list(range(len(lengths)))


def test_same_seed_same_plan_and_other_seed_another():
    lengths = [1 + i % 17 for i in range(100)]
    plans = [plan_steps(lengths, epochs=1, rows=8, seed=seed) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.parametrize(("epochs", "expected"), [(0.5, 50), (1.0, 100), (2.25, 225)])
def test_a_fraction_of_an_epoch_takes_that_share_of_the_rows(epochs, expected):
    assert len(rows_of(plan_steps([5] * 100, epochs=epochs, rows=8, seed=0))) == expected


def test_rows_of_a_batch_are_of_like_length():
    lengths = [1 + (i * 37) % 100 for i in range(1000)]
    steps = plan_steps(lengths, epochs=1, rows=20, seed=0)
    padded = sum(len(part) * max(lengths[row] for row in part) for (part,) in steps)
    assert padded < 1.05 * sum(lengths)


def test_slices_do_not_depend_on_devices():
    lengths = [1 + i % 17 for i in range(100)]
    one, two = (plan_steps(lengths, epochs=1, rows=8, devices=devices, seed=0) for devices in (1, 2))
    assert [rows_of([step]) for step in one] == [rows_of([step]) for step in two]
