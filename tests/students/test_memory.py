"""The student without torch."""

import asyncio
import subprocess
import sys

import pytest
from student_support import ROWS, PlainStage

from tapir.errors import StudentError
from tapir.rows import Answer, Checkpoint, Refused, user_turn
from tapir.testing import TinyStudent


def train(student, stage, rows, start=None):
    return asyncio.run(student.train(stage, rows, start))


def answered(student, stage, made, rows):
    async def collect():
        return [row async for row in student.answer(stage, made, rows)]

    return asyncio.run(collect())


def right(student, tmp_path, made, rows):
    replies = answered(student, PlainStage(tmp_path), made, rows)
    truth = {row.id: row.response for row in rows}
    return sum(row.response == truth[row.id] for row in replies) / len(rows)


def test_a_lesson_sticks_after_enough_trainings(tmp_path):
    student = TinyStudent(hardness=0.5)
    made, shares = None, []
    for number in range(3):
        made = train(student, PlainStage(tmp_path / f"{number}"), ROWS, made)
        shares.append(right(student, tmp_path, made, ROWS))
    assert 0.3 < shares[0] < 0.7 < shares[1] < shares[2] == 1.0


def test_nothing_is_hard_at_hardness_0(tmp_path):
    student = TinyStudent(hardness=0)
    assert right(student, tmp_path, train(student, PlainStage(tmp_path), ROWS), ROWS) == 1.0


def test_the_same_lessons_and_seed_give_the_same_student_and_answers(tmp_path):
    made = [train(TinyStudent(seed), PlainStage(tmp_path / f"{i}"), ROWS) for i, seed in enumerate((0, 0, 1))]
    assert made[0].digest == made[1].digest
    texts = [answered(TinyStudent(s), PlainStage(tmp_path), m, ROWS) for s, m in zip((0, 0, 1), made, strict=True)]
    assert texts[0] == texts[1] != texts[2]


def test_unknown_instructions_get_a_wrong_answer_and_long_ones_are_refused(tmp_path):
    from tapir.rows import Lineage, example

    student = TinyStudent(context=20)
    made = train(student, PlainStage(tmp_path), ROWS[:50])
    new, long = (example(user_turn(text), "?", Lineage(source="t")) for text in ("What is love?", "x " * 30))
    first, second = answered(student, PlainStage(tmp_path), made, [new, long])
    assert isinstance(first, Answer)
    assert first.response not in {row.response for row in ROWS[:50]}
    assert isinstance(second, Refused)
    assert second.reason == "prompt-too-long"


def test_a_directory_of_another_kind_is_refused(tmp_path):
    with pytest.raises(StudentError, match="holds no TinyStudent"):
        answered(TinyStudent(), PlainStage(tmp_path), Checkpoint(path=str(tmp_path), digest="x"), ROWS)


def test_it_needs_no_torch():
    code = "import sys; from tapir.testing import TinyStudent; TinyStudent(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
