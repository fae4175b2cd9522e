"""How often and how fast the task classifiers are right.

    python benchmarks/tasks.py                     # accuracy on the development split, rows a second, with and without
    python benchmarks/tasks.py --model DIR         # the same for other heads, or a fine-tuned encoder
    python benchmarks/tasks.py --grid --json out.json   # also the cross-validation that chose the fit's settings

Accuracy is measured on the `dev` split of a file of labelled rows that the shipped heads were not trained on (default:
task_labels_train.jsonl in $TAPIR_SHARED_DATA or ../shared/data), source by source; its labels follow their sources'
provenance and one annotator, so no classifier gets all of them. Speed is rows per CPU-second of one thread on the
instructions of a data set (default: the random Alpaca rows there), and what 52,002 rows would take.
"""

import argparse
import asyncio
import gzip
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tapir.classifiers import features
from tapir.classifiers.embedding import encoder_named
from tapir.classifiers.evaluate import Evaluation, evaluate_classifier
from tapir.classifiers.fit import FitSettings, embedding_kernel, held_out_scores, ngram_kernel
from tapir.classifiers.tag import classifier_for
from tapir.classifiers.train import Tagged, folds, seeds
from tapir.roles import Aside
from tapir.rows import Example, Lineage, example, user_turn
from tapir.tasks import Task

SHARED = Path(os.environ.get("TAPIR_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
ALPACA_ROWS = 52_002
STEERED = (Task.MATH, Task.REASONING, Task.CODE_GENERATION, Task.CODE_DEBUG)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, default=SHARED / "task_labels_train.jsonl")
    parser.add_argument("--texts", type=Path, default=SHARED / "alpaca" / "alpaca_random_9229.json.gz")
    parser.add_argument("--rows", type=int, default=5000, help="texts to time")
    parser.add_argument("--model", type=Path, help="heads or a fine-tuned encoder; default: the shipped heads")
    parser.add_argument("--encoder", nargs="+", default=["none", "auto"])
    parser.add_argument("--grid", action="store_true", help="cross-validate the settings of the fit over the seeds")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    found: dict[str, Any] = {"accuracy": {}, "speed": {}}
    for encoder in arguments.encoder:
        evaluation = accuracy(arguments.labels, arguments.model, encoder)
        found["accuracy"][encoder] = summary(evaluation)
        found["speed"][encoder] = speed(arguments.texts, arguments.rows, arguments.model, encoder)
    show(found)
    if arguments.grid:
        found["grid"] = list(grid())
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def accuracy(labels: Path, model: Path | None, encoder: str) -> Evaluation:
    """The classifier on the development split."""
    rows = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines()]
    tagged = [
        Tagged(instruction=row["instruction"], task=Task(row["task"]), source=row.get("source", ""))
        for row in rows
        if row.get("split", "dev") == "dev"
    ]
    return asyncio.run(evaluate_classifier(classifier_for(model, encoder), tagged))


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """The figures to keep."""
    return {
        "rows": evaluation.rows,
        "accuracy": round(evaluation.accuracy, 4),
        "macro_f1": round(evaluation.macro_f1, 4),
        "sources": {source: [rows, round(right, 4)] for source, (rows, right) in evaluation.sources.items()},
        "recall": {task: round(score.recall, 4) for task, score in evaluation.tasks.items()},
        "precision": {task: round(score.precision, 4) for task, score in evaluation.tasks.items()},
    }


def speed(texts: Path, count: int, model: Path | None, encoder: str) -> dict[str, float]:
    """Rows per CPU-second through the role, loading left out."""
    rows = instructions(texts)[:count]
    classifier = classifier_for(model, encoder)

    async def label(some: list[Example]) -> int:
        return len([one async for one in classifier.label(Aside("benchmark"), some)])

    asyncio.run(label([example(user_turn("How is this so?"), "", Lineage(source="warm-up"))]))
    begun = time.process_time()
    done = asyncio.run(label(rows))
    seconds = time.process_time() - begun
    return {
        "rows": done,
        "rows_per_cpu_second": round(done / seconds, 1),
        "minutes_for_alpaca": round(ALPACA_ROWS * seconds / done / 60, 2),
    }


def instructions(path: Path) -> list[Example]:
    """Instruction and input of each row of an Alpaca file."""
    data = path.read_bytes()
    rows = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    texts = [f"{row['instruction']}\n\n{row['input']}" if row["input"] else row["instruction"] for row in rows]
    return [example(user_turn(text), "", Lineage(source=path.name)) for text in texts]


def grid() -> Iterator[dict[str, float]]:
    """Accuracy on held-out seeds of their own kind, for each choice of the fit's settings."""
    rows, encoder = seeds(), encoder_named("auto")
    texts = [row.instruction for row in rows]
    gold = np.array([list(Task).index(row.task) for row in rows])
    fold, is_lone = folds(rows)
    counted = features.stack(list(features.counts(texts)))
    kernel = ngram_kernel(features.tfidf(counted, features.inverse_frequency(counted, least=2)))
    embedded = encoder.embed(texts) if encoder else None
    weights = ((0.0, 0.0), (3.0, 0.0), (1.5, 0.75), (3.0, 1.5), (6.0, 3.0)) if embedded is not None else ((0.0, 0.0),)
    for (weight, pair_weight), ridge in product(weights, (0.5, 1.0, 2.0)):
        settings = replace(FitSettings(), ridge_joint=ridge, embedding_weight=weight, pair_weight=pair_weight)
        joint = kernel + embedding_kernel(embedded, embedded, settings) if embedded is not None else kernel
        right = held_out_scores(joint, gold, len(Task), ridge, fold).argmax(axis=1) == gold
        row = {
            "embedding_weight": settings.embedding_weight,
            "pair_weight": settings.pair_weight,
            "ridge": settings.ridge_joint,
            "accuracy": round(float(right[is_lone].mean()), 4),
        }
        print(row, flush=True)
        yield row


def show(found: dict[str, Any]) -> None:
    """Two tables: figures, and accuracy by source."""
    console = Console()
    columns = list(found["accuracy"])
    table = Table(title="encoder", title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for label, key in (("accuracy", "accuracy"), ("macro-F1", "macro_f1")):
        table.add_row(label, *(f"{found['accuracy'][name][key]:.3f}" for name in columns))
    for task in STEERED:
        recalls = [found["accuracy"][name]["recall"].get(task) for name in columns]
        table.add_row(f"{task} recall", *("-" if recall is None else f"{recall:.2f}" for recall in recalls))
    for label, key in (
        ("rows per CPU-second", "rows_per_cpu_second"),
        ("minutes for 52,002 rows", "minutes_for_alpaca"),
    ):
        table.add_row(label, *(f"{found['speed'][name][key]:,.2f}" for name in columns))
    console.print(table)
    sources = Table(title="accuracy by source", title_justify="left")
    sources.add_column("source")
    sources.add_column("rows", justify="right")
    for name in columns:
        sources.add_column(name, justify="right")
    for source, (rows, _) in found["accuracy"][columns[0]]["sources"].items():
        rights = (found["accuracy"][name]["sources"][source][1] for name in columns)
        sources.add_row(source, str(rows), *(f"{right:.3f}" for right in rights))
    console.print(sources)


if __name__ == "__main__":
    main()
