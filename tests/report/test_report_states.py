"""A report of every state that a run can be in."""

import shutil
from pathlib import Path

import pytest
from sample_run import NOBODY, Quiet, Sample, leave, made, make_run, memory_config

from tapir.errors import ResumeError, RunError
from tapir.report import write_report
from tapir.report.model import read_report
from tapir.store import RunStore
from tapir.store.files import write_json


def just_started(runs: Path) -> Path:
    cfg = memory_config(runs)
    run = RunStore(cfg.directory, Quiet())
    run.write_manifest(cfg.model_dump(mode="json"), {})
    return cfg.directory


def test_a_run_that_has_just_started_has_a_report(tmp_path: Path) -> None:
    run = just_started(tmp_path)
    page = write_report(run).read_text(encoding="utf-8")
    assert "just started" in page
    assert "The judge has not finished D yet." in page
    assert read_report(run).state == "started"


def test_a_run_whose_process_lives_is_running(tmp_path: Path) -> None:
    run = just_started(tmp_path)
    (run / ".lock").write_text("1\n", encoding="ascii")
    assert read_report(run).state == "running"


def test_a_report_can_be_written_after_every_stage(memory_run: Path, tmp_path: Path) -> None:
    stages = sorted((memory_run / "stages").iterdir())
    for whole in range(0, len(stages), 2):
        run = Path(shutil.copytree(memory_run, tmp_path / f"after-{whole}"))
        for stage in stages[whole:]:
            shutil.rmtree(run / "stages" / stage.name)
        page = write_report(run).read_text(encoding="utf-8")
        assert page.rstrip().endswith("</html>")
        shutil.rmtree(run)


def test_a_stage_that_has_begun_and_died_leaves_a_stopped_run(memory_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(memory_run, tmp_path / "run"))
    stage = run / "stages" / "02-evaluate"
    shutil.rmtree(stage)
    (stage / "work").mkdir(parents=True)
    write_json(stage / "begun.json", {"key": "k"})
    (run / ".lock").write_text(f"{NOBODY}\n", encoding="ascii")
    report = read_report(run)
    assert report.state == "stopped"
    assert report.results is not None and not report.results.is_last
    assert "1 of 2 rounds done" in " ".join(report.headline.details)


@pytest.mark.parametrize(
    "sample",
    [
        Sample(rows=150, rounds=1, done=1, new=20, arms=(), per_cell=1),
        Sample(rows=150, rounds=2, done=1, new=20, arms=(), is_evaluated=False),
        Sample(rows=150, rounds=1, done=0, new=20, arms=(), per_cell=1),
    ],
    ids=["one round, no rivals", "no evaluation", "no round yet"],
)
def test_runs_without_parts_have_reports(sample: Sample, tmp_path: Path) -> None:
    run = made(make_run(tmp_path, sample))
    leave(run)
    page = write_report(run).read_text(encoding="utf-8")
    assert page.count("<section id=") == 11
    if not sample.is_evaluated:
        assert "was not measured" in page
    if not sample.done:
        assert "no round of TAPIR is evaluated yet" in page


def test_the_report_goes_where_it_is_wanted_and_leaves_nothing_else(memory_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "page.html"
    assert write_report(memory_run, out) == out
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    assert write_report(memory_run / "manifest.json") == memory_run / "report.html"


def test_no_run_is_an_error_that_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="tapir run CONFIG"):
        write_report(tmp_path)


def test_a_torn_file_is_an_error_that_names_it(memory_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(memory_run, tmp_path / "run"))
    (run / "stages" / "00-judge" / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"00-judge.*rows\.parquet"):
        write_report(run)
