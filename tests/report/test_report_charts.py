"""Drawings: scales, ticks, and that every number lands where it belongs."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tapir.report.charts.bars import Bar, bars
from tapir.report.charts.columns import Stack, mfd_histogram, paired, stacked
from tapir.report.charts.dots import Axis, Dot, DotRow, dot_rows
from tapir.report.charts.lines import Frame, Line, lines
from tapir.report.charts.sankey import Link, Node, sankey
from tapir.report.charts.svg import Scale, ceiling, clipped, el, number, short, ticks
from tapir.report.difficulty import Histogram
from tapir.report.figures.rounds import loss_figure
from tapir.report.rounds import Curve


def test_attributes_and_content_are_escaped() -> None:
    assert str(el("text", "<b>", x=1.25, class_='a"b', y=None)) == '<text x="1.2" class="a&#34;b">&lt;b&gt;</text>'
    assert str(el("rect", x=0)) == '<rect x="0"/>'


def test_coordinates_are_short() -> None:
    assert [number(one) for one in (1.0, 1.25, -0.01, 12345.678)] == ["1", "1.2", "0", "12345.7"]


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 100, 6) == [0, 20, 40, 60, 80, 100]
    assert ticks(-1, 9, 11) == [-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert ticks(5, 5) == [5]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 12))
def test_ticks_are_few_and_in_range(low: float, span: float, most: int) -> None:
    found = ticks(low, low + span, most)
    assert len(found) <= most
    assert all(low - 1e-6 * span <= one <= low + span + 1e-6 * span for one in found)


@given(st.floats(1e-6, 1e12))
def test_an_axis_ends_at_or_above_its_largest_value(value: float) -> None:
    assert value * (1 - 1e-6) <= ceiling(value) <= 2 * value * (1 + 1e-6)


def test_axis_numbers_are_short() -> None:
    assert [short(one) for one in (0, 950, 12000, 1_500_000, 0.25)] == ["0", "950", "12k", "1.5M", "0.25"]


def test_a_scale_maps_ends_to_ends() -> None:
    scale = Scale(0, 10, 100, 200)
    assert (scale(0), scale(10), scale(5)) == (100, 200, 150)
    assert Scale(3, 3, 7, 9)(3) == 7


def test_labels_are_cut_to_their_room() -> None:
    assert clipped("Code Generation", 1000) == "Code Generation"
    assert clipped("Code Generation", 50) == "Code G…"


def test_hard_and_easy_columns_stand_apart_at_the_threshold() -> None:
    drawn = mfd_histogram(Histogram((0.0, 1.0, 2.0, 3.0), (5, 3, 4), (0, 0, 4)), 2.0, 720, 300, "MFD")
    assert drawn.count('class="k-easy"') == 2
    assert drawn.count('class="k-hard"') == 1
    assert "δ = 2" in drawn
    edge = float(re.search(r'<line x1="([\d.]+)"[^>]*class="delta"', str(drawn))[1])  # type: ignore[index]
    hard = re.search(r'<rect x="([\d.]+)"[^>]*class="k-hard"', str(drawn))
    assert hard is not None
    assert abs(float(hard[1]) - edge) < 1


def test_a_histogram_of_nothing_is_still_a_drawing() -> None:
    assert "<svg" in mfd_histogram(Histogram((0.0, 1.0), (0,), (0,)), 2.0, 210, 118, "empty")


def test_ribbons_are_as_thick_as_their_rows() -> None:
    nodes = [Node("a", 0, "in", "k-node"), Node("b", 1, "kept", "k-easy"), Node("c", 1, "lost", "k-refused")]
    links = [Link("a", "b", 75, "k-easy"), Link("a", "c", 25, "k-refused"), Link("a", "c", 0, "k-refused")]
    drawn = str(sankey(nodes, links, 800, 300, "flow"))
    assert drawn.count("ribbon") == 2
    heights = {style: float(size) for size, style in re.findall(r'height="([\d.]+)" class="(k-[a-z]+)"', drawn)}
    assert heights["k-easy"] == 3 * heights["k-refused"]
    assert heights["k-node"] == heights["k-easy"] + heights["k-refused"]


def test_a_flow_without_rows_is_still_a_drawing() -> None:
    assert "<svg" in sankey([Node("a", 0, "in", "k-node")], [], 800, 300, "flow")


def test_marks_of_a_row_share_its_line() -> None:
    rows = [DotRow("Math", (Dot(20, "k-start", "S0"), Dot(60, "k-tapir", "TAPIR", 50, 70)), "+40")]
    for width in (720.0, 340.0):
        drawn = str(dot_rows(rows, Axis(0, 100, "%"), width, "by task"))
        assert len(set(re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"|cy="([\d.]+)"', drawn))) == 1
        assert "Math" in drawn and "+40" in drawn


def test_lines_keep_their_labels_apart() -> None:
    courses = [Line(name, "k-tapir", ((0, 50), (1, 50.0 + place)), has_marks=True) for place, name in enumerate("abc")]
    drawn = str(lines(courses, Frame(720, 250, "rounds", "round", "%", 0, 100, ("S0", "1"))))
    places = [float(y) for y in re.findall(r'y="([\d.]+)" class="t label', drawn)]
    assert len(places) == 3
    assert all(second - first >= 13.9 for first, second in pairwise(places))


def test_columns_add_up() -> None:
    drawn = str(stacked([Stack("1", (("k-hard", 3, ""), ("k-easy", 7, "")), "α")], 424, 270, "mix", "rows"))
    heights = [float(size) for size in re.findall(r'height="([\d.]+)" class="k-(?:hard|easy)"', drawn)]
    assert abs(heights[0] / sum(heights) - 0.3) < 0.01
    assert "<svg" in stacked([], 424, 270, "nothing", "rows")
    assert str(paired(["1"], [2], [3], ("k-rival", "k-hard"), (424, 260), "scores", "score")).count("<rect") == 2
    assert str(bars([Bar("judge", 2, "2 s"), Bar("train", 0, "0 s")], 720, "time")).count("<rect") == 2


def test_a_diverged_loss_is_drawn_as_far_as_it_is_finite() -> None:
    loss = (3.0, 2.0, 1.0, float("nan"), float("inf"), 1.0)
    curve = Curve("round 1", 1, (1, 2, 3, 4, 5, 6), loss, (), None)
    figure = loss_figure([curve])
    assert figure is not None
    assert "nan" not in figure.wide and "inf" not in figure.wide
    assert loss_figure([Curve("S0", 0, (1,), (float("nan"),), (), None)]) is None
    assert loss_figure([]) is None
