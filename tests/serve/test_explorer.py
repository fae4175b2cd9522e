"""Looking through rows: filters, order, pages, and one row through all stages."""

from pathlib import Path

import numpy as np
import pytest

from tapir.report.reading import RunFiles
from tapir.rows import Judged
from tapir.serve.explorer import PAGE, Found, Query, look
from tapir.serve.library import Library, OpenRun
from tapir.serve.rowpage import read_row
from tapir.serve.sheets import Shelf
from tapir.store.files import read_rows


@pytest.fixture(scope="module")
def run(library: Library) -> OpenRun:
    return library.run("one")


@pytest.fixture(scope="module")
def judged(run: OpenRun) -> list[Judged]:
    return list(read_rows(run.directory / "stages" / "00-judge" / "rows.parquet", Judged))


def found(run: OpenRun, **given: str) -> Found:
    page = look(run, Query.read(given))
    assert page is not None
    return page


def test_every_pile_of_rows_can_be_looked_at(run: OpenRun) -> None:
    for source in run.sources():
        page = found(run, rows=source.key)
        assert page.rows == source.rows
        assert len(page.lines) == min(PAGE, source.rows)
        assert all(line.text for line in page.lines) or source.kind == "refused"


def test_the_judged_rows_come_first(run: OpenRun, judged: list[Judged]) -> None:
    page = found(run)
    assert page.source.key == "00-judge"
    assert [line.id for line in page.lines] == [row.id for row in judged[:PAGE]]
    line, row = page.lines[0], judged[0]
    assert (line.teacher, line.student, line.text) == (row.teacher_score, row.student_score, row.instruction)


def test_pages_hold_all_rows_once_and_in_order(run: OpenRun, judged: list[Judged]) -> None:
    pages = found(run).pages
    ids = [line.id for number in range(1, pages + 1) for line in found(run, page=str(number)).lines]
    assert ids == [row.id for row in judged]
    assert found(run, page="999").query.page == pages


def test_tasks_are_looked_up_in_the_labels_though_refused_rows_shift_them(run: OpenRun) -> None:
    labels = {row["id"]: row["task"] for row in RunFiles(run.directory).stage("label").read("id", "task").to_pylist()}  # type: ignore[union-attr]
    for page in (found(run), found(run, page="3"), found(run, rows="00-answer")):
        assert {line.id: line.task for line in page.lines} == {line.id: labels[line.id] for line in page.lines}
    math = found(run, task="Math")
    assert math.rows > 0
    assert {line.task for line in math.lines} == {"Math"}


def test_a_fresh_reader_finds_the_same_tasks_for_few_rows_as_for_all(runs: Path) -> None:
    fresh = Library(runs).run("one")
    first = found(fresh)
    assert found(fresh, task="Math").rows
    assert [line.task for line in found(fresh).lines] == [line.task for line in first.lines]


def test_mfd_filters_and_sorts(run: OpenRun, judged: list[Judged]) -> None:
    mfd = np.round([row.teacher_score - row.student_score for row in judged], 6)
    page = found(run, low="2.5", high="8")
    assert page.rows == int(((mfd >= 2.5) & (mfd <= 8)).sum())
    hardest = found(run, sort="-mfd")
    assert [line.mfd for line in hardest.lines] == pytest.approx(sorted(mfd, reverse=True)[:PAGE])
    easiest = found(run, sort="mfd", low="1")
    assert easiest.lines[0].mfd == pytest.approx(min(one for one in mfd if one >= 1))
    assert found(run, low="x").problem == "MFD 'x' is not a number"
    assert found(run, low="nan").problem


def test_a_search_finds_text_in_any_case_and_only_where_it_is_wanted(run: OpenRun) -> None:
    assert found(run, q="PLANTED needle").rows == 1
    assert found(run, q="planted needle", where="response").rows == 0
    assert found(run, q="no idea", where="student").rows >= 5
    assert found(run, q="no idea", where="instruction").rows == 0
    assert found(run, q="planted needle", task="Law").rows == 1
    assert found(run, q="planted needle", task="Math").rows == 0
    assert found(run, q=".*", where="instruction").rows == 0
    assert found(run, q="nowhere to be found").lines == ()


def test_a_search_in_turns_counts_rows_not_turns(run: OpenRun, judged: list[Judged]) -> None:
    expected = [row.id for row in judged if "what is" in row.instruction.lower()]
    page = found(run, q="what is", where="instruction")
    assert page.rows == len(expected)
    assert [line.id for line in page.lines] == expected[:PAGE]


def test_refusals_are_filtered_by_reason(run: OpenRun) -> None:
    page = found(run, rows="00-corpus:refused", reason="duplicate")
    assert page.rows == 14
    assert set(page.reasons) == {"duplicate", "empty-response", "too-long"}
    assert all(line.note.startswith("duplicate: ") for line in page.lines)


def test_evaluated_rows_are_filtered_by_answer(run: OpenRun) -> None:
    right, wrong = found(run, rows="02-evaluate", right="right"), found(run, rows="02-evaluate", right="wrong")
    assert right.rows + wrong.rows == found(run, rows="02-evaluate").rows
    assert {line.note for line in right.lines} == {"right"}


def test_rounds_are_filtered(run: OpenRun) -> None:
    mixture = found(run, rows="mixture-2")
    assert sum(found(run, rows="mixture-2", round=str(r)).rows for r in range(3)) == mixture.rows
    assert {line.round for line in found(run, rows="mixture-2", round="2").lines} == {2}
    assert found(run, rows="mixture-2", round="x").problem


def test_no_such_rows(run: OpenRun) -> None:
    assert look(run, Query.read({"rows": "99-none"})) is None


def test_addresses_carry_the_query_and_leave_out_what_is_empty() -> None:
    query = Query.read({"q": " a b ", "sort": "-mfd", "page": "3", "unknown": "x"})
    assert query.address() == "?q=a+b&sort=-mfd&page=3"
    assert query.address(page=1, q="") == "?sort=-mfd"
    assert Query.read({"page": "0"}).page == 1
    assert Query.read({"page": "-3"}).page == 1


def test_a_changed_file_is_opened_anew(own_runs: Path) -> None:
    shelf = Shelf(most=1)
    path = own_runs / "two" / "stages" / "00-corpus" / "rows.parquet"
    first = shelf.open(path)
    assert shelf.open(path) is first
    other = own_runs / "one" / "stages" / "00-corpus" / "rows.parquet"
    path.write_bytes(other.read_bytes())
    assert shelf.open(path).rows != first.rows
    shelf.open(other)
    assert shelf.open(other) is not first


def test_a_row_shows_its_answers_its_verdict_and_its_children(run: OpenRun) -> None:
    child = found(run, rows="01-refine").lines[0]
    page = read_row(run, child.id)
    assert page is not None
    assert page.ancestors
    assert page.ancestors[-1].round == 0
    seed = read_row(run, page.ancestors[0].id)
    assert seed is not None
    assert child.id in {one.id for one in seed.children}
    assert [one.title for one in seed.teacher] == ["In the corpus", "The teacher's answer", "Refined by the teacher"]
    (verdict,) = seed.judgements
    assert verdict.mfd > 2
    assert [one.first for one in verdict.calls] == ["reference", "student"]
    assert verdict.rationale
    assert [one.title for one in seed.student] == ["S0"]
    assert ("00-select", "select", 1) in seed.stages
    assert seed.task == page.task


def test_an_evaluation_item_shows_the_answers_of_every_round(run: OpenRun) -> None:
    page = read_row(run, "item00003")
    assert page is not None
    assert [one.title for one in page.student] == ["S0", "Round 1", "Round 2"]
    assert all(one.note.startswith("score ") for one in page.student)
    assert page.teacher[0].title == "Reference of the evaluation set"


def test_a_refused_row_says_why(run: OpenRun) -> None:
    page = read_row(run, "lost1")
    assert page is not None
    assert page.refusals[0].note == "not-written: the reply held 4 of 5"
    assert page.turns == ()


def test_an_unknown_row_is_none(run: OpenRun) -> None:
    assert read_row(run, "nobody") is None
