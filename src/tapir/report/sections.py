"""The sections of the page, in order: what stands in each, and what to say where there is nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tapir.report.examples import MOST_TASKS, Family
from tapir.report.figures import answer, costs, difficulty, flow, judge, overlap, rounds, tasks
from tapir.report.figures.difficulty import Small
from tapir.report.model import Report
from tapir.report.settings import Settings
from tapir.report.table import Fact, Figure, Table


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    key: str
    title: str
    lead: str
    """What this section answers."""
    figures: tuple[Figure, ...] = ()
    pairs: tuple[Figure, ...] = ()
    """Figures that may stand side by side."""
    tables: tuple[tuple[str, Table], ...] = ()
    """Tables in their own right, with titles."""
    smalls: tuple[Small, ...] = ()
    facts: tuple[Fact, ...] = ()
    families: tuple[Family, ...] = ()
    settings: Settings | None = None
    is_split: bool = False
    """Whether facts stand beside the figure."""
    nothing: str = ""
    """Why there is nothing to show yet."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        parts = (self.figures, self.pairs, self.tables, self.smalls, self.facts, self.families, self.settings)
        return not any(parts)


def sections(report: Report) -> list[Section]:
    """All sections of a report."""
    return [build(report) for build in _BUILDERS]


def _present(*figures: Figure | None) -> tuple[Figure, ...]:
    return tuple(one for one in figures if one is not None)


def _answer(report: Report) -> Section:
    lead = "How much better the student became, how sure that is, and where it lost."
    results = report.results
    if results is None:
        return Section("answer", "The answer", lead, nothing="No student is evaluated yet.")
    table = answer.differences_table(results)
    return Section(
        "answer",
        "The answer",
        lead,
        figures=_present(answer.students_figure(results), answer.tasks_figure(results)),
        pairs=_present(answer.rounds_figure(results), answer.levels_figure(results)),
        tables=(("TAPIR minus each rival, item by item", table),) if table else (),
    )


def _flow(report: Report) -> Section:
    lead = "Where every row went: rows in are rows kept plus rows refused, at every stage."
    found = _present(flow.flow_figure(report.flow), flow.growth_figure(report.flow))
    return Section("flow", "The flow of rows", lead, figures=found, nothing="The corpus is not read yet.")


def _difficulty(report: Report) -> Section:
    lead = "What the student cannot do yet, by task; everything right of δ becomes a seed."
    found = report.difficulty
    if found is None:
        return Section("difficulty", "Difficulty", lead, nothing="The judge has not finished D yet.")
    return Section(
        "difficulty",
        "Difficulty",
        lead,
        figures=(difficulty.mfd_figure(found),),
        smalls=tuple(difficulty.small_multiples(found)),
        tables=(("Seeds left per task for other thresholds", difficulty.threshold_table(found)),),
    )


def _shares(report: Report) -> Section:
    lead = "How the task types are balanced, from the raw corpus to what is taught."
    if report.shares is None:
        return Section("tasks", "Tasks", lead, nothing="The rows of D are not labelled yet.")
    return Section("tasks", "Tasks", lead, figures=(tasks.shares_figure(report.shares),))


def _curriculum(report: Report) -> Section:
    lead = "What each round was taught, and what became of what the student knew."
    pairs = _present(
        rounds.mixture_figure(report.mixes),
        rounds.change_figure(report.changes),
        rounds.shortfall_figure(report.changes),
    )
    return Section("curriculum", "The curriculum", lead, pairs=pairs)


def _training(report: Report) -> Section:
    lead = "The loss of each round."
    figures = _present(rounds.loss_figure(report.curves))
    return Section("training", "Training", lead, figures=figures, nothing="No training stage has noted a curve yet.")


def _judge(report: Report) -> Section:
    lead = "Whether the verdicts can be trusted: how the judge spends its scale, and what sways it."
    if report.judge is None:
        return Section("judge", "The judge", lead, nothing="The judge has not finished D yet.")
    figures = (judge.scores_figure(report.judge),)
    return Section("judge", "The judge", lead, figures=figures, facts=judge.facts(report.judge), is_split=True)


def _families(report: Report) -> Section:
    lead = f"What the teacher made of them: one seed of each task, of the {MOST_TASKS} tasks with most seeds at most."
    return Section("examples", "Seeds and what became of them", lead, families=report.families, nothing="No seeds yet.")


def _overlap(report: Report) -> Section:
    lead = "What the training data repeats of the evaluation sets."
    found = report.overlap
    if found is None:
        return Section(
            "contamination", "Contamination", lead, nothing="There is no evaluation set to compare with yet."
        )
    tables = (("Rows kept out", overlap.examples_table(found)),) if found.examples else ()
    return Section("contamination", "Contamination", lead, facts=overlap.facts(found), tables=tables)


def _costs(report: Report) -> Section:
    lead = "Time, calls and money, and what the ledger has saved."
    table = costs.spending_table(report.costs)
    return Section(
        "costs",
        "Cost and time",
        lead,
        facts=costs.cost_facts(report.costs),
        figures=_present(costs.time_figure(report.costs)),
        tables=(("Calls and money by role", table),) if table else (),
    )


def _settings(report: Report) -> Section:
    lead = "What it takes to run this again. Settings that differ from their defaults stand first."
    return Section("settings", "Settings and versions", lead, settings=report.settings)


_BUILDERS: Sequence[Callable[[Report], Section]] = (
    _answer,
    _flow,
    _difficulty,
    _judge,
    _shares,
    _curriculum,
    _training,
    _families,
    _overlap,
    _costs,
    _settings,
)
