"""What a run is doing now: stages at work, what they have spent, what was refused last."""

import contextlib
import time
from dataclasses import dataclass

from tapir.console import duration
from tapir.oracles.ledger_file import LEDGER, run_spending
from tapir.oracles.money import forecast, total
from tapir.report.formats import count
from tapir.report.model import STATE_TEXT, State, read_state
from tapir.report.progress import Course, read_progress
from tapir.report.reading import RunFiles, stage_title
from tapir.status import Status

LATEST = 8
SAID = 3


@dataclass(frozen=True)
class AtWork:
    """A stage at work, in words."""

    stage: str
    share: float | None
    """How much of it is done, 0 to 1; None where its size is not known."""
    text: str


@dataclass(frozen=True)
class Refusal:
    """A row refused lately."""

    stage: str
    id: str
    reason: str
    detail: str
    text: str


@dataclass(frozen=True)
class Live:
    """The state of a run at one moment."""

    version: str
    state: State
    rounds_done: int
    rounds: int
    at_work: tuple[AtWork, ...]
    said: tuple[str, ...]
    spent: str
    refusals: tuple[Refusal, ...]

    @property
    def state_text(self) -> str:
        """The state in words."""
        return STATE_TEXT[self.state]


def read_live(run: RunFiles, status: Status) -> Live:
    """The state of a run, now; `status` may be as old as its last whole stage."""
    state = read_state(run, is_finished=status.is_finished)
    courses, said = read_progress(run.directory) if state == "running" else ([], [])
    return Live(
        version=run.version,
        state=state,
        rounds_done=status.rounds_done,
        rounds=status.rounds,
        at_work=tuple(_at_work(run, courses)) if state == "running" else (),
        said=tuple(said[-SAID:]),
        spent=_spent(run, courses),
        refusals=tuple(_latest(run)),
    )


def _at_work(run: RunFiles, courses: list[Course]) -> list[AtWork]:
    """The stages at work, by the run's own word; without it, what has begun on disk."""
    if courses:
        return [_told(one) for one in courses]
    found = []
    for label in run.running:
        begun = run.directory / "stages" / label / "begun.json"
        with contextlib.suppress(FileNotFoundError):
            found.append(AtWork(label, None, f"for {duration(time.time() - begun.stat().st_mtime)}"))
    return found


def _told(one: Course) -> AtWork:
    share = min(1.0, one.done / one.total) if one.total else None
    parts = [f"{one.done:,.0f} of {one.total:,.0f}" if one.total else f"{one.done:,.0f} done"]
    if one.rate:
        parts.append(f"{one.rate:,.3g} a second")
    if one.left_s is not None:
        parts.append(f"{duration(one.left_s)} left")
    if one.refused:
        parts.append(f"{one.refused:,} refused")
    if one.text:
        parts.append(one.text)
    return AtWork(one.stage, share, ", ".join(parts))


def _spent(run: RunFiles, courses: list[Course]) -> str:
    """Money and calls so far, and what the stages at work will have taken when they are done."""
    spending = run_spending(run.directory.parent / LEDGER, run.config.name)
    if not spending:
        return ""
    spent = total(spending)
    currency = run.config.budget.currency
    text = f"{spent.cost:,.2f} {currency} in {count(spent.calls, 'call')}"
    if spent.saved_calls:
        text += f"; {spent.saved_calls:,} answered by the ledger"
    more = 0.0
    for course in courses:
        own = total(one for one in spending if stage_title(one.stage) == course.stage)
        if own.cost and course.total:
            more += forecast(own, round(course.done), round(course.total)).cost - own.cost
    return text + (f"; about {spent.cost + more:,.2f} {currency} when the stages at work are done" if more else "")


def _latest(run: RunFiles) -> list[Refusal]:
    """The last rows refused by the stages that became whole last."""
    found: list[Refusal] = []
    for stage in sorted(run.stages, key=lambda one: -(float(one.record["started"]) + float(one.record["seconds"]))):
        if len(found) >= LATEST:
            break
        if stage.refused:
            rows = stage.read_refused("id", "reason", "detail", "text").slice(
                max(0, sum(stage.refused.values()) - LATEST)
            )
            found += [Refusal(stage.title, **row) for row in reversed(rows.to_pylist())]
    return found[:LATEST]
