"""Flows between columns of nodes: every ribbon as thick as the rows that it stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tapir.report.charts.svg import box, drawing, el, number, text

NODE = 10.0
GAP = 20.0
LABEL = 30.0
"""Height of a node's two lines of text: neighbours keep this far apart."""


@dataclass(frozen=True)
class Node:
    """A pile of rows in a column."""

    key: str
    column: int
    label: str
    style: str


@dataclass(frozen=True)
class Link:
    """Rows that go from one node to another."""

    source: str
    target: str
    rows: int
    style: str


@dataclass(frozen=True)
class _Placed:
    node: Node
    x: float
    y: float
    height: float
    rows: int


def sankey(nodes: Sequence[Node], links: Sequence[Link], width: float, height: float, title: str) -> Markup:
    """The chart. Nodes stand in their column in the order given; a node without rows is left out."""
    links = [one for one in links if one.rows > 0]
    rows = _sizes(nodes, links)
    nodes = [one for one in nodes if rows[one.key]]
    placed = _place(nodes, rows, width, height)
    bottom = max((one.y + max(one.height, LABEL) for one in placed.values()), default=0.0)
    parts = _ribbons(links, placed)
    last = max((one.column for one in nodes), default=0)
    for one in placed.values():
        parts.append(box(one.x, one.y, NODE, one.height, one.node.style, f"{one.node.label}: {one.rows:,} rows"))
        at_end = one.node.column == last and last > 0
        x = one.x - 6 if at_end else one.x + NODE + 6
        middle = one.y + one.height / 2
        anchor = "end" if at_end else "start"
        parts.append(text(x, middle - 2, f"{one.rows:,}", "strong num", anchor))
        parts.append(text(x, middle + 12, one.node.label, "", anchor))
    return drawing(width, max(60.0, bottom + 8), title, parts, "chart scrolled")


def _sizes(nodes: Sequence[Node], links: Sequence[Link]) -> dict[str, int]:
    """Rows in each node: what comes in, or what goes out of a node without a source."""
    coming = {one.key: sum(link.rows for link in links if link.target == one.key) for one in nodes}
    going = {one.key: sum(link.rows for link in links if link.source == one.key) for one in nodes}
    return {key: max(coming[key], going[key]) for key in coming}


def _place(nodes: Sequence[Node], rows: Mapping[str, int], width: float, height: float) -> dict[str, _Placed]:
    columns = max((one.column for one in nodes), default=0) + 1
    by_column = [[one for one in nodes if one.column == column] for column in range(columns)]
    most = max((sum(rows[one.key] for one in column) for column in by_column), default=0)
    spaces = max((len(column) for column in by_column), default=1) - 1
    unit = max(1.0, height - spaces * GAP - LABEL) / most if most else 0.0
    step = (width - NODE - 2) / max(1, columns - 1)
    placed: dict[str, _Placed] = {}
    for column, group in enumerate(by_column):
        y = LABEL / 2
        for one in group:
            tall = max(1.5, rows[one.key] * unit)
            placed[one.key] = _Placed(one, 1 + column * step, y, tall, rows[one.key])
            y += max(tall + GAP, LABEL + 8)
    return placed


def _ribbons(links: Sequence[Link], placed: Mapping[str, _Placed]) -> list[Markup]:
    leaving = dict.fromkeys(placed, 0.0)
    arriving = dict.fromkeys(placed, 0.0)
    parts = []
    for link in links:
        source, target = placed[link.source], placed[link.target]
        thick = max(1.0, link.rows * source.height / source.rows)
        thin = max(1.0, link.rows * target.height / target.rows)
        y1, y2 = source.y + leaving[link.source], target.y + arriving[link.target]
        leaving[link.source] += thick
        arriving[link.target] += thin
        hint = f"{source.node.label} to {target.node.label}: {link.rows:,} rows"
        parts.append(_ribbon((source.x + NODE, y1, thick), (target.x, y2, thin), link.style, hint))
    return parts


def _ribbon(start: tuple[float, float, float], end: tuple[float, float, float], style: str, hint: str) -> Markup:
    (x1, y1, thick), (x2, y2, thin) = start, end
    middle = number((x1 + x2) / 2)
    there = f"M{number(x1)} {number(y1)}C{middle} {number(y1)} {middle} {number(y2)} {number(x2)} {number(y2)}"
    low1, low2 = number(y1 + thick), number(y2 + thin)
    d = f"{there}V{low2}C{middle} {low2} {middle} {low1} {number(x1)} {low1}Z"
    return el("path", el("title", hint), d=d, class_=f"ribbon {style}")
