"""The finding in words: what a reader remembers when the page is closed."""

from dataclasses import dataclass

from tapir.evaluation.results import Difference
from tapir.report.formats import bound, listed, percent, signed
from tapir.report.reading import RunFiles
from tapir.report.results import Results, Student

NAMED_LOSSES = 3


@dataclass(frozen=True)
class Headline:
    """The first thing on the page."""

    sentence: str
    details: tuple[str, ...]


def headline(run: RunFiles, results: Results | None) -> Headline:
    """What this run has found, as far as it has come."""
    cfg = run.config
    if results is None or (results.start is None and results.final is None):
        return _before_results(run)
    final, start = results.final, results.start
    rounds = cfg.curriculum.rounds
    if final is None:
        assert start is not None
        sentence = f"S0 stands at {percent(start.parts['all'].mean)}; no round of TAPIR is evaluated yet"
        return Headline(sentence + ".", ())
    details = [text for text in (_against_rivals(results), _losses(results)) if text]
    if not results.is_last:
        details.append(f"{_round_of(final)} of {rounds} rounds done; the figures are those of the newest student.")
    return Headline(_lift(start, final, results), tuple(details))


def _before_results(run: RunFiles) -> Headline:
    cfg = run.config
    rounds = cfg.curriculum.rounds
    if not run.stages:
        return Headline("This run has just started: no stage is whole yet.", ())
    if not cfg.evaluation.sets and not cfg.evaluation.held_out:
        done = len(run.named("train"))
        sentence = f"{done} of {rounds} rounds are trained; how good the student became was not measured."
        hint = "The configuration names no evaluation set: give evaluation.sets or evaluation.held_out."
        return Headline(sentence, (hint,))
    return Headline("The student is not evaluated yet; what is known so far follows.", ())


def _round_of(student: Student) -> int:
    return int(student.arm.rpartition("-")[2])


def _lift(start: Student | None, final: Student, results: Results) -> str:
    reached = percent(final.parts["all"].mean)
    if start is None:
        return f"After round {_round_of(final)} the student stands at {reached}."
    before = percent(start.parts["all"].mean)
    change = results.differences["s0"]["all"]
    if change.low > 0:
        return f"TAPIR lifts the student from {before} to {reached}{_over_sft(results)}."
    if change.high < 0:
        return f"TAPIR lowers the student from {before} to {reached}{_over_sft(results)}."
    return f"TAPIR leaves the student where it was: {before} before, {reached} after{_over_sft(results)}."


def _over_sft(results: Results) -> str:
    gap = results.differences.get("sft", {}).get("all")
    return "" if gap is None else f"; {points(gap)} over SFT on the same tokens"


def _against_rivals(results: Results) -> str:
    best = next(iter(results.rivals), None)
    if best is None or best.arm == "sft":
        return ""
    gap = results.differences.get(best.arm, {}).get("all")
    if gap is None:
        return ""
    verdict = "ahead of" if gap.low > 0 else "behind" if gap.high < 0 else "not clearly apart from"
    return f"It is {verdict} its strongest rival ({best.title}): {points(gap)}."


def _losses(results: Results) -> str:
    lost = results.losses("s0")
    if not lost:
        return "It loses on no task beyond the interval, measured against S0." if results.start else ""
    named = [f"{task} ({signed(gap.mean)})" for task, gap in list(lost.items())[:NAMED_LOSSES]]
    more = len(lost) - len(named)
    return f"It loses on {listed(named)}{f' and {more} more' if more else ''}, measured against S0."


def points(gap: Difference) -> str:
    """A difference in points with its interval, for a sentence."""
    return f"{signed(gap.mean)}\u00a0points [{bound(gap.low)},\u00a0{bound(gap.high)}]"
