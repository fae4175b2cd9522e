"""Figures on where rows went."""

from tapir.report.charts.sankey import Link, Node, sankey
from tapir.report.flow import Flow, Growth, Selection
from tapir.report.formats import count, share
from tapir.report.table import Cell, Figure, Table

WIDTH = 820.0
REASONS_SHOWN = 4
"""Reasons drawn apart in one place; the rest are drawn together and stand in the table."""


def flow_figure(flow: Flow) -> Figure | None:
    """From D to seeds and easy rows; None before the corpus is read."""
    if flow.selection is None:
        return None
    nodes, links = _selection(flow, flow.selection)
    title = "From the raw corpus to what is hard"
    drawn = sankey(nodes, links, WIDTH, 330, title)
    return Figure(
        key="selection",
        title=title,
        conclusion=_conclude(flow, flow.selection),
        wide=drawn,
        narrow=drawn,
        table=stage_table(flow),
        legend=(("k-hard", "hard: the seed set"), ("k-easy", "easy"), ("k-refused", "refused")),
    )


def _selection(flow: Flow, one: Selection) -> tuple[list[Node], list[Link]]:
    names = ("corpus", "decontaminate", "answer", "respond", "judge", "label")
    losses = {stage.stage.partition("-")[2]: dict(stage.reasons) for stage in flow.stages if stage.stage[:2] == "00"}
    inside = one.kept if one.kept is not None else one.accepted - one.held_out
    nodes = [Node("raw", 0, "raw rows", "k-node"), Node("d", 1, "D", "k-node")]
    links = [Link("raw", "d", inside, "k-easy")]
    if one.held_out:
        nodes.append(Node("held", 1, "held out", "k-start"))
        links.append(Link("raw", "held", one.held_out, "k-start"))
    refused = _refusals({name: losses.get(name, {}) for name in names[:2]}, "raw", 1)
    nodes += refused[0]
    links += refused[1]
    usable = one.labelled if one.labelled is not None else one.judged
    if usable is not None:
        nodes.append(Node("judged", 2, "judged and labelled" if one.labelled is not None else "judged", "k-node"))
        links.append(Link("d", "judged", usable, "k-easy"))
        refused = _refusals({name: losses.get(name, {}) for name in names[2:]}, "d", 2)
        nodes += refused[0]
        links += refused[1]
    if one.seeds is not None and one.easy is not None:
        nodes += [Node("hard", 3, "seeds", "k-hard"), Node("easy", 3, "easy rows", "k-easy-node")]
        links += [Link("judged", "hard", one.seeds, "k-hard"), Link("judged", "easy", one.easy, "k-easy")]
    return nodes, links


def _refusals(by_stage: dict[str, dict[str, int]], source: str, column: int) -> tuple[list[Node], list[Link]]:
    """A node for each frequent reason of some stages, one for the rest."""
    flat = [(reason, rows) for reasons in by_stage.values() for reason, rows in reasons.items()]
    flat.sort(key=lambda item: -item[1])
    shown, rest = flat[:REASONS_SHOWN], sum(rows for _, rows in flat[REASONS_SHOWN:])
    nodes = [Node(f"{source}-{reason}", column, reason, "k-refused") for reason, _ in shown]
    links = [Link(source, f"{source}-{reason}", rows, "k-refused") for reason, rows in shown]
    if rest:
        nodes.append(Node(f"{source}-rest", column, "other reasons", "k-refused"))
        links.append(Link(source, f"{source}-rest", rest, "k-refused"))
    return nodes, links


def _conclude(flow: Flow, one: Selection) -> str:
    text = f"Of {count(one.offered, 'raw row')}, {one.accepted:,} were accepted"
    if one.seeds is not None and one.labelled:
        text += f"; {one.seeds:,} ({share(one.seeds, one.labelled)} of those judged) are hard for the student"
    top = next(iter(flow.reasons.items()), None)
    text += "."
    if top is None:
        return text + " Nothing was refused anywhere."
    return text + f" The most frequent reason of refusal over the whole run is {top[0]} ({count(top[1], 'row')})."


def stage_table(flow: Flow) -> Table:
    """Every stage: in = kept + refused."""
    rows: list[tuple[Cell, ...]] = []
    for one in flow.stages:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in one.reasons.items())
        rows.append((one.title, one.rows_in, one.kept, one.refused, reasons, one.seconds))
    return Table(("stage", "in", "kept", "refused", "reasons", "seconds"), tuple(rows), "Rows in = kept + refused.")


def growth_figure(flow: Flow) -> Figure | None:
    """How the hard pool grew; None before the teacher has written anything."""
    if not flow.rounds:
        return None
    nodes: list[Node] = [Node("asked", 0, "asked of the teacher", "k-node"), Node("written", 1, "written", "k-new")]
    asked = sum(one.asked for one in flow.rounds)
    drafted = sum(one.drafted for one in flow.rounds)
    admitted = sum(one.admitted for one in flow.rounds)
    links = [Link("asked", "written", drafted, "k-new")]
    reasons: dict[str, int] = {}
    for one in flow.rounds:
        for reason, rows in one.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + rows
    short = asked - drafted
    if short > 0:
        nodes.append(Node("short", 1, "not written", "k-refused"))
        links.append(Link("asked", "short", short, "k-refused"))
    nodes.append(Node("admitted", 2, "admitted", "k-new"))
    links.append(Link("written", "admitted", admitted, "k-new"))
    kept_out = {reason: rows for reason, rows in _admission_losses(flow).items() if rows}
    more_nodes, more_links = _refusals({"admit": kept_out}, "written", 2)
    joined = sum(one.joined for one in flow.rounds)
    nodes += [*more_nodes, Node("pool", 3, "joined the hard pool", "k-hard")]
    links += [*more_links, Link("admitted", "pool", joined, "k-hard")]
    if admitted - joined > 0:
        nodes.append(Node("lost", 3, "not refined, or easy by now", "k-refused"))
        links.append(Link("admitted", "lost", admitted - joined, "k-refused"))
    title = "New instructions, all rounds"
    drawn = sankey(nodes, links, WIDTH, 220, title)
    return Figure(
        key="growth",
        title=title,
        conclusion=_conclude_growth(asked, joined, kept_out),
        wide=drawn,
        narrow=drawn,
        table=_growth_table(flow.rounds),
        legend=(("k-new", "written by the teacher"), ("k-hard", "in the hard pool"), ("k-refused", "refused")),
    )


def _admission_losses(flow: Flow) -> dict[str, int]:
    """Why drafts were not admitted."""
    found: dict[str, int] = {}
    for stage in flow.stages:
        if stage.stage.partition("-")[2].startswith("admit"):
            for reason, rows in stage.reasons.items():
                found[reason] = found.get(reason, 0) + rows
    return found


def _conclude_growth(asked: int, joined: int, losses: dict[str, int]) -> str:
    text = f"{joined:,} of {count(asked, 'instruction')} asked for ({share(joined, asked)}) became lessons."
    if losses:
        reason, rows = max(losses.items(), key=lambda item: item[1])
        text += f" Most of what was turned away: {reason} ({rows:,}). A large share here is money spent on nothing."
    return text


def _growth_table(rounds: tuple[Growth, ...]) -> Table:
    rows = tuple(
        (
            str(one.round),
            one.asked,
            one.drafted,
            one.admitted,
            one.refined,
            one.joined,
            ", ".join(f"{number:,} {reason}" for reason, number in one.reasons.items()),
        )
        for one in rounds
    )
    return Table(("round", "asked", "written", "admitted", "refined", "joined the pool", "refused"), rows)
