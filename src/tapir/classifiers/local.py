"""The local classifier: linear heads over n-grams and, where there is an encoder, sentence embeddings."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tapir.classifiers.embedding import SentenceEncoder, encoder_named
from tapir.classifiers.features import Floats
from tapir.classifiers.heads import SHIPPED, SURE, Heads, load_heads
from tapir.config import LocalClassifierConfig
from tapir.errors import ConfigError
from tapir.roles import Stage
from tapir.rows import Draft, Example, Label, Refused, refuse
from tapir.tasks import Task

BATCH = 8192
"""Rows scored between two looks at the event loop."""


class LocalClassifier:
    """Tells task types without a model server: thousands of rows a second by n-grams, hundreds with the encoder."""

    def __init__(self, config: LocalClassifierConfig) -> None:
        self._config = config

    def identity(self, verb: str) -> Mapping[str, Any]:
        """Digests of the heads and of the encoder."""
        encoder = self.encoder
        return {
            "kind": "local",
            "heads": self.heads.digest,
            "encoder": encoder.identity if encoder else None,
            "sure": SURE if encoder else None,
        }

    async def label(self, stage: Stage, rows: Sequence[Example | Draft]) -> AsyncIterator[Label | Refused]:
        """The likeliest task of each instruction, with its probability and the distance to the runner-up's."""
        stage.expect(len(rows))
        for at in range(0, len(rows), BATCH):
            batch = rows[at : at + BATCH]
            found = await asyncio.to_thread(self.probabilities, [instruction_text(row) for row in batch])
            for row, scores in zip(batch, found, strict=True):
                if instruction_text(row).strip():
                    yield label(row.id, self.heads.tasks, scores)
                else:
                    yield refuse(row, "empty-instruction", "there is no text to tell a task from")

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Texts x `heads.tasks`; each row sums to 1."""
        return self.heads.probabilities(texts, self.encoder)

    @cached_property
    def heads(self) -> Heads:
        """The heads of the configuration, or the shipped ones."""
        return load_heads(Path(self._config.head) if self._config.head else SHIPPED)

    @cached_property
    def encoder(self) -> SentenceEncoder | None:
        """The encoder in use; None where n-grams alone decide."""
        name, joint = self._config.encoder, self.heads.joint
        if name == "none" or (name == "auto" and joint is None):
            return None
        encoder = encoder_named(name)
        if encoder is None or (joint is not None and joint.encoder == encoder.digest):
            return encoder
        if name == "auto":
            return None
        raise ConfigError(
            f'tasks.classifier.encoder "{name}": the heads in {self._config.head or "the package"} were not trained '
            "with it; train heads for it with `tapir tag --train --encoder`, or set encoder to auto"
        )


def instruction_text(row: Example | Draft) -> str:
    """What the user asks: all of the user's turns."""
    return "\n".join(turn.content for turn in row.turns if turn.role == "user")


def label(row_id: str, tasks: Sequence[Task], scores: Floats) -> Label:
    """The label that probabilities over `tasks` give."""
    best = int(scores.argmax())
    rest = max((float(score) for i, score in enumerate(scores) if i != best), default=0.0)
    score = min(1.0, float(scores[best]))
    return Label(id=row_id, task=tasks[best], score=score, margin=max(0.0, score - rest))
