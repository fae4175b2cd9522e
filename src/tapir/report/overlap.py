"""Contamination: what training text repeats of the evaluation sets, and what was kept out for it."""

from collections.abc import Iterator
from dataclasses import dataclass

from tapir.contamination import EvaluationIndex
from tapir.report.reading import INSTRUCTION, RunFiles, Stage, instructions, strings

MOST_ROWS = 60_000
"""Instructions that are searched; of a larger run, so many of the first rows of each stage."""
REASON = "contaminated"
SHOWN = 8


@dataclass(frozen=True)
class Overlap:
    """What was found, and what was done about it."""

    ngram: int
    """Words in a row that count as a repeat."""
    is_refusing: bool
    refused_corpus: int
    refused_new: int
    examples: tuple[tuple[str, str], ...]
    """Refused rows: what is shared, and the text."""
    searched: int
    """Instructions of the training data that were searched for this page."""
    of: int
    found: int
    """Those among them that still repeat an evaluation item."""


def read_overlap(run: RunFiles) -> Overlap | None:
    """Contamination of this run's training data; None where there is nothing to compare with."""
    first = next(iter(run.named("evaluate")), None)
    clean = run.stage("decontaminate")
    if first is None or clean is None or not first.kept:
        return None
    cfg = run.config.evaluation
    items = strings(first.read("instruction")["instruction"])
    index = EvaluationIndex(items, cfg.contamination_ngram)
    stages = [clean, *(one for one in run.named("refine") if one.round)]
    searched = found = 0
    for stage in stages:
        for text in _texts(stage, MOST_ROWS // len(stages)):
            searched += 1
            found += index.hits(text) is not None
    admits = run.named("admit")
    return Overlap(
        ngram=cfg.contamination_ngram,
        is_refusing=cfg.refuse_contaminated,
        refused_corpus=clean.refused.get(REASON, 0),
        refused_new=sum(one.refused.get(REASON, 0) for one in admits),
        examples=tuple(_examples([clean, *admits])),
        searched=searched,
        of=sum(one.kept for one in stages),
        found=found,
    )


def _texts(stage: Stage, most: int) -> Iterator[str]:
    """The instructions of a stage, at most so many."""
    for batch in stage.batches(INSTRUCTION):
        column = instructions(batch.column(0))
        yield from strings(column[:most])
        most -= len(column)
        if most <= 0:
            return


def _examples(stages: list[Stage]) -> Iterator[tuple[str, str]]:
    left = SHOWN
    for stage in stages:
        if not stage.refused.get(REASON) or not left:
            continue
        rows = stage.read_refused("reason", "detail", "text").to_pylist()
        for row in [one for one in rows if one["reason"] == REASON][:left]:
            left -= 1
            yield row["detail"], row["text"]
