"""`tapir evaluate`: one student, measured outside a run."""

import tempfile
from pathlib import Path

from tapir.blocking import wait_for
from tapir.build import build_judge, build_student, evaluation_set, open_oracles
from tapir.config import EvaluationSetConfig, RunConfig, load_config, parse_config
from tapir.console import RunView, view
from tapir.errors import ConfigError, ResumeError, RunError
from tapir.evaluation.evaluator import SetEvaluator
from tapir.evaluation.results import Summary, summarise
from tapir.rows import Checkpoint, Evaluated, Refused
from tapir.status import open_run, read_manifest
from tapir.store.step import StageContext
from tapir.students.sources import base_model


def evaluate_student(
    path: Path, model: str | None = None, data: str | None = None, *, is_aside: bool = False
) -> Summary:
    """Measure `model`, or the newest student of the run at `path`, on the run's evaluation sets or on the file `data`.

    `path` is a run directory or a configuration file; its judge scores. `is_aside`: show progress on standard error.

    Raises:
        TapirError: there is no such run, student or set, or the student answers nothing.
    """
    if path.suffix.lower() in {".yaml", ".yml"}:
        cfg = load_config(path)
    else:
        directory = open_run(path).resolve()
        cfg = parse_config(read_manifest(directory)["config"], str(path))
        cfg = cfg.model_copy(update={"runs": directory.parent, "name": directory.name})  # it may have been moved
    student = Checkpoint(path=base_model(model), digest=model) if model else newest_student(cfg)
    sets = cfg.evaluation.sets
    if data is not None:
        sets = (EvaluationSetConfig(name=Path(data).stem or "data", path=data),)
    if not sets:
        raise ConfigError(f"{path}: its configuration names no evaluation set; name a held-out file with --data FILE")
    rows = wait_for(_evaluate(cfg, student, sets, view(is_aside=is_aside)))
    if not rows:
        raise RunError(f"{student.path}: answered no item; nothing can be said of it")
    return summarise(rows)


def newest_student(cfg: RunConfig) -> Checkpoint:
    """The student of the last round that the run has trained.

    Raises:
        ResumeError: the run has trained none.
    """
    found = sorted(
        (cfg.directory / "students").glob("round-*/tapir.json"), key=lambda path: int(path.parent.name.split("-")[1])
    )
    if not found:
        raise ResumeError(f"{cfg.directory}: has no student yet; run it first, or name one with --model")
    return Checkpoint(path=str(found[-1].parent), digest=str(found[-1].parent))


async def _evaluate(
    cfg: RunConfig, student: Checkpoint, sets: tuple[EvaluationSetConfig, ...], view_: RunView
) -> list[Evaluated]:
    rows: list[Evaluated] = []
    refused: list[Refused] = []
    with tempfile.TemporaryDirectory() as work, view_ as shown:
        async with open_oracles(cfg, shown.said) as oracles:
            answerer = build_student(cfg)
            judge = await build_judge(cfg, oracles)
            evaluator = SetEvaluator([await evaluation_set(one, cfg) for one in sets], answerer, judge)
            stage = StageContext("evaluate", Path(work), shown)
            shown.started("evaluate", None)
            async for row in evaluator.run(stage, student):
                stage.count(is_refused=isinstance(row, Refused))
                if isinstance(row, Refused):
                    refused.append(row)
                else:
                    rows.append(row)
        if refused:
            shown.said(f"{len(refused)} items refused, the first: {refused[0].reason}: {refused[0].detail}")
    return rows
