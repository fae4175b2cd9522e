"""Figures on time and money."""

from tapir.console import duration
from tapir.oracles.money import Spending
from tapir.report.charts.bars import Bar, bars
from tapir.report.charts.svg import NARROW, WIDE
from tapir.report.costs import Costs
from tapir.report.formats import count, share
from tapir.report.reading import stage_title
from tapir.report.table import Fact, Figure, Table

DRAWN = 14
"""Stages drawn apart; the short rest is drawn as one."""


def time_figure(costs: Costs) -> Figure | None:
    """Where the time went; None before a stage is whole."""
    ranked = sorted(costs.times, key=lambda one: -one.seconds)
    if not ranked:
        return None
    rows = [Bar(one.title, one.seconds, duration(one.seconds)) for one in ranked[:DRAWN]]
    rest = sum(one.seconds for one in ranked[DRAWN:])
    if rest:
        rows.append(Bar(f"{len(ranked) - DRAWN} others", rest, duration(rest)))
    title = "Time by stage"
    table = Table(
        ("stage", "seconds", "rows in", "rows a second"),
        tuple((one.title, one.seconds, one.rows, one.rows / one.seconds if one.seconds else None) for one in ranked),
        "Stages that stream into each other run at the same time; each counts from its own start.",
    )
    top = ranked[0]
    text = (
        f"{top.title} takes longest: {duration(top.seconds)}, {share(top.seconds, costs.seconds)} of the stages' time."
    )
    return Figure("time", title, text, bars(rows, WIDE, title), bars(rows, NARROW, title), table)


def cost_facts(costs: Costs) -> tuple[Fact, ...]:
    """The sums."""
    found = [Fact("Time in stages", duration(costs.seconds), "Of this run's own stages, as far as they are whole.")]
    if costs.arm_seconds:
        found.append(Fact("Time in rivals", duration(costs.arm_seconds), "They train beside the run or after it."))
    if not costs.spending:
        return (*found, Fact("Money", "none", "No paid oracle took part in this run."))
    spent = costs.total
    money = f"{spent.cost:,.2f} {costs.currency}"
    found.append(Fact("Spent", money, f"{count(spent.calls, 'call')}, the unusable ones too."))
    tokens = f"{spent.input_tokens + spent.output_tokens:,}"
    found.append(Fact("Tokens", tokens, f"{spent.input_tokens:,} in, {spent.output_tokens:,} out."))
    asked = spent.calls + spent.saved_calls
    saved = (
        f"The ledger answered {share(spent.saved_calls, asked)} of all calls: {spent.saved_cost:,.2f} {costs.currency}."
    )
    found.append(Fact("Calls saved", f"{spent.saved_calls:,}", saved))
    return tuple(found)


def spending_table(costs: Costs) -> Table | None:
    """Calls and money by role and stage; None for a run without paid oracles."""
    if not costs.spending:
        return None
    head = ("role", "stage", "calls", "tokens in", "tokens out", f"cost, {costs.currency}", "calls saved", "cost saved")
    rows = [_row(one.role, stage_title(one.stage), one) for one in sorted(costs.spending, key=lambda one: -one.cost)]
    note = "Where a server does not say how many tokens it used, they are our estimate."
    is_estimated = any(one.estimated_calls for one in costs.spending)
    return Table(head, (*rows, _row("all", "", costs.total)), note if is_estimated else "")


def _row(role: str, stage: str, one: Spending) -> tuple[str | int, ...]:
    cost, saved = f"{one.cost:,.4f}", f"{one.saved_cost:,.4f}"
    return role, stage, one.calls, one.input_tokens, one.output_tokens, cost, one.saved_calls, saved
