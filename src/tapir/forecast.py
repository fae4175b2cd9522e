"""What a run will have spent when it is done: what it has, the stages at work, and the quote of those to come."""

from pathlib import Path

from tapir.measured import measured_usage
from tapir.oracles.ledger_file import LEDGER, run_spending
from tapir.oracles.money import Spending, forecast, total
from tapir.quote import CHARS_PER_TOKEN, UNSURE_SHARE, Sizes, StageQuote, endpoints, quote
from tapir.report.progress import Course, read_progress
from tapir.report.reading import INSTRUCTION, Arrow, RunFiles, instructions, stage_title

SAMPLE = 1000
"""Rows whose lengths stand for all."""


def read_forecast(path: Path) -> dict[str, Spending]:
    """By role, what the run at `path` will have spent at its end; empty without paid oracles, or with D not read yet.

    A stage at work is taken on at its own pace; one to come as it is quoted, by measured usage where there is some.
    Rivals count as far as they have spent. How many items an evaluation file holds is known once S_0 was measured.

    Raises:
        ResumeError, ConfigError: `path` is no run directory of this version.
    """
    run = RunFiles(path)
    cfg, ledger = run.config, run.directory.parent / LEDGER
    sizes = read_sizes(run)
    if not sizes.rows:
        return {}
    whole = {stage.label for stage in run.stages}
    courses = {course.stage: course for course in read_progress(run.directory)[0]}
    found: dict[str, list[Spending]] = {role: [] for role in endpoints(cfg)}
    booked: dict[tuple[str, str], Spending] = {(one.stage, one.role): one for one in run_spending(ledger, cfg.name)}
    for line in quote(cfg, sizes, measured_usage(cfg, ledger)):
        own = booked.pop((line.label, line.role), Spending(run=cfg.name, role=line.role, stage=line.label))
        if line.label not in whole:
            own = _ahead(own, line, courses.get(stage_title(line.label)))
        found[line.role].append(own)
    for one in booked.values():
        found.setdefault(one.role, []).append(one)
    return {role: total(parts, run=cfg.name, role=role) for role, parts in found.items()}


def read_sizes(run: RunFiles) -> Sizes:
    """The size of D as far as the run has read it, its mean lengths from its first rows, and what came of it."""
    stage = run.stage("decontaminate") or run.stage("judge")
    batch: Arrow = next(iter(stage.batches(INSTRUCTION, "response")), None) if stage else None
    if stage is None or batch is None or not len(batch):
        return Sizes(0, 0.0, 0.0)
    texts = instructions(batch.column("turns"))[:SAMPLE].to_pylist()
    responses = batch.column("response")[:SAMPLE].to_pylist()
    mean = [sum(len(one) for one in column) / len(column) / CHARS_PER_TOKEN for column in (texts, responses)]
    evaluated, selected = run.stage("evaluate"), run.stage("select")
    sets = run.config.evaluation
    items = evaluated.rows_in if evaluated else sets.held_out + sum(one.limit or 0 for one in sets.sets)
    labelled = run.stage("label")
    unsure = labelled.notes.get("passed_on_share", UNSURE_SHARE) if labelled else UNSURE_SHARE
    return Sizes(stage.kept, mean[0], mean[1], items, selected.kept if selected else None, unsure)


def _ahead(own: Spending, line: StageQuote, course: Course | None) -> Spending:
    """What a stage that is not whole will have spent."""
    if course is not None and course.total and course.done and (own.calls or own.saved_calls):
        return forecast(own, round(course.done), round(course.total))
    if own.calls + own.saved_calls >= line.calls:
        return own
    left = 1 - (own.calls + own.saved_calls) / line.calls
    quoted = Spending(
        run=own.run,
        role=own.role,
        stage="",
        calls=round(left * line.calls),
        input_tokens=round(left * line.input_tokens),
        output_tokens=round(left * line.output_tokens),
        cost=left * line.cost,
    )
    return own + quoted
