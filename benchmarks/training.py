"""The student's training stage against a plain torch loop, and its answering against plain `generate`.

    python benchmarks/training.py                      # both, a table
    python benchmarks/training.py --only training --json
    python benchmarks/training.py --model DIR          # another model than the small Llama made here

Training: the same model, batches, optimiser and schedule; end to end, from loading the model to the student on disk
(importing is counted for neither). Answering: the same prompts in batches of the same size, of even and of skewed
lengths; the answers are compared. CPU seconds of one thread are the figure to trust on a shared machine: each side is
measured several times, in turns, and the best is taken.
"""

import argparse
import json
import math
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tapir.config import TrainConfig
from tapir.students.devices import quiet_libraries, settle_cpu
from tapir.students.jobs import Job, Watch, plan_job
from tapir.students.tokens import ChatTokenizer, Encoded, load_tokenizer
from tapir.testing import tiny_student

VOCABULARY = 432


@dataclass
class Result:
    """One way of doing the work."""

    name: str
    tokens: int
    cpu_s: float = math.inf
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.cpu_s


def fastest(ways: dict[str, Callable[[], Any]], tokens: int, repeats: int) -> dict[str, Result]:
    """The best CPU time of each way, measured in turns."""
    results = {name: Result(name, tokens) for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.process_time()
            way()
            results[name].cpu_s = min(results[name].cpu_s, time.process_time() - began)
    return results


# ---- training


def lessons(rows: int) -> list[Encoded]:
    """Rows of 18 to 130 tokens, most of them short."""
    draw = random.Random(0)
    made = []
    for _ in range(rows):
        size = min(130, max(18, int(draw.lognormvariate(3.6, 0.5))))
        ids = [draw.randrange(10, VOCABULARY) for _ in range(size)]
        prompt = draw.randint(8, min(size - 4, 30))
        made.append(Encoded(ids[:prompt], ids[prompt:]))
    return made


def compare_training(model: Path, rows: int, repeats: int) -> list[Result]:
    """Tokens a second of the training stage and of a plain loop."""
    import tapir.students.trl as stage

    chat, data = load_tokenizer(model), lessons(rows)
    config = TrainConfig(batch_tokens=2048, learning_rate=1e-3, adam_beta2=0.98, weight_decay=0.05)
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        job = Job(str(model), "benchmark", Path(directory), config, 1.0, 0, "cpu", 1, trust_remote_code=False)

        def tapir() -> None:
            shutil.rmtree(job.student, ignore_errors=True)
            curve = stage.fit(job, data, chat, Watch(lambda *_: None, lambda: False))
            assert curve is not None
            losses["tapir"] = curve.loss[-1]

        def plain() -> None:
            losses["plain loop"] = plain_loop(job, data, chat)

        tokens = sum(row.size for row in data)
        results = fastest({"plain loop": plain, "tapir": tapir}, tokens, repeats)
    for name, result in results.items():
        result.notes["loss of the last step"] = round(losses[name], 4)
    return list(results.values())


def plain_loop(job: Job, rows: Sequence[Encoded], chat: ChatTokenizer) -> float:
    """The same steps as a torch user writes them; the loss of the last."""
    import torch
    from transformers import get_scheduler

    from tapir.students.adapters import load_for_training

    config, plan = job.config, plan_job(job, rows)
    with quiet_libraries():
        model = load_for_training(job, chat, torch.float32, longest=max(row.size for row in rows)).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )
    scheduler = get_scheduler(
        "cosine_with_min_lr", optimizer, config.warmup_steps, len(plan), {"min_lr_rate": config.min_lr_fraction}
    )
    loss = torch.tensor(0.0)
    for (part,) in plan:
        width = max(rows[row].size for row in part)
        ids = torch.full((len(part), width), chat.tokenizer.pad_token_id)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for i, row in enumerate(part):
            prompt, completion = rows[row]
            ids[i, : rows[row].size] = torch.tensor([*prompt, *completion])
            labels[i, len(prompt) : rows[row].size] = torch.tensor(completion)
            mask[i, : rows[row].size] = 1
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    with quiet_libraries():
        model.save_pretrained(job.work / "plain")
    return loss.item()


# ---- answering


def compare_answering(model_at: Path, rows: int, batch: int, repeats: int, *, skewed: bool) -> dict[str, list[Result]]:
    """Tokens a second of answering in slots and of `generate`, by number format."""
    import torch

    from tapir.students.generate import decode_in_batches
    from tapir.students.models import load_model
    from tapir.students.slots import Decoding, Prompt, decode_in_slots

    draw = random.Random(0)
    limits = (2, 4, 6, 10, 20, 40, 80, 130) if skewed else (64,)
    prompts = [
        Prompt([draw.randrange(10, VOCABULARY) for _ in range(draw.randint(12, 40))], draw.choice(limits), seed=i)
        for i in range(rows)
    ]
    prompts.sort(key=lambda one: -len(one.ids))
    decoding = Decoding(stop_ids=(), pad_id=0, temperature=0.0, top_p=1.0)
    found = {}
    for name in ("float32", "bfloat16"):
        with quiet_libraries():
            model = load_model(model_at, dtype=getattr(torch, name)).eval()
        made: dict[str, Any] = {}

        def ask(way: str, decode: Any, model: Any = model, made: dict[str, Any] = made) -> None:
            made[way] = decode(model, prompts, decoding, batch, lambda _: False)

        results = fastest(
            {"generate": lambda: ask("generate", decode_in_batches), "tapir": lambda: ask("tapir", decode_in_slots)},
            sum(one.max_new_tokens for one in prompts),
            repeats,
        )
        same = sum(a.ids == b.ids for a, b in zip(made["tapir"], made["generate"], strict=True))
        results["tapir"].notes["same answers"] = f"{same} of {rows}"
        found[name] = list(results.values())
    return found


def show(title: str, results: Sequence[Result]) -> None:
    """A table of the ways, the first being the measure."""
    print(f"\n{title}")
    for result in results:
        share = result.tokens_per_s / results[0].tokens_per_s
        notes = ", ".join(f"{name} {value}" for name, value in result.notes.items())
        print(f"  {result.name:12}{result.tokens_per_s:10,.0f} tokens/CPU-s {share:8.2f}x   {notes}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("training", "answering"))
    parser.add_argument("--model", type=Path, help="a student's directory; default: an untrained Llama of 0.86 M")
    parser.add_argument("--rows", type=int, default=2000, help="rows to train on")
    parser.add_argument("--prompts", type=int, default=768, help="prompts to answer")
    parser.add_argument("--batch", type=int, default=256, help="rows answered at a time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    settle_cpu(1)
    done: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        texts = [str(i * 7919) for i in range(3000)]
        model = given.model or tiny_student(made, texts=texts, vocab_size=VOCABULARY, hidden_size=128, layers=4)
        if given.only != "answering":
            done["training"] = compare_training(model, given.rows, given.repeats)
        if given.only != "training":
            for skewed in (False, True):
                lengths = "skewed" if skewed else "even"
                compared = compare_answering(model, given.prompts, given.batch, given.repeats, skewed=skewed)
                done |= {f"answering, {lengths} lengths, {name}": results for name, results in compared.items()}
    if given.json:
        print(json.dumps({title: [asdict(one) for one in results] for title, results in done.items()}, indent=2))
        return
    for title, results in done.items():
        show(title, results)


if __name__ == "__main__":
    main()
