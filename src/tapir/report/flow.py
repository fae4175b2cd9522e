"""The flow of rows: in = kept + refused, stage by stage."""

from collections.abc import Mapping
from dataclasses import dataclass

from tapir.report.reading import RunFiles, Stage, summed


@dataclass(frozen=True)
class Loss:
    """Rows that one stage refused, by reason."""

    stage: str
    """The directory of the stage, for a link to its rows."""
    title: str
    rows_in: int
    kept: int
    reasons: Mapping[str, int]
    seconds: float

    @property
    def refused(self) -> int:
        """All rows refused."""
        return sum(self.reasons.values())


@dataclass(frozen=True)
class Selection:
    """How D became seeds and easy rows; a figure is None while its stage is not whole."""

    offered: int
    accepted: int
    held_out: int
    kept: int | None
    """D after rows that repeat evaluation items were taken out."""
    judged: int | None
    labelled: int | None
    seeds: int | None
    refined: int | None

    @property
    def easy(self) -> int | None:
        """Judged and labelled rows that are no seeds."""
        return None if self.labelled is None or self.seeds is None else self.labelled - self.seeds


@dataclass(frozen=True)
class Growth:
    """What one round added to the hard pool."""

    round: int
    asked: int
    drafted: int
    admitted: int
    refined: int
    joined: int
    """Rows that went into D_P: those refined, or of them those that the current student still fails."""
    reasons: Mapping[str, int]
    """Why drafts and lessons were refused."""


@dataclass(frozen=True)
class Flow:
    """Where rows went."""

    stages: tuple[Loss, ...]
    selection: Selection | None
    rounds: tuple[Growth, ...]

    @property
    def reasons(self) -> dict[str, int]:
        """All refusals by reason, most frequent first."""
        return summed(one.reasons for one in self.stages)

    @property
    def refused(self) -> int:
        """All rows refused."""
        return sum(one.refused for one in self.stages)


def read_flow(run: RunFiles) -> Flow:
    """The flow of rows as far as the run has come."""
    stages = [one for one in run.stages if one.verb != "mix"]
    return Flow(
        stages=tuple(_loss(one) for one in stages),
        selection=_selection(run),
        rounds=tuple(_growth(run, round_) for round_ in run.rounds if run.in_round(round_, "expand")),
    )


def _loss(stage: Stage) -> Loss:
    return Loss(
        stage=stage.label,
        title=stage.title,
        rows_in=stage.rows_in,
        kept=stage.kept,
        reasons=stage.refused,
        seconds=float(stage.record["seconds"]),
    )


def _selection(run: RunFiles) -> Selection | None:
    corpus = run.stage("corpus")
    if corpus is None:
        return None
    clean = run.stage("decontaminate")
    inside = clean.rows_in if clean else corpus.kept
    judge, label = run.stage("judge"), run.stage("label")
    select, refine = run.stage("select"), run.stage("refine")
    return Selection(
        offered=corpus.rows_in,
        accepted=corpus.kept,
        held_out=corpus.kept - inside,
        kept=clean.kept if clean else None,
        judged=judge.kept if judge else None,
        labelled=_labelled(judge, label),
        seeds=select.kept if select else None,
        refined=refine.kept if refine else None,
    )


def _labelled(judge: Stage | None, label: Stage | None) -> int | None:
    """Rows that have both a verdict and a label."""
    if judge is None or label is None:
        return None
    if not label.refused:
        return judge.kept
    unlabelled = set(label.read_refused("id")["id"].to_pylist())
    return judge.kept - sum(one in unlabelled for one in judge.read("id")["id"].to_pylist())


def _growth(run: RunFiles, round_: int) -> Growth:
    drafted, admitted = run.in_round(round_, "expand"), run.in_round(round_, "admit")
    refine, again = run.stage("refine", round_), run.stage("judge-new", round_)
    mix, previous = run.stage("mix", round_), run.stage("mix", round_ - 1)
    refined = refine.kept if refine else 0
    seeds = run.stage("refine")
    before = int(previous.notes["pool"]) if previous else seeds.kept if seeds else 0
    joined = int(mix.notes["pool"]) - before if mix else refined
    lossy = [*drafted, *admitted, *(one for one in (refine, again) if one)]
    return Growth(
        round=round_,
        asked=sum(one.rows_in for one in drafted),
        drafted=sum(one.kept for one in drafted),
        admitted=sum(one.kept for one in admitted),
        refined=refined,
        joined=joined,
        reasons=summed(one.refused for one in lossy),
    )
