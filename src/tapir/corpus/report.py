"""What a data set holds, before anything is spent on it."""

import json
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tapir.config import CorpusConfig
from tapir.contamination import EvaluationIndex
from tapir.corpus.clean import Cleaned
from tapir.corpus.file_corpus import cleaned_rows, data_set
from tapir.corpus.raw import REASONS, REPAIRS, Repair
from tapir.corpus.read import FileFacts, Watch
from tapir.dedup import comparable
from tapir.rows import Example, Refused
from tapir.scripts import script_of

EXAMPLES = 3
"""Examples shown of each repair and each reason."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


class Lengths(msgspec.Struct, frozen=True):
    """How long texts are, over the accepted rows."""

    mean: float
    quantiles: dict[str, int]
    """By name of the quantile: `0` the shortest, `0.5` the median, `1` the longest."""


class Repaired(msgspec.Struct, frozen=True):
    """How often one kind of repair was made."""

    count: int
    """Rows, or files for repairs of files."""
    examples: list[Repair]


class RefusedKind(msgspec.Struct, frozen=True):
    """How often rows were refused for one reason."""

    count: int
    examples: list[Refused]


class FileReport(msgspec.Struct, frozen=True):
    """What one file holds."""

    name: str
    format: str
    encoding: str
    is_compressed: bool
    size: int
    """Bytes on disk; 0 for a hub data set."""
    rows: int


class CorpusReport(msgspec.Struct, frozen=True):
    """What a data set holds: rows read are rows accepted and rows refused."""

    path: str
    files: list[FileReport]
    rows: int
    accepted: int
    repaired_rows: int
    """Accepted rows with at least one repair."""
    repairs: dict[str, Repaired]
    refused: dict[str, RefusedKind]
    shapes: dict[str, int]
    """Accepted rows by the shape of their columns."""
    system_rows: int
    """Accepted rows with a system prompt."""
    multi_turn_rows: int
    """Accepted rows with earlier exchanges."""
    instruction_chars: Lengths
    instruction_words: Lengths
    response_chars: Lengths
    response_words: Lengths
    scripts: dict[str, int]
    """Accepted rows by the script of most letters of the instruction."""
    licenses: dict[str, int]
    """Accepted rows by licence; `unknown` where neither the row nor the configuration names one."""
    sources: dict[str, int]
    """Accepted rows by source, the most frequent twenty."""
    limit: int | None
    """What corpus.limit would draw of the accepted rows."""

    @property
    def refused_rows(self) -> int:
        """Rows refused, for all reasons."""
        return sum(kind.count for kind in self.refused.values())

    def to_json(self) -> str:
        """The report as JSON, indented."""
        return json.dumps(msgspec.to_builtins(self), ensure_ascii=False, indent=1)


def inspect(cfg: CorpusConfig, evaluation: EvaluationIndex | None = None, watch: Watch | None = None) -> CorpusReport:
    """Read a data set as a run would, and say what is in it; writes nothing.

    Raises:
        DataError: it cannot be read as instructions and responses.
    """
    data = data_set(cfg)
    tally = _Tally()
    files: dict[str, FileFacts] = {}

    def note(facts: FileFacts, position: int) -> None:
        files[facts.name] = facts
        if watch is not None:
            watch(facts, position)

    for cleaned, row in cleaned_rows(data, cfg, evaluation, note):
        tally.add(cleaned, row)
    for repair in (*data.skipped, *(repair for facts in files.values() for repair in facts.repairs)):
        tally.repaired(repair)
    return tally.report(cfg, files.values())


class _Tally:
    """Counts over the rows, with a few examples of each kind."""

    def __init__(self) -> None:
        self.rows = self.repaired_rows = self.system_rows = self.multi_turn_rows = 0
        self.repairs: dict[str, tuple[list[Repair], int]] = {}
        self.refusals: dict[str, tuple[list[Refused], int]] = {}
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in ("shape", "script", "license", "source")}
        self.lengths = {name: array("I") for name in ("instruction", "response", "instruction words", "response words")}
        self._random = random.Random(0)

    def add(self, cleaned: Cleaned, row: Example | Refused) -> None:
        """Count one row."""
        self.rows += 1
        if isinstance(row, Refused):
            kept, count = self.refusals.get(row.reason, ([], 0))
            self.refusals[row.reason] = self._sampled(kept, count, row), count + 1
            return
        self.repaired_rows += bool(cleaned.repairs)
        seen = set()
        for repair in cleaned.repairs:
            if repair.kind not in seen:
                seen.add(repair.kind)
                self.repaired(repair)
        asked = comparable(row)
        self.system_rows += row.turns[0].role == "system"
        self.multi_turn_rows += any(turn.role == "assistant" for turn in row.turns)
        self.counts["shape"][cleaned.shape or "?"] += 1
        self.counts["script"][script_of(asked)] += 1
        self.counts["license"][row.lineage.license or "unknown"] += 1
        self.counts["source"][row.lineage.source] += 1
        for name, text in (("instruction", asked), ("response", row.response)):
            self.lengths[name].append(len(text))
            self.lengths[f"{name} words"].append(len(text.split()))

    def repaired(self, repair: Repair) -> None:
        """Count one repair."""
        kept, count = self.repairs.get(repair.kind, ([], 0))
        self.repairs[repair.kind] = self._sampled(kept, count, repair), count + 1

    def _sampled(self, kept: list[Any], count: int, item: Any) -> list[Any]:
        """A reservoir of EXAMPLES items, the same for the same rows."""
        if len(kept) < EXAMPLES:
            kept.append(item)
        elif (at := self._random.randrange(count + 1)) < EXAMPLES:
            kept[at] = item
        return kept

    def report(self, cfg: CorpusConfig, files: Iterable[FileFacts]) -> CorpusReport:
        """The counts as a report."""
        refused = sum(count for _, count in self.refusals.values())
        return CorpusReport(
            path=cfg.path,
            files=[FileReport(f.name, f.format, f.encoding, f.is_compressed, f.size, f.rows) for f in files],
            rows=self.rows,
            accepted=self.rows - refused,
            repaired_rows=self.repaired_rows,
            repairs={kind: Repaired(self.repairs[kind][1], self.repairs[kind][0]) for kind in _by_count(self.repairs)},
            refused={
                kind: RefusedKind(self.refusals[kind][1], self.refusals[kind][0]) for kind in _by_count(self.refusals)
            },
            shapes=dict(self.counts["shape"].most_common()),
            system_rows=self.system_rows,
            multi_turn_rows=self.multi_turn_rows,
            instruction_chars=lengths(self.lengths["instruction"]),
            instruction_words=lengths(self.lengths["instruction words"]),
            response_chars=lengths(self.lengths["response"]),
            response_words=lengths(self.lengths["response words"]),
            scripts=dict(self.counts["script"].most_common()),
            licenses=dict(self.counts["license"].most_common()),
            sources=dict(self.counts["source"].most_common(20)),
            limit=min(cfg.limit, self.rows - refused) if cfg.limit else None,
        )


def _by_count(kinds: dict[str, tuple[Any, int]]) -> list[str]:
    return sorted(kinds, key=lambda kind: (-kinds[kind][1], kind))


def lengths(values: Sequence[int]) -> Lengths:
    """Mean and quantiles (nearest rank) of lengths; zeros where there are none."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return Lengths(
        mean=round(sum(ordered) / len(ordered), 1) if ordered else 0.0,
        quantiles={f"{q:g}": ordered[round(q * last)] if ordered else 0 for q in QUANTILES},
    )


def explanation(kind: str) -> str:
    """What a reason or a repair means, in a sentence."""
    return REASONS.get(kind) or REPAIRS.get(kind) or kind
