"""`tapir tag` as functions: label a data set, train a classifier, measure one."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from tapir.classifiers.embedding import encoder_named
from tapir.classifiers.evaluate import Evaluation, evaluate_classifier
from tapir.classifiers.heads import SETTINGS, Heads, save_heads
from tapir.classifiers.train import read_tagged, seeds, train_heads
from tapir.config import CorpusConfig, EncoderClassifierConfig, LocalClassifierConfig
from tapir.errors import DataError
from tapir.roles import Aside, Classifier
from tapir.rows import Example, Label
from tapir.tasks import Task


class TaggedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a data set with its task type."""

    id: str
    instruction: str
    task: Task
    score: float
    margin: float


class Tags(msgspec.Struct, frozen=True, kw_only=True):
    """The labels of a data set."""

    rows: int
    refused: int
    """Rows that could not be read or labelled."""
    tasks: dict[Task, int]
    """Rows of each task, most frequent first."""
    mean_margin: float


def classifier_for(model: Path | None = None, encoder: str = "auto") -> Classifier:
    """The local classifier with the shipped heads or those in `model`; a fine-tuned encoder if `model` is one."""
    if model is None or (model / SETTINGS).exists():
        from tapir.classifiers.local import LocalClassifier

        return LocalClassifier(LocalClassifierConfig(encoder=encoder, head=str(model) if model else None))
    from tapir.classifiers.encoder import EncoderClassifier

    return EncoderClassifier(EncoderClassifierConfig(kind="deberta", model=str(model)))


def tag_file(path: str, classifier: Classifier, out: Path | None = None) -> Tags:
    """Label the rows of any data set that the corpus reader accepts; `out` gets one JSON line a row.

    Raises:
        DataError: no row can be read.
    """
    rows, labels, refused = asyncio.run(_tag(path, classifier))
    if out is not None:
        instruction = {row.id: row.instruction for row in rows}
        lines = [msgspec.json.encode(_tagged_row(label, instruction[label.id])) + b"\n" for label in labels]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(b"".join(lines))
    return Tags(
        rows=len(labels),
        refused=refused,
        tasks=dict(Counter(label.task for label in labels).most_common()),
        mean_margin=sum(label.margin for label in labels) / max(1, len(labels)),
    )


async def _tag(path: str, classifier: Classifier) -> tuple[list[Example], list[Label], int]:
    """The rows read, their labels, and how many rows were refused on the way."""
    from tapir.build import build_corpus

    corpus = build_corpus(CorpusConfig(path=path, near_duplicates=None), seed=0)
    read = [row async for row in corpus.read(Aside("tag"))]
    rows = [row for row in read if isinstance(row, Example)]
    if not rows:
        raise DataError(f"{path}: holds no instruction; see what is wrong with `tapir check {path}`")
    labels = [label async for label in classifier.label(Aside("tag"), rows) if isinstance(label, Label)]
    return rows, labels, len(read) - len(labels)


def _tagged_row(label: Label, instruction: str) -> TaggedRow:
    return TaggedRow(
        id=label.id,
        instruction=instruction,
        task=label.task,
        score=round(label.score, 4),
        margin=round(label.margin, 4),
    )


def train_file(
    path: Path, out: Path, encoder: str = "auto", *, with_seeds: bool = True, said: Callable[[str], None] = print
) -> Heads:
    """Train linear heads from a file of labelled rows, together with the shipped seeds, and write them to `out`."""
    rows = read_tagged(path) + (seeds() if with_seeds else [])
    return save_heads(train_heads(rows, encoder_named(encoder), said=said), out)


def fine_tune_file(path: Path, out: Path, model: str, *, with_seeds: bool = True) -> None:
    """Fine-tune the encoder `model` (the paper's DeBERTa-v3, say) on labelled rows, and write it to `out`."""
    from tapir.classifiers.encoder import fine_tune

    fine_tune(read_tagged(path) + (seeds() if with_seeds else []), model, out, said=print)


def evaluate_file(path: Path, classifier: Classifier) -> Evaluation:
    """Compare the classifier with a file of labelled rows."""
    return asyncio.run(evaluate_classifier(classifier, read_tagged(path)))
