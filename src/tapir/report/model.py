"""Everything that a report says of a run, as numbers: read from the directory, shown by the page and by `serve`."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tapir.report.costs import Costs, read_costs
from tapir.report.difficulty import Difficulty, read_difficulty, read_judgements
from tapir.report.examples import Family, read_families
from tapir.report.flow import Flow, read_flow
from tapir.report.judging import JudgeHealth, read_judge
from tapir.report.overlap import Overlap, read_overlap
from tapir.report.reading import RunFiles
from tapir.report.results import Results, read_results
from tapir.report.rounds import Change, Curve, RoundMix, read_changes, read_curves, read_mixes
from tapir.report.settings import Settings, read_settings
from tapir.report.shares import TaskShares, read_shares
from tapir.report.words import Headline, headline
from tapir.status import read_status

State = Literal["started", "running", "stopped", "finished"]

STATE_TEXT: dict[State, str] = {
    "started": "just started",
    "running": "running",
    "stopped": "stopped before its end; the same command continues it",
    "finished": "finished",
}


@dataclass(frozen=True)
class Report:
    """A run as it is now. A part is None where its stage is not whole yet."""

    name: str
    state: State
    headline: Headline
    results: Results | None
    flow: Flow
    difficulty: Difficulty | None
    judge: JudgeHealth | None
    shares: TaskShares | None
    mixes: tuple[RoundMix, ...]
    changes: tuple[Change, ...]
    curves: tuple[Curve, ...]
    families: tuple[Family, ...]
    overlap: Overlap | None
    costs: Costs
    settings: Settings
    written: float
    """When this was read, in seconds since 1970."""

    @property
    def state_text(self) -> str:
        """The state in words."""
        return STATE_TEXT[self.state]


def read_report(path: Path) -> Report:
    """The whole report of a run.

    Raises:
        ResumeError: `path` is no run directory.
        RunError: a stage's file is torn.
    """
    run = RunFiles(path)
    status = read_status(run.directory)
    judgements = read_judgements(run)
    results = read_results(run, status)
    return Report(
        name=run.config.name,
        state=read_state(run, is_finished=status.is_finished),
        headline=headline(run, results),
        results=results,
        flow=read_flow(run),
        difficulty=read_difficulty(run, judgements),
        judge=read_judge(run, judgements),
        shares=read_shares(run),
        mixes=tuple(read_mixes(run)),
        changes=tuple(read_changes(run)),
        curves=tuple(read_curves(run)),
        families=tuple(read_families(run)),
        overlap=read_overlap(run),
        costs=read_costs(run),
        settings=read_settings(run),
        written=time.time(),
    )


def read_state(run: RunFiles, *, is_finished: bool) -> State:
    """Whether the run goes, has ended, or was stopped."""
    if is_finished:
        return "finished"
    if run.is_at_work():
        return "running"
    return "stopped" if run.stages or run.running else "started"
