"""Contamination: training text that repeats an evaluation item."""

from collections.abc import Iterable
from hashlib import blake2b

from tapir.rows import Draft, Example, Refused, refuse
from tapir.words import words


class EvaluationIndex:
    """What training rows must not contain: runs of `n` words of evaluation texts, and short texts as a whole.

    Texts are compared by their words (tapir.words): case, punctuation and white space do not count. A text of fewer
    than `n` words is only matched by a text of exactly the same words. Takes about 200 bytes a word of the texts.

    Raises:
        ValueError: `n` is below 1.
    """

    def __init__(self, texts: Iterable[str], n: int = 13) -> None:
        if n < 1:
            raise ValueError(f"n is {n}; a run has at least one word")
        self.n = n
        """Words in a run."""
        self._runs: set[str] = set()
        self._short: set[str] = set()
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Add one more evaluation text; one without words is ignored."""
        found = words(text)
        if len(found) >= self.n:
            self._runs.update(" ".join(found[i : i + self.n]) for i in range(len(found) - self.n + 1))
        elif found:
            self._short.add(" ".join(found))

    def hits(self, text: str) -> str | None:
        """The first run of words in `text` that an evaluation text has too, None for a clean text."""
        found = words(text)
        n, runs = self.n, self._runs
        if len(found) < n:
            whole = " ".join(found)
            return whole if whole in self._short else None
        for i in range(len(found) - n + 1):
            run = " ".join(found[i : i + n])
            if run in runs:
                return run
        return None

    def refusal(self, row: Example | Draft) -> Refused | None:
        """The refusal of a row whose instruction, or earlier turns, repeat an evaluation text; None for a clean row."""
        for turn in row.turns:
            if turn.role != "system" and (run := self.hits(turn.content)) is not None:
                return refuse(row, "contaminated", f"shares {run!r} with an evaluation item")
        return None

    @property
    def digest(self) -> str:
        """Digest of what is compared with (32 hexadecimal digits), whatever the order of the texts."""
        state = blake2b(f"{self.n}\x00".encode(), digest_size=16)
        for part in (*sorted(self._runs), "", *sorted(self._short)):
            state.update(part.encode() + b"\x00")
        return state.hexdigest()

    def __len__(self) -> int:
        return len(self._runs) + len(self._short)
