"""The paper's classifier: a sequence-classification encoder (DeBERTa-v3, or any other) fine-tuned on labelled rows."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tapir.classifiers.embedding import directory_digest, model_directory
from tapir.classifiers.features import Floats
from tapir.classifiers.heads import softmax
from tapir.classifiers.local import instruction_text, label
from tapir.classifiers.train import Tagged
from tapir.config import EncoderClassifierConfig
from tapir.errors import ConfigError
from tapir.roles import Stage
from tapir.rows import Draft, Example, Label, Refused, refuse
from tapir.students.devices import quiet_libraries
from tapir.tasks import Task

MAX_TOKENS = 256
BLOCK = 2048
"""Rows sorted by length together, and between two looks at the event loop."""


class EncoderClassifier:
    """Labels by the encoder's likeliest class; its `id2label` must name task types."""

    def __init__(self, config: EncoderClassifierConfig) -> None:
        self._config = config

    def identity(self, verb: str) -> Mapping[str, Any]:
        """Digest of the weights."""
        return {"kind": "deberta", "model": directory_digest(model_directory(self._config.model))}

    async def label(self, stage: Stage, rows: Sequence[Example | Draft]) -> AsyncIterator[Label | Refused]:
        """The likeliest task of each instruction, with its probability and the distance to the runner-up's."""
        stage.expect(len(rows))
        for at in range(0, len(rows), BLOCK):
            block = rows[at : at + BLOCK]
            found = await asyncio.to_thread(self.probabilities, [instruction_text(row) for row in block])
            for row, scores in zip(block, found, strict=True):
                if instruction_text(row).strip():
                    yield label(row.id, self.tasks, scores)
                else:
                    yield refuse(row, "empty-instruction", "there is no text to tell a task from")

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Texts x `tasks`; each row sums to 1."""
        import torch

        tokenizer, model = self._loaded
        ids = tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        logits = np.zeros((len(ids), len(self.tasks)), dtype=np.float32)
        with torch.inference_mode():
            for at in range(0, len(order), self._config.batch_size):
                rows = order[at : at + self._config.batch_size]
                batch = tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt").to(model.device)
                logits[rows] = model(**batch).logits.float().cpu().numpy()
        return softmax(logits)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The task type of each class, in the order of the model's outputs."""
        names = self._loaded[1].config.id2label
        try:
            return tuple(Task(names[i]) for i in range(len(names)))
        except ValueError as error:
            raise ConfigError(
                f'tasks.classifier.model "{self._config.model}": its classes are no task types ({error}); '
                "fine-tune it with `tapir tag --train rows.jsonl --model MODEL --out DIR`"
            ) from error

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            directory = model_directory(self._config.model)
            with quiet_libraries():
                tokenizer = AutoTokenizer.from_pretrained(directory)
                model = AutoModelForSequenceClassification.from_pretrained(directory, use_safetensors=True).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(f'tasks.classifier.model "{self._config.model}" cannot be loaded: {error}') from error
        return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class FineTuning:
    """How an encoder is fine-tuned: the usual values for sequence classification."""

    epochs: int = 3
    learning_rate: float = 2e-5
    batch_size: int = 32
    warmup_fraction: float = 0.06
    weight_decay: float = 0.01
    seed: int = 0


def fine_tune(
    rows: Sequence[Tagged],
    model: str,
    out: Path,
    settings: FineTuning | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> None:
    """Fine-tune the encoder `model` on `rows` and write it to `out`, its classes named by their task types.

    Raises:
        ConfigError: the encoder cannot be loaded, or the rows hold fewer than two task types.
    """
    import torch

    settings = settings or FineTuning()
    tasks = [task for task in Task if any(row.task is task for row in rows)]
    if len(tasks) < 2:
        raise ConfigError(f"{len(rows)} rows of {len(tasks)} task type(s) train no classifier; give two types at least")
    torch.manual_seed(settings.seed)
    tokenizer, network = _untrained(model, tasks)
    gold = torch.tensor([tasks.index(row.task) for row in rows])
    ids = tokenizer([row.instruction for row in rows], truncation=True, max_length=MAX_TOKENS)["input_ids"]
    steps = settings.epochs * -(-len(rows) // settings.batch_size)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    warmup = max(1, round(settings.warmup_fraction * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup), 1.0)
    )
    network.train()
    for epoch in range(settings.epochs):
        total = 0.0
        for chosen in torch.split(torch.randperm(len(rows)), settings.batch_size):
            batch = tokenizer.pad({"input_ids": [ids[i] for i in chosen.tolist()]}, return_tensors="pt")
            loss = network(**batch.to(network.device), labels=gold[chosen].to(network.device)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            total += float(loss.detach()) * len(chosen)
        said(f"epoch {epoch + 1} of {settings.epochs}: mean loss {total / len(rows):.3f}")
    with quiet_libraries():
        network.save_pretrained(out)
        tokenizer.save_pretrained(out)


def _untrained(model: str, tasks: Sequence[Task]) -> tuple[Any, Any]:
    """Tokenizer and encoder with a fresh head of one class a task, on the fastest device there is."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        directory = model_directory(model)
        with quiet_libraries():  # the head is new on purpose: no notice of missing weights
            tokenizer = AutoTokenizer.from_pretrained(directory)
            network = AutoModelForSequenceClassification.from_pretrained(
                directory,
                num_labels=len(tasks),
                id2label={i: str(task) for i, task in enumerate(tasks)},
                label2id={str(task): i for i, task in enumerate(tasks)},
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
            )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'encoder "{model}" cannot be loaded: {error}; tapir reads safetensors alone: an encoder published '
            "otherwise is converted once with transformers' from_pretrained and save_pretrained"
        ) from error
    return tokenizer, network.to("cuda" if torch.cuda.is_available() else "cpu")
