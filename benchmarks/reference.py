"""The scale of the key-less judge: what unrelated, shortened and altered responses score, and how fast.

    python benchmarks/reference.py                       # character n-grams
    python benchmarks/reference.py --encoder minilm --rows 2000
    python benchmarks/reference.py --json out.json

On Alpaca rows (default: alpaca_*.json.gz in $TAPIR_SHARED_DATA/alpaca or ../shared/data/alpaca) every reference is
compared with another row's response drawn at random, with its own first half, and with itself after a share of its
words was replaced by another row's. The first gives the constants of tapir.reference: by the reference's length, the
F-score that 95 % of unrelated responses stay below, beside the formula in use.
"""

import argparse
import gzip
import json
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tapir.classifiers.embedding import encoder_named
from tapir.reference import UNRELATED_HALF, UNRELATED_MOST, ngram_f_scores, reference_scores

SHARED = Path(os.environ.get("TAPIR_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
PERCENTILES = (5, 25, 50, 75, 90, 95, 99)
LENGTHS = (1, 20, 50, 100, 200, 300, 450, 700, 5000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "alpaca")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--encoder", default="none")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    instructions, references = read(arguments.data, arguments.rows)
    encoder = encoder_named(arguments.encoder)
    found: dict[str, Any] = {"rows": len(references), "scores": {}}
    console = Console(width=120)
    table = Table(title=f"scores of {len(references)} responses, percentiles", title_justify="left")
    for name in ("response", *map(str, PERCENTILES), "pairs per CPU-second"):
        table.add_column(name, justify="right")
    for name, change in responses(references).items():
        changed = change()
        begun = time.process_time()
        scores = reference_scores(references, changed, instructions, encoder)
        rate = len(references) / (time.process_time() - begun)
        found["scores"][name] = {str(q): round(float(np.percentile(scores, q)), 3) for q in PERCENTILES}
        found["scores"][name]["pairs_per_cpu_second"] = round(rate, 1)
        table.add_row(name, *(f"{np.percentile(scores, q):.2f}" for q in PERCENTILES), f"{rate:,.0f}")
    console.print(table)
    found["unrelated"] = unrelated(instructions, references, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def read(directory: Path, count: int) -> tuple[list[str], list[str]]:
    """Instructions and responses, rows without a response left out."""
    rows: list[dict[str, str]] = []
    for path in sorted(directory.glob("*.json.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows += json.load(file)
    rows = [row for row in rows if row["output"].strip()][:count]
    return [f"{row['instruction']}\n{row['input']}" for row in rows], [row["output"] for row in rows]


def responses(references: list[str]) -> dict[str, Callable[[], list[str]]]:
    """What is compared with the references."""
    random = Random(0)
    other = references[1:] + references[:1]

    def replaced(share: float) -> list[str]:
        mixed = []
        for reference, stranger in zip(references, other, strict=True):
            words = stranger.split()
            mixed.append(" ".join(random.choice(words) if random.random() < share else w for w in reference.split()))
        return mixed

    return {
        "unrelated": lambda: shuffled(references),
        "60 % of words replaced": lambda: replaced(0.6),
        "30 % of words replaced": lambda: replaced(0.3),
        "first half": lambda: [text[: max(1, len(text) // 2)] for text in references],
        "the reference": lambda: references,
    }


def shuffled(references: list[str]) -> list[str]:
    order = list(range(len(references)))
    Random(1).shuffle(order)
    return [references[i] for i in order]


def unrelated(instructions: list[str], references: list[str], console: Console) -> list[dict[str, float]]:
    """The F-score that 95 % of unrelated responses stay below, by the reference's length, and the formula in use."""
    scores = ngram_f_scores(references, shuffled(references), instructions)
    length = np.array([len(" ".join(text.split())) for text in references])
    table = Table(title="F-score of unrelated responses, 95th percentile", title_justify="left")
    for name in ("characters", "rows", "measured", "formula"):
        table.add_column(name, justify="right")
    rows = []
    for least, most in pairwise(LENGTHS):
        inside = (length >= least) & (length < most)
        if inside.any():
            middle = float(np.median(length[inside]))
            formula = UNRELATED_MOST * middle / (middle + UNRELATED_HALF)
            measured = float(np.percentile(scores[inside], 95))
            rows.append({"median_length": middle, "measured": round(measured, 4), "formula": round(formula, 4)})
            table.add_row(f"{least}-{most}", str(inside.sum()), f"{measured:.4f}", f"{formula:.4f}")
    console.print(table)
    return rows


if __name__ == "__main__":
    main()
