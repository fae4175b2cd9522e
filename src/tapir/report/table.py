"""Tables and figures as values: what a page shows, before it is HTML."""

from dataclasses import dataclass

from markupsafe import Markup

Cell = str | int | float | None
"""A cell of a table: whole numbers get separators, fractions one decimal, None stays empty."""


@dataclass(frozen=True)
class Table:
    """The numbers behind a figure."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    has_figures: bool = True
    """Whether figures stand at the right of their columns; off where a column mixes them with words."""


@dataclass(frozen=True)
class Figure:
    """A chart with what to conclude from it, and its numbers."""

    key: str
    """Unique on the page; the anchor of the figure."""
    title: str
    conclusion: str
    """What a reader may take from the figure, in a sentence or two."""
    wide: Markup
    """The drawing for a desk."""
    narrow: Markup
    """The drawing for a phone; may be the same."""
    table: Table
    legend: tuple[tuple[str, str], ...] = ()
    """Style class of a mark and what it stands for."""


@dataclass(frozen=True)
class Fact:
    """One figure with its name and what it means."""

    name: str
    value: str
    meaning: str
