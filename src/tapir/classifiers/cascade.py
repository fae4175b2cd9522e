"""The cascade: the local classifier labels everything, and a chat model what the local one is unsure of."""

from collections.abc import AsyncIterator, Mapping, Sequence
from random import Random
from typing import Any

from tapir.config import CascadeClassifierConfig
from tapir.roles import Aside, Classifier, Stage
from tapir.rows import Draft, Example, Label, Refused

SAMPLE = 1000
"""Rows that stand for all when the share that is passed on is measured beforehand."""


class CascadeClassifier:
    """Labels by `local` where its margin is at least the configured one, and by `oracle` elsewhere."""

    def __init__(self, config: CascadeClassifierConfig, local: Classifier, oracle: Classifier) -> None:
        self._config = config
        self._local = local
        self._oracle = oracle

    def identity(self, verb: str) -> Mapping[str, Any]:
        """Both classifiers and the margin between them."""
        return {
            "kind": "cascade",
            "margin": self._config.margin,
            "local": self._local.identity(verb),
            "oracle": self._oracle.identity(verb),
        }

    async def label(self, stage: Stage, rows: Sequence[Example | Draft]) -> AsyncIterator[Label | Refused]:
        """Labels in the order of `rows`; what the oracle leaves without a label is refused, not guessed."""
        stage.expect(len(rows))
        first = await local_labels(self._local, rows)
        unsure = [row for row in rows if is_unsure(first[row.id], self._config.margin)]
        stage.note(passed_on=len(unsure), passed_on_share=len(unsure) / len(rows) if rows else 0.0)
        second = aiter(self._oracle.label(Aside.within(stage, "oracle"), unsure))
        for row in rows:
            found = first[row.id]
            yield await anext(second) if is_unsure(found, self._config.margin) else found


async def local_labels(local: Classifier, rows: Sequence[Example | Draft]) -> dict[str, Label | Refused]:
    """What the local classifier says of each row, by id."""
    return {found.id: found async for found in local.label(Aside("label"), rows)}


def is_unsure(found: Label | Refused, margin: float) -> bool:
    """Whether the oracle is to be asked about this row."""
    return isinstance(found, Label) and found.margin < margin


async def unsure_share(local: Classifier, rows: Sequence[Example | Draft], margin: float) -> float:
    """The share of `rows` that a cascade with this margin would pass on: what `tapir check` quotes. No rows: 0."""
    labels = await local_labels(local, rows)
    return sum(is_unsure(labels[row.id], margin) for row in rows) / len(rows) if rows else 0.0


async def sampled_share(config: CascadeClassifierConfig, rows: Sequence[Example], seed: int) -> tuple[float, int]:
    """The share of a sample of `rows` that the cascade of `config` would pass on, and the size of the sample.

    Raises:
        ConfigError: the local classifier cannot be loaded.
    """
    from tapir.classifiers.local import LocalClassifier

    sample = Random(seed).sample(rows, min(SAMPLE, len(rows)))
    return await unsure_share(LocalClassifier(config.local), sample, config.margin), len(sample)
