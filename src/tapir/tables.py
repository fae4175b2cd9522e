"""Numbers as a person reads them in a terminal, or as JSON for machines."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from tapir.arms import ARM_TITLES
from tapir.console import duration
from tapir.evaluation.results import Summary
from tapir.oracles.money import Spending, total
from tapir.quote import StageQuote, sum_of
from tapir.status import Status

PARTS = ("all", "easy", "hard", "core", "d_like")
PART_TITLES = {"all": "all", "easy": "easy", "hard": "hard", "core": "core", "d_like": "D-like"}


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def arm_title(arm: str) -> str:
    """What an arm is called where people read it."""
    name, _, round_ = arm.partition("-")
    return f"TAPIR after round {round_}" if name == "tapir" and round_ else ARM_TITLES.get(arm, arm)


def quote_table(lines: Sequence[StageQuote], currency: str, guessed: Sequence[StageQuote] = ()) -> Table:
    """What each stage will ask, and the sum; beside the cost of `guessed`, the same lines before anything was known."""
    is_measured = any(line.measured_over for line in lines)
    columns = ["stage", "role", "calls", "tokens in", "tokens out", f"cost, {currency}"]
    columns += ["estimated"] if guessed else []
    table = Table(*columns, *(["measured over"] if is_measured else []), box=None, header_style="bold")
    before = [*guessed, sum_of(guessed)] if guessed else []
    for index, line in enumerate([*lines, sum_of(lines)]):
        cells = [line.stage, line.role, f"{line.calls:,}"]
        cells += [f"{line.input_tokens:,}", f"{line.output_tokens:,}", f"{line.cost:,.2f}"]
        cells += [f"{before[index].cost:,.2f}"] if before else []
        if is_measured and line.role:
            cells.append(f"{line.measured_over:,} calls" if line.measured_over else "no call yet")
        table.add_row(*cells)
    return table


def print_status(status: Status, forecast: Mapping[str, Spending], *, as_json: bool) -> None:
    """Print a run's state and results; `forecast` is, by role, what it will have spent at its end."""
    if as_json:
        print_json(status.to_dict() | {"forecast": msgspec.to_builtins(forecast)})
        return
    console = Console()
    state = "finished" if status.is_finished else f"{status.rounds_done} of {status.rounds} rounds done"
    console.print(f"run {status.name}: {state}", highlight=False)
    table = Table("stage", "in", "kept", "refused", "time", box=None, header_style="bold")
    for stage in status.stages:
        lost = ", ".join(f"{count} {reason}" for reason, count in sorted(stage.refused.items()))
        table.add_row(stage.name, f"{stage.rows_in:,}", f"{stage.kept:,}", lost, duration(stage.seconds))
    console.print(table)
    _print_spending(console, status, forecast)
    if status.running:
        console.print(f"begun, not whole: {', '.join(status.running)}", highlight=False)
    print_results(status)


def _print_spending(console: Console, status: Status, forecast: Mapping[str, Spending]) -> None:
    """Print what each role has spent, will have spent at the end, and was spared by the ledger."""
    roles = list(dict.fromkeys([*forecast, *(one.role for one in status.spending)]))
    if not roles:
        return
    columns = ["role", "calls", "tokens in", "tokens out", f"cost, {status.currency}", "saved by the ledger"]
    is_ahead = bool(forecast) and not status.is_finished
    table = Table(*columns, *(["at the end, about"] if is_ahead else []), box=None, header_style="bold")
    spent = {role: total((one for one in status.spending if one.role == role), role=role) for role in roles}
    rows = [(role, spent[role], forecast.get(role, spent[role])) for role in roles]
    rows.append(("total", total(one for _, one, _ in rows), total(one for _, _, one in rows)))
    for role, own, end in rows:
        cells = [role, f"{own.calls:,}", f"{own.input_tokens:,}", f"{own.output_tokens:,}", f"{own.cost:,.2f}"]
        cells.append(f"{own.saved_calls:,} calls, {own.saved_cost:,.2f}" if own.saved_calls else "")
        cells += [f"{end.calls:,} calls, {end.cost:,.2f}"] if is_ahead else []
        table.add_row(*cells)
    console.print(table)


def print_results(status: Status) -> None:
    """Print what every arm reached, how sure TAPIR's lead is, and which tasks lose."""
    if not status.evaluation:
        return
    console = Console()
    parts = [part for part in PARTS if any(getattr(one, part) is not None for one in status.evaluation.values())]
    is_accuracy = all(one.is_accuracy for one in status.evaluation.values())
    title = "accuracy, %" if is_accuracy else "judge's score in % of the scale"
    table = Table(
        "", *(PART_TITLES[part] for part in parts), title=title, box=None, header_style="bold", title_justify="left"
    )
    for arm in _order(status):
        values = [getattr(status.evaluation[arm], part) for part in parts]
        table.add_row(arm_title(arm), *("" if value is None else f"{value:.1f}" for value in values))
    console.print(table)
    _print_differences(console, status, parts)
    _print_losses(console, status)


def _order(status: Status) -> list[str]:
    """S_0, the rivals, then TAPIR round by round."""
    own = [arm for arm in status.evaluation if arm.startswith("tapir-")]
    rivals = [arm for arm in status.evaluation if not arm.startswith("tapir") and arm != "s0"]
    return ["s0", *rivals, *own] if "s0" in status.evaluation else [*rivals, *own]


def _print_differences(console: Console, status: Status, parts: list[str]) -> None:
    if not status.differences:
        return
    table = Table(
        "TAPIR minus", *(PART_TITLES[part] for part in parts if part != "d_like"), box=None, header_style="bold"
    )
    for arm in [arm for arm in _order(status) if arm in status.differences]:
        cells = []
        for part in [part for part in parts if part != "d_like"]:
            gap = status.differences[arm].get(part)
            cells.append("" if gap is None else f"{gap.mean:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]")
        table.add_row(arm_title(arm), *cells)
    console.print(table)
    console.print("in brackets: 95 % intervals, paired bootstrap over the test items of this one run", style="dim")


def _print_losses(console: Console, status: Status) -> None:
    """Name the tasks on which TAPIR ends below S_0 or below a rival."""
    ours = status.evaluation.get("tapir")
    if ours is None:
        return
    for arm in ("s0", *(arm for arm in status.differences if arm != "s0")):
        theirs = status.evaluation.get(arm)
        if theirs is None:
            continue
        losses = [
            f"{task} {ours.tasks[task] - value:+.1f}"
            for task, value in theirs.tasks.items()
            if task in ours.tasks and ours.tasks[task] < value
        ]
        if losses:
            console.print(f"TAPIR loses against {arm_title(arm)} on: {', '.join(losses)}", highlight=False)


def print_summary(summary: Summary, *, as_json: bool) -> None:
    """Print one student's results."""
    if as_json:
        print_json(summary.to_dict())
        return
    console = Console()
    unit = "accuracy, %" if summary.is_accuracy else "judge's score in % of the scale"
    table = Table("part", unit, box=None, header_style="bold")
    for part in PARTS:
        value = getattr(summary, part)
        if value is not None:
            table.add_row(PART_TITLES[part], f"{value:.1f}")
    for task, value in summary.tasks.items():
        table.add_row(f"  {task}", f"{value:.1f}")
    console.print(table)
    mean = "" if summary.score is None else f", mean judge score {summary.score:.2f} of 10"
    console.print(f"{summary.items} items{mean}", highlight=False)
