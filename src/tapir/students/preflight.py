"""Before any training hour: are the rows what the student should see?"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapir.config import TrainConfig
from tapir.errors import StudentError
from tapir.rows import Example
from tapir.students.tokens import ChatTokenizer, Encoded

_SHOWN_IDS = 5
_COMPARED = 64
_MARKER = re.compile(r"<\|[^|<>\s]+\|>")


@dataclass(frozen=True)
class PreflightReport:
    """What training on these rows would mean."""

    rows: int
    tokens: dict[str, int]
    """Tokens of a row, prompt and response: least, quantiles and most, before anything is cut; and their sum."""
    max_length: int
    """Tokens after which a row is cut: the setting, or the model's context where that is shorter."""
    truncated: int
    """Rows that lose the end of their response."""
    wholly_cut: tuple[str, ...]
    """Ids of rows whose prompt alone fills `max_length`: nothing of the response is left to learn."""
    empty: tuple[str, ...]
    """Ids of rows without a response: nothing but the end of the turn to learn."""
    problems: tuple[str, ...]
    """What is wrong with the tokenizer or its template."""
    notes: tuple[str, ...]
    """What is worth knowing, and no error."""
    example: str
    """One row as the student sees it; what is trained on stands between ⟦ and ⟧."""
    encoded: Sequence[Encoded] = field(repr=False)
    """The rows as trained on."""

    @property
    def truncated_share(self) -> float:
        """Share of the rows that lose the end of their response."""
        return self.truncated / self.rows

    def check(self) -> None:
        """Raise what must not be trained on.

        Raises:
            StudentError: names every problem, with the ids of the first rows concerned and the next step.
        """
        found = list(self.problems)
        if self.wholly_cut:
            found.append(
                f"{len(self.wholly_cut)} of {self.rows} rows have no response left within {self.max_length} tokens "
                f"({_some(self.wholly_cut)}); raise student.train.max_length, or lower corpus.max_chars"
            )
        if self.empty:
            found.append(f"{len(self.empty)} of {self.rows} rows have an empty response ({_some(self.empty)})")
        if found:
            raise StudentError("pre-flight of the training rows: " + "; ".join(found))

    def summary(self) -> dict[str, Any]:
        """The report without the rows, as JSON values."""
        return {
            "rows": self.rows,
            "tokens": self.tokens,
            "max_length": self.max_length,
            "truncated": self.truncated,
            "wholly_cut": len(self.wholly_cut),
            "empty": len(self.empty),
            "problems": list(self.problems),
            "notes": list(self.notes),
            "example": self.example,
        }


def preflight(
    chat: ChatTokenizer, rows: Sequence[Example], config: TrainConfig, context: int | None = None
) -> PreflightReport:
    """Tokenise the training rows and look at what the student would see.

    `context` is the model's own limit. A row longer than allowed loses the end of its response, and with it the end
    of the turn: the student is not taught to stop there.

    Raises:
        StudentError: there are no rows, or the chat template refuses one.
    """
    if not rows:
        raise StudentError("pre-flight of the training rows: there are none; look at what was refused before")
    limit = min(config.max_length, context or config.max_length)
    whole = chat.encode(rows)
    sizes = np.array([row.size for row in whole])
    kept = [Encoded(row.prompt, row.completion[: max(0, limit - len(row.prompt))]) for row in whole]
    pairs = list(zip(rows, kept, strict=True))
    return PreflightReport(
        rows=len(rows),
        tokens=_quantiles(sizes),
        max_length=limit,
        truncated=int((sizes > limit).sum()),
        wholly_cut=tuple(row.id for row, made in pairs if not made.completion),
        empty=tuple(row.id for row in rows if not row.response.strip()),
        problems=(*_prompt_problems(chat, rows, whole), *_marker_problems(chat, rows[0])),
        notes=(*chat.notes, *_notes(chat, rows)),
        example=_example(chat, kept[0]),
        encoded=kept,
    )


def _quantiles(sizes: "np.ndarray[Any, Any]") -> dict[str, int]:
    names = {"least": 0.0, "median": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}
    return {name: int(np.quantile(sizes, share)) for name, share in names.items()} | {"sum": int(sizes.sum())}


def _prompt_problems(chat: ChatTokenizer, rows: Sequence[Example], encoded: Sequence[Encoded]) -> list[str]:
    """Whether training sees, byte for byte, the prompt that answering will send."""
    some = rows[:_COMPARED]
    answering = chat.prompts(some)
    differing = [row.id for row, ours, made in zip(some, answering, encoded, strict=False) if ours != made.prompt]
    if differing:
        return [f"the training prompt differs from the answering prompt ({_some(differing)})"]
    return []


def _marker_problems(chat: ChatTokenizer, row: Example) -> list[str]:
    """Whether every <|marker|> of the template is one token of the vocabulary."""
    blank = chat.frame(row.turns)
    split = [
        marker
        for marker in sorted(set(_MARKER.findall(blank)))
        if len(ids := chat.ids([marker])[0]) != 1 or ids[0] == chat.tokenizer.unk_token_id
    ]
    if split:
        return [f"the chat template uses {', '.join(split)}, which the tokenizer does not have as tokens; add them"]
    return []


def _notes(chat: ChatTokenizer, rows: Sequence[Example]) -> list[str]:
    """Rows whose text holds control tokens: they would end or open turns."""
    tokens = [token for token in chat.tokenizer.all_special_tokens if len(token) > 1]
    held = sum(
        any(token in text for token in tokens for text in (row.response, *(turn.content for turn in row.turns)))
        for row in rows
    )
    return [f"{held} of {len(rows)} rows hold special tokens of the tokenizer in their text"] if held else []


def _example(chat: ChatTokenizer, row: Encoded) -> str:
    """One row with its loss mask."""
    decode = chat.tokenizer.decode
    return f"{decode(row.prompt)}⟦{decode(row.completion)}⟧"


def _some(ids: Sequence[str]) -> str:
    """The first ids, for a message."""
    shown = ", ".join(ids[:_SHOWN_IDS])
    return f"ids {shown}{', …' if len(ids) > _SHOWN_IDS else ''}"
