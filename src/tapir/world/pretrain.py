"""Make the base of the embedded world's student again: `python -m tapir.world.pretrain --out DIR`.

Pretrains the 0.86 M-parameter Llama on text of the world (`base_text`) in packed sequences, on one CPU thread, in a
quarter to half an hour. A killed run continues with `--resume`. The run ends with the gates of `gates` and writes
model.safetensors (bfloat16) with recipe.json beside it; a base that misses a gate is written all the same, but the exit
status is 1.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from tapir.world.base_text import document
from tapir.world.facts import WORLD_VERSION
from tapir.world.gates import PASS, gate_accuracy, worked_accuracy
from tapir.world.student import END, model_config, tokenizer

SEQUENCE, BATCH = 128, 16
OPEN_SEQUENCES = 32
CHUNK_STEPS = 32
"""Optimiser steps whose text is drawn from one random source; a resumed run starts at a whole chunk."""
BETAS, WEIGHT_DECAY, MAX_GRAD_NORM = (0.9, 0.98), 0.05, 1.0
WARMUP_STEPS = 200
DECAY = 0.4
"""The last part of the run, over which the learning rate falls to `FLOOR` of its peak."""
FLOOR = 0.03


class Plan(NamedTuple):
    """What decides the weights that come out."""

    tokens: int
    seed: int
    learning_rate: float
    precision: str

    @property
    def steps(self) -> int:
        """Optimiser steps, a whole number of chunks."""
        return math.ceil(self.tokens / (SEQUENCE * BATCH * CHUNK_STEPS)) * CHUNK_STEPS


def learning_rate(step: int, plan: Plan) -> float:
    """Warm-up, then constant, then a cosine fall over the last part of the run."""
    if step < WARMUP_STEPS:
        return plan.learning_rate * (step + 1) / WARMUP_STEPS
    start = (1 - DECAY) * plan.steps
    fall = max(0.0, (step - start) / (plan.steps - start))
    return plan.learning_rate * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * fall)) / 2)


def chunk(index: int, plan: Plan, encoder: Any) -> torch.Tensor:
    """The tokens of one chunk's steps, [CHUNK_STEPS, BATCH, SEQUENCE]: whole documents, each between two end tokens.

    A document goes to the first open sequence that has room; what is left of a sequence is padding, a few per cent.
    """
    rng = Random(f"base text {WORLD_VERSION}/{plan.seed}/{index}")
    progress = index * CHUNK_STEPS / plan.steps
    rows: list[list[int]] = []
    full: list[list[int]] = []
    while len(full) < CHUNK_STEPS * BATCH:
        for encoded in encoder([document(rng, progress) for _ in range(200)])["input_ids"]:
            row = next((row for row in rows if len(row) + len(encoded) < SEQUENCE), None)
            if row is None:
                row = [encoder.eos_token_id]
                rows.append(row)
            row += [*encoded, encoder.eos_token_id]
            if len(rows) > OPEN_SEQUENCES:
                longest = max(rows, key=len)
                rows.remove(longest)
                full.append(longest + [encoder.pad_token_id] * (SEQUENCE - len(longest)))
    return torch.tensor(full[: CHUNK_STEPS * BATCH]).view(CHUNK_STEPS, BATCH, SEQUENCE)


def _model() -> Any:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM(model_config())


class Run:
    """The model and optimiser of one pretraining run, and where they are kept."""

    def __init__(self, plan: Plan, out: Path) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.out, self.step, self.seconds = plan, out, 0, 0.0
        self.model = _model().to(torch.float32)
        self.model.set_attn_implementation("eager")  # 1.4 times as fast as SDPA for short sequences on a CPU
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=plan.learning_rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
        )

    def train_step(self, ids: torch.Tensor) -> torch.Tensor:
        """One optimiser step on a batch of packed sequences; the loss before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.plan)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.plan.precision == "bf16"):
            logits = self.model(input_ids=ids, use_cache=False).logits
        padding = self.model.config.pad_token_id
        loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten(), ignore_index=padding)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        return loss.detach()

    def half(self) -> Any:
        """A bfloat16 copy of the model, for answering."""
        copy = _model().to(torch.bfloat16)
        copy.load_state_dict(self.model.state_dict())
        return copy.eval()

    def save(self) -> None:
        """Keep what `resume` needs, in one file that is replaced whole."""
        tensors = {f"model/{n}": p.detach() for n, p in self.model.named_parameters()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimiser.state[parameter].items():
                tensors[f"{key}/{name}"] = value
        state = {"step": str(self.step), "seconds": f"{self.seconds:.1f}", "plan": json.dumps(self.plan._asdict())}
        part = self.out / "state.part"
        save_file(tensors, part, metadata=state)
        part.replace(self.out / "state.safetensors")

    def resume(self) -> None:
        """Continue from the kept state, which must be of the same plan."""
        from safetensors import safe_open

        path = self.out / "state.safetensors"
        with safe_open(path, "pt") as file:
            state = file.metadata()
        if json.loads(state["plan"]) != self.plan._asdict():
            raise SystemExit(f"{path} was made with {state['plan']}; give the same arguments or another --out")
        tensors = load_file(path)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"model/{name}"])
                kept = ((key.partition("/")[0], value) for key, value in tensors.items() if key.endswith(f"/{name}"))
                self.optimiser.state[parameter] = {key: value for key, value in kept if key != "model"}
        self.step, self.seconds = int(state["step"]), float(state["seconds"])

    def write(self, gates: dict[str, float], accuracy: dict[str, list[float]]) -> None:
        """The base as it is now: weights in bfloat16, and the recipe with their check-sum."""
        weights = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in self.model.named_parameters()}
        part = self.out / "model.part"
        save_file(weights, part, metadata={"format": "pt"})
        recipe = {
            "world": WORLD_VERSION,
            "command": f"python -m tapir.world.pretrain --tokens {self.plan.tokens} --seed {self.plan.seed}",
            "plan": self.plan._asdict(),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "tokens_seen": self.step * BATCH * SEQUENCE,
            "is_finished": self.step >= self.plan.steps,
            "seconds": round(self.seconds),
            "packages": {name: version(name) for name in ("torch", "transformers", "tokenizers", "safetensors")},
            "gates": gates,
            "worked_accuracy": accuracy,
            "sha256": sha256(part.read_bytes()).hexdigest(),
        }
        part.replace(self.out / "model.safetensors")
        (self.out / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")


def pretrain(run: Run, until_s: float, check_every_s: float, log: Any) -> dict[str, float]:
    """Train until the plan or the time is over, checking and keeping the state now and then; the gates at the end."""
    encoder = tokenizer()
    gates: dict[str, float] = {}
    begun, checked = time.monotonic() - run.seconds, time.monotonic()
    for index in _chunks(run):
        losses = torch.stack([run.train_step(batch) for batch in chunk(index, run.plan, encoder)])
        run.seconds = time.monotonic() - begun
        seen = run.step * BATCH * SEQUENCE
        log(
            f"step {run.step} tokens {seen / 1e6:.2f}M loss {losses.mean():.4f} "
            f"lr {learning_rate(run.step, run.plan):.2e} {seen / run.seconds:.0f} tok/s {run.seconds:.0f} s"
        )
        over = run.step >= run.plan.steps or run.seconds > until_s
        if over or time.monotonic() - checked > check_every_s:
            gates = _check(run, 40 if over else 12, log)
            checked = time.monotonic()
        if over:
            break
    return gates


def _chunks(run: Run) -> Iterator[int]:
    yield from range(run.step // CHUNK_STEPS, run.plan.steps // CHUNK_STEPS)


def _check(run: Run, per_cell: int, log: Any) -> dict[str, float]:
    """Keep the state, measure the base as it is and write it."""
    run.save()
    model = run.half()
    gates = gate_accuracy(model, run.plan.seed)
    accuracy = worked_accuracy(model, run.plan.seed, per_cell)
    run.write(gates, accuracy)
    rows = [f"{family} " + "/".join(f"{100 * x:.0f}" for x in cells) for family, cells in accuracy.items()]
    log(f"  gates {gates}; worked by difficulty: {', '.join(rows)}")
    return gates


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tapir.world.pretrain", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="directory for the base and the state of the run")
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop early, after this long in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--check-minutes", type=float, default=3.0, help="between checkpoints")
    parser.add_argument("--resume", action="store_true", help="continue from the state in --out")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    given.out.mkdir(parents=True, exist_ok=True)
    run = Run(Plan(given.tokens, given.seed, given.learning_rate, given.precision), given.out)
    if given.resume:
        run.resume()
    with (given.out / "log.txt").open("a", encoding="utf-8") as file:

        def log(line: str) -> None:
            print(line, flush=True)
            file.write(line + "\n")
            file.flush()

        log(f"{END} is token {tokenizer().eos_token_id}; {run.plan}")
        gates = pretrain(run, 60 * given.minutes, 60 * given.check_minutes, log)
    return 0 if gates and min(gates.values()) > PASS else 1


if __name__ == "__main__":
    sys.exit(main())
