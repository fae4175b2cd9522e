"""TAPIR against its rivals in the embedded world, over several seeds, with the same tokens for every arm.

    python benchmarks/world.py --seeds 3            # the table of docs/world.md
    python benchmarks/world.py --seeds 3 --arms expansion,random-seeds --json

A seed decides the corpus, the test items and every random choice of the loop; the base weights are one and the same.
Intervals: bootstrap over seeds, then over the test items of each seed, the same items for both arms.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
from pathlib import Path

import numpy as np
import yaml

from tapir.arms import ARMS
from tapir.config import RunConfig, parse_config
from tapir.console import PlainView
from tapir.evaluation.results import PARTS, Summary, summarise, value
from tapir.presets import preset_text
from tapir.rows import Evaluated
from tapir.runner import run
from tapir.status import evaluated_arms
from tapir.tables import PART_TITLES, arm_title

COLUMNS = ("all", "easy", "hard", "core", "d_like")
DRAWS = 4000


def configuration(seed: int, arms: list[str], options: argparse.Namespace) -> RunConfig:
    tree = yaml.safe_load(preset_text("world"))
    tree |= {"name": f"world-{seed}", "seed": seed, "runs": str(options.runs), "compare": arms}
    tree["compare_processes"] = options.processes
    if options.tokens:
        tree["curriculum"]["tokens_per_round"] = options.tokens
    return parse_config(tree, "benchmarks/world.py")


def measure(options: argparse.Namespace) -> dict[int, dict[str, list[Evaluated]]]:
    """The evaluated rows of every arm, per seed."""
    found = {}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        cfg = configuration(seed, options.arms, options)
        asyncio.run(run(cfg, PlainView() if options.verbose else Silent()))
        found[seed] = evaluated_arms(cfg.directory)
    return found


class Silent(PlainView):
    def said(self, text: str) -> None:
        print(f"\r{text[:100]:<100}", end="", file=sys.stderr, flush=True)


def gaps(runs: dict[int, dict[str, list[Evaluated]]], arm: str, part: str) -> list[np.ndarray]:
    """TAPIR minus `arm` on each test item of the part, an array a seed."""
    found = []
    for arms in runs.values():
        theirs = {row.id: value(row) for row in arms[arm]}
        found.append(np.array([value(row) - theirs[row.id] for row in arms["tapir"] if PARTS[part](row)]))
    return found


def interval(per_seed: list[np.ndarray]) -> tuple[float, float, float]:
    """Mean and 95 % interval: seeds are drawn with replacement, then items within each."""
    rng = np.random.default_rng(0)
    means = []
    for _ in range(DRAWS):
        seeds = rng.integers(0, len(per_seed), len(per_seed))
        drawn = [per_seed[s][rng.integers(0, len(per_seed[s]), len(per_seed[s]))].mean() for s in seeds]
        means.append(np.mean(drawn))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.mean([one.mean() for one in per_seed])), float(low), float(high)


def mean_sd(summaries: list[Summary], column: str) -> str:
    values = [getattr(one, column) for one in summaries]
    spread = f"±{statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def tables(runs: dict[int, dict[str, list[Evaluated]]], options: argparse.Namespace) -> str:
    arms = ["s0", *options.arms, *(f"tapir-{r}" for r in (1, 2)), "tapir"]
    lines = [
        "| arm | " + " | ".join(PART_TITLES[column] for column in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for arm in arms:
        found = [summarise(by_arm[arm]) for by_arm in runs.values()]
        lines.append(f"| {arm_title(arm)} | " + " | ".join(mean_sd(found, column) for column in COLUMNS) + " |")
    lines += ["", "TAPIR minus arm, points [95 % interval]; per seed: all", ""]
    lines += ["| arm | " + " | ".join(PARTS) + " | per seed |", "|---" * (len(PARTS) + 2) + "|"]
    for arm in ["s0", *options.arms]:
        cells = ["{:+.1f} [{:+.1f}, {:+.1f}]".format(*interval(gaps(runs, arm, part))) for part in PARTS]
        each = " ".join(f"{one.mean():+.1f}" for one in gaps(runs, arm, "all"))
        lines.append(f"| {arm_title(arm)} | " + " | ".join(cells) + f" | {each} |")
    lines += ["", "Accuracy by task, mean over seeds", ""]
    tasks = sorted(summarise(next(iter(runs.values()))["tapir"]).tasks)
    lines += ["| arm | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for arm in arms:
        found = [summarise(by_arm[arm]).tasks for by_arm in runs.values()]
        lines.append(
            f"| {arm_title(arm)} | " + " | ".join(f"{statistics.mean(o[t] for o in found):.0f}" for t in tasks) + " |"
        )
    return "\n".join(lines)


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--arms", type=lambda text: text.split(","), default=["sft", "distillation", "expansion", "random-seeds"]
    )
    parser.add_argument("--tokens", type=int, help="tokens a round; default: the preset's")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--processes", type=int, default=1, help="helper processes beside the main one")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = set(options.arms) - set(ARMS)
    if unknown:
        parser.error(f"unknown arms {', '.join(sorted(unknown))}; known: {', '.join(ARMS)}")
    runs = measure(options)
    print(file=sys.stderr)
    if options.json:
        found = {
            "machine": machine(),
            "evaluation": {s: {a: summarise(rows).to_dict() for a, rows in arms.items()} for s, arms in runs.items()},
            "differences": {
                arm: {part: interval(gaps(runs, arm, part)) for part in PARTS} for arm in ["s0", *options.arms]
            },
        }
        print(json.dumps(found, indent=1))
    else:
        print(f"{options.seeds} seeds from {options.first_seed}; {machine()}\n\n{tables(runs, options)}")


if __name__ == "__main__":
    main()
