"""The numbers of a report, against what roles in memory and a run made by hand must give."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tapir.evaluation.results import Difference
from tapir.report.costs import read_costs
from tapir.report.difficulty import bin_width, histogram, read_difficulty, read_judgements
from tapir.report.examples import read_families
from tapir.report.figures.difficulty import _conclude
from tapir.report.flow import read_flow
from tapir.report.judging import Verdict, read_judge, verdicts
from tapir.report.model import read_report
from tapir.report.overlap import read_overlap
from tapir.report.reading import RunFiles
from tapir.report.results import estimate, read_results
from tapir.report.rounds import read_changes, read_curves, read_mixes
from tapir.report.settings import flat, read_settings
from tapir.report.shares import read_shares
from tapir.rows import Evaluated
from tapir.status import read_status


def test_difficulty_of_the_memory_run_is_7_where_the_student_fails_and_0_elsewhere(memory_run: Path) -> None:
    run = RunFiles(memory_run)
    rows = read_judgements(run)
    assert rows is not None
    assert rows.tasks == ("Code Generation", "Math", "Writing")
    assert [len(rows.of_task(task)) for task in rows.tasks] == [10, 10, 40]
    assert set(rows.of_task("Writing")) == {0.0}
    assert set(rows.of_task("Math")) == {7.0}
    found = read_difficulty(run, rows)
    assert found is not None
    assert (found.threshold, found.hard, found.overall.rows) == (2.0, 20, 60)
    assert found.solved == pytest.approx(40 / 60)
    assert found.seeds_left[6.0] == {"Code Generation": 10, "Math": 10, "Writing": 0}
    assert sum(found.seeds_left[0.0].values()) == 20
    assert found.seeds == 20 and "drawn at random" not in _conclude(found)
    assert "7 of them, drawn at random, are the seeds" in _conclude(replace(found, seeds=7))


def test_a_bin_right_of_the_threshold_holds_exactly_the_hard_rows() -> None:
    values = np.array([-9.0, 0.0, 2.0, 2.0, 2.5, 3.0, 9.0])
    found = histogram(values, 2.0, 1.0)
    assert found.edges[0] == -10.0
    assert found.edges[-1] == 9.0
    assert found.rows == 7
    by_end = {end: (count, hard) for end, count, hard in zip(found.edges[1:], found.counts, found.hard, strict=True)}
    assert by_end[2.0] == (2, 0)
    assert by_end[3.0] == (2, 2)
    assert by_end[9.0] == (1, 1)
    assert by_end[-9.0] == (1, 0)


def test_a_threshold_inside_a_bin_splits_it() -> None:
    found = histogram(np.array([2.1, 2.4]), 2.25, 0.5)
    place = found.edges.index(2.0)
    assert (found.counts[place], found.hard[place]) == (2, 1)


def test_bins_are_whole_for_whole_scores_only() -> None:
    assert bin_width(np.array([1.0, 2.0, 7.0])) == 1.0
    assert bin_width(np.array([1.25, 2.0, 7.0])) == 0.5


def test_rows_in_are_rows_kept_and_refused_at_every_stage(memory_run: Path, sample: Path) -> None:
    for path in (memory_run, sample):
        for stage in read_flow(RunFiles(path)).stages:
            assert stage.rows_in == stage.kept + stage.refused, stage.title


def test_flow_of_the_memory_run(memory_run: Path) -> None:
    flow = read_flow(RunFiles(memory_run))
    one = flow.selection
    assert one is not None
    assert (one.offered, one.accepted, one.held_out, one.kept) == (61, 60, 0, 60)
    assert (one.judged, one.labelled, one.seeds, one.easy) == (60, 60, 20, 40)
    assert [(growth.asked, growth.admitted, growth.joined) for growth in flow.rounds] == [(18, 18, 18), (18, 18, 18)]
    assert flow.reasons["duplicate"] >= 1


def test_shares_of_the_memory_run_go_to_tasks_with_seeds(memory_run: Path) -> None:
    found = read_shares(RunFiles(memory_run))
    assert found is not None
    assert found.raw == {"Writing": 40, "Code Generation": 10, "Math": 10}
    assert found.seeds == {"Code Generation": 10, "Math": 10}
    assert found.target == pytest.approx({"Math": 5 / 9, "Code Generation": 4 / 9})
    assert found.written == {"Math": 20, "Code Generation": 16}
    assert sum(found.taught.values()) == 30 + 45
    assert found.absent == ("Law",)
    assert found.deficits == {}
    assert found.tasks == ["Math", "Code Generation", "Writing"]


def test_what_the_teacher_owes_is_the_quota_less_what_was_admitted(sample: Path) -> None:
    run = RunFiles(sample)
    found = read_shares(run)
    assert found is not None
    for round_, short in found.deficits.items():
        admitted = sum(stage.kept for stage in run.in_round(round_, "admit"))
        assert sum(short.values()) == 120 - admitted


def test_mixtures_of_the_memory_run(memory_run: Path) -> None:
    first, second = read_mixes(RunFiles(memory_run))
    assert (first.alpha, first.hard, first.easy, first.pool, first.written) == (0.5, 30, 30, 38, 18)
    assert (second.alpha, second.hard, second.easy, second.pool) == (0.75, 45, 15, 56)
    assert not first.is_planned


def test_rounds_not_made_yet_are_planned(memory_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(memory_run, tmp_path / "copy"))
    shutil.rmtree(copy / "stages" / "02-mix")
    mixes = read_mixes(RunFiles(copy))
    assert [one.is_planned for one in mixes] == [False, True]
    assert mixes[1].alpha == 0.75


def test_changes_count_what_was_learned_and_forgotten(memory_run: Path) -> None:
    changes = read_changes(RunFiles(memory_run))
    assert [one.items for one in changes] == [15, 15, 15]
    for one in changes[1:]:
        assert one.learned + one.forgotten + one.kept + one.open == 15
        assert one.forgotten == 0
    assert sum(one.learned for one in changes) == changes[-1].kept + changes[-1].learned - 5
    assert sum(changes[0].spread) == 15
    assert changes[0].shortfall == pytest.approx((5 * 1 + 10 * 8) / 15)


def test_results_name_every_student_in_order(sample: Path) -> None:
    run = RunFiles(sample)
    results = read_results(run, read_status(sample))
    assert results is not None
    assert results.students[0].arm == "s0"
    assert [one.arm for one in results.students][-3:] == ["tapir-1", "tapir-2", "tapir-3"]
    assert {one.arm for one in results.rivals} == {"sft", "distillation", "expansion"}
    assert results.final is not None and results.final.kind == "final"
    assert results.is_last
    gap = results.differences["s0"]["all"]
    start = results.start
    assert start is not None
    assert gap.mean == pytest.approx(results.final.parts["all"].mean - start.parts["all"].mean)


def test_a_rival_that_has_only_taken_over_the_first_student_is_no_result(own_sample: Path) -> None:
    arm = own_sample / "arms" / "sft"
    shutil.rmtree(arm / "stages")
    shutil.copytree(own_sample / "stages" / "00-evaluate", arm / "stages" / "00-evaluate")
    results = read_results(RunFiles(own_sample), read_status(own_sample))
    assert results is not None
    assert {one.arm for one in results.rivals} == {"distillation", "expansion"}
    assert "sft" not in results.differences
    assert "sft" not in results.task_differences


def _evaluated(score: float, is_correct: bool | None, place: int = 0) -> Evaluated:
    return Evaluated(
        id=str(place), set="s", task=None, difficulty=None, weight=1.0, instruction="i", reference="r", response="x",
        score=score, is_correct=is_correct,
    )  # fmt: skip


def test_an_estimate_of_right_answers_has_wilsons_interval() -> None:
    found = estimate([_evaluated(9, True)] * 8 + [_evaluated(2, False)] * 2)
    assert found.mean == 80.0
    assert (found.low, found.high) == pytest.approx((49.0, 94.3), abs=0.1)
    sure = estimate([_evaluated(9, True)] * 10)
    assert (sure.mean, sure.high) == pytest.approx((100.0, 100.0))
    assert sure.low == pytest.approx(72.2, abs=0.1)


def test_an_estimate_of_scores_is_in_percent_of_the_scale() -> None:
    found = estimate([_evaluated(10, None), _evaluated(1, None)])
    assert found.mean == 50.0
    assert (found.low, found.high) == (0.0, 100.0)
    assert estimate([_evaluated(5.5, None)]).low == 50.0


def test_losses_are_tasks_whose_whole_interval_is_below_zero(sample: Path) -> None:
    results = read_results(RunFiles(sample), read_status(sample))
    assert results is not None
    gaps = {"Math": Difference(5, 1, 9, 20), "Law": Difference(-4, -8, -1, 20), "Art": Difference(-9, -20, 1, 20)}
    changed = replace(results, task_differences={"s0": gaps})
    assert list(changed.losses("s0")) == ["Law"]
    assert changed.losses("none") == {}


def test_the_judges_health_of_the_sample(sample: Path) -> None:
    run = RunFiles(sample)
    health = read_judge(run, read_judgements(run))
    assert health is not None
    assert health.asked == health.rows + 3
    assert health.unreadable == 3
    assert sum(health.teacher) == sum(health.student) == health.rows
    assert health.teacher[9] == health.rows
    assert health.order is not None
    assert health.order.rows == health.rows
    assert 0 < health.order.gain < 0.5
    assert health.repeats is not None and health.repeats.same == health.repeats.pairs


def test_a_judge_without_details_has_no_order_effect(memory_run: Path) -> None:
    run = RunFiles(memory_run)
    health = read_judge(run, read_judgements(run))
    assert health is not None
    assert health.order is None
    assert (health.ties, health.student_wins, health.unreadable) == (40, 0, 0)


@pytest.mark.parametrize("detail", [None, "", "no json", "[1]", '{"calls": 3}', '{"calls": [{"reference": "x"}, 4]}'])
def test_details_of_a_judge_that_cannot_be_read_are_left_out(detail: str | None) -> None:
    assert verdicts(detail) == []


def test_details_of_answers_scored_alone_and_in_pairs_are_read() -> None:
    alone = '{"mode": "single", "calls": [{"shown": "reference", "score": 9}, {"shown": "student", "score": 4.5}]}'
    assert verdicts(alone) == [Verdict("", 9.0, None, ""), Verdict("", None, 4.5, "")]
    pair = (
        '{"calls": [{"first": "reference", "reference": 9, "student": 4}, '
        '{"first": "student", "reference": 8, "student": 5}], "swapped_rationale": "other"}'
    )
    assert verdicts(pair) == [Verdict("reference", 9.0, 4.0, ""), Verdict("student", 8.0, 5.0, "other")]


def test_curves_are_read_by_columns_and_by_points(sample: Path, memory_run: Path) -> None:
    found = read_curves(RunFiles(sample))
    assert [one.title for one in found] == ["S0", "round 1", "round 2", "round 3"]
    assert len(found[0].loss) == 60
    assert found[0].tokens == 240_000
    points = read_curves(RunFiles(memory_run))
    assert points[0].loss == (1.0,)
    assert points[0].steps == (1.0,)


def test_families_show_a_seed_with_its_refinement_and_a_child(sample: Path) -> None:
    families = read_families(RunFiles(sample))
    assert {one.task for one in families} >= {"Math", "Grammar"}
    grown = [one for one in families if one.child is not None]
    assert grown
    math = next(one for one in families if one.task == "Math")
    assert math.after == math.before
    assert math.own is not None and math.own != math.before
    assert math.student_score < math.teacher_score


def test_overlap_counts_what_was_kept_out_and_what_is_left(sample: Path) -> None:
    found = read_overlap(RunFiles(sample))
    assert found is not None
    assert (found.refused_corpus, found.refused_new, found.is_refusing) == (5, 0, True)
    assert found.searched == found.of
    assert len(found.examples) == 5
    assert 0 <= found.found < found.searched


def test_costs_count_stages_of_roles_and_find_no_ledger(sample: Path) -> None:
    costs = read_costs(RunFiles(sample))
    assert [one.title for one in costs.times] == ["warm-up", "round 1: train", "round 2: train", "round 3: train"]
    assert costs.spending == ()


def test_settings_say_which_were_chosen(memory_run: Path) -> None:
    found = read_settings(RunFiles(memory_run))
    chosen = {one.name: one.value for one in found.settings if not one.is_default}
    assert chosen["curriculum.alpha"] == "0.5"
    assert chosen["tasks.target.Law"] == "0.1"
    assert "difficulty.threshold" not in chosen
    assert {one.name for one in found.settings} >= {"difficulty.threshold", "seed"}
    assert dict(found.versions)["python"] == "3.11"
    assert [name for name, _ in found.students] == ["warm-up", "round 1: train", "round 2: train"]


def test_a_tree_of_settings_is_flattened_with_dots() -> None:
    tree = {"a": {"b": None, "c": [1, 2]}, "d": [{"x": True}], "e": {}, "f": []}
    assert list(flat(tree)) == [("a.b", "not set"), ("a.c", "1, 2"), ("d[1].x", "yes"), ("e", "none"), ("f", "none")]


def test_the_state_of_a_finished_run(memory_run: Path, sample: Path) -> None:
    assert read_report(memory_run).state == "finished"
    assert read_report(sample).state == "finished"


def test_the_headline_says_how_much_and_against_whom(sample: Path) -> None:
    line = read_report(sample).headline
    assert line.sentence.startswith("TAPIR lifts the student from ")
    assert "over SFT on the same tokens" in line.sentence
    assert any("strongest rival" in one for one in line.details)
