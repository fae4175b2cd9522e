"""Figures on a classifier."""

from xml.etree import ElementTree

import pytest

from tapir.classifiers.evaluate import compare, confusion_svg, evaluate_classifier, evaluation_text
from tapir.classifiers.train import Tagged
from tapir.tasks import Task

from classifier_support import Fixed  # isort: skip

GIVEN = [Task.MATH, Task.MATH, Task.MATH, Task.ART]
FOUND = [Task.MATH, Task.MATH, Task.LAW, Task.MATH]


def test_accuracy_recall_precision_and_macro_f1_are_exact() -> None:
    found = compare(GIVEN, FOUND, ["a", "a", "b", "b"])
    assert found.accuracy == 0.5
    assert (found.tasks[Task.MATH].recall, found.tasks[Task.MATH].precision) == (2 / 3, 2 / 3)
    assert (found.tasks[Task.ART].recall, found.tasks[Task.ART].precision) == (0.0, 0.0)
    assert found.macro_f1 == pytest.approx((2 / 3 + 0) / 2)
    assert found.sources == {"a": (2, 1.0), "b": (2, 0.0)}
    assert found.confusion == {Task.MATH: {Task.MATH: 2, Task.LAW: 1}, Task.ART: {Task.MATH: 1}}


def test_a_row_without_a_label_is_wrong() -> None:
    found = compare([Task.MATH, Task.MATH], [Task.MATH, None], ["", ""])
    assert found.accuracy == 0.5
    assert found.tasks[Task.MATH].precision == 1.0


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(ValueError, match="no row"):
        compare([], [], [])


async def test_repeated_rows_are_asked_once_and_counted_twice() -> None:
    rows = [Tagged(instruction="a", task=Task.MATH)] * 2 + [Tagged(instruction="b", task=Task.ART)]
    classifier = Fixed({"a": (Task.MATH, 1.0), "b": None})
    found = await evaluate_classifier(classifier, rows)
    assert classifier.asked == ["a", "b"]
    assert (found.rows, found.accuracy) == (3, 2 / 3)


def test_the_text_names_each_task_and_what_it_is_taken_for() -> None:
    lines = evaluation_text(compare(GIVEN, FOUND, ["a", "a", "b", "b"])).splitlines()
    assert lines[0] == "4 rows: accuracy 0.500, macro-F1 0.333"
    assert ["Math", "3", "0.67", "0.67", "taken", "for"][:4] == lines[7].split()[:4]
    assert lines[7].endswith("Law 1")


def test_the_drawing_is_well_formed_and_shows_labels_outside_the_given_tasks() -> None:
    root = ElementTree.fromstring(confusion_svg(compare(GIVEN, FOUND, [""] * 4)))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("Law") == 1
    assert texts.count("Math") == 2
