"""The corpus role over any instruction set: read, clean, each instruction once, and as many as asked for."""

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from tapir.config import CorpusConfig
from tapir.contamination import EvaluationIndex
from tapir.corpus.clean import Cleaned, Cleaning, clean
from tapir.corpus.raw import Raw
from tapir.corpus.read import ROW_BYTES, DataSet, FileFacts, Watch, no_watch
from tapir.corpus.tables import no_columns
from tapir.dedup import NearDuplicates
from tapir.errors import DataError
from tapir.roles import Stage
from tapir.rows import Example, Refused, refuse

VERSION = 2
"""Of reading, cleaning and comparing; raised when the same file may give other rows."""
_SLICE_S = 0.02
"""Longest time without a look at the event loop."""


def data_set(cfg: CorpusConfig) -> DataSet:
    """The files that a corpus configuration names.

    Raises:
        DataError: there is nothing to read.
    """
    return DataSet(cfg.path, cfg.split, max(ROW_BYTES, 16 * cfg.max_chars))


class Deduplicating:
    """Each instruction once: refuses later copies and near-copies, and what repeats an evaluation item."""

    def __init__(self, cfg: CorpusConfig, evaluation: EvaluationIndex | None = None) -> None:
        self._evaluation = evaluation
        self._seen: set[int] = set()
        self.near = NearDuplicates(cfg.near_duplicates.similarity) if cfg.near_duplicates else None

    def admit(self, row: Example) -> Example | Refused:
        """The row, or its refusal; an admitted row is remembered."""
        key = int(row.id, 16)
        if key in self._seen:
            return refuse(row, "duplicate", f"repeats the instruction of row {row.id}")
        if self._evaluation is not None and (contaminated := self._evaluation.refusal(row)) is not None:
            return contaminated
        self._seen.add(key)
        if self.near is not None and (earlier := self.near.add_row(row)) is not None:
            detail = f"repeats row {earlier.id} with similarity {earlier.similarity:.2f}"
            return refuse(row, "near-duplicate", detail)
        return row


def cleaned_rows(
    data: DataSet, cfg: CorpusConfig, evaluation: EvaluationIndex | None = None, watch: Watch = no_watch
) -> Iterator[tuple[Cleaned, Example | Refused]]:
    """Every row in file order: what cleaning made of it, and what became of it in the end.

    Raises:
        DataError: a file cannot be read, or no row at all has known columns.
    """
    cleaning = Cleaning(cfg.max_chars, cfg.license)
    deduplicating = Deduplicating(cfg, evaluation)
    unknown: Raw | None = None
    is_known = False
    for raw in data.rows(watch):
        cleaned = clean(raw, cleaning)
        row = cleaned.row
        if isinstance(row, Refused):
            if row.reason == "unknown-shape" and isinstance(raw, Raw):
                unknown = unknown or raw
            else:
                is_known = True
            yield cleaned, row
        else:
            is_known = True
            yield cleaned, deduplicating.admit(row)
    if unknown is not None and not is_known:
        raise DataError(f"{data.path}: {no_columns(list(unknown.fields))}")


class FileCorpus:
    """Corpus: the rows of a file, a directory or a hub data set.

    Rows come in file order. With `cfg.limit`, a sample of the accepted rows is drawn that depends on the rows and on
    `seed`, not on their order: the rows whose keyed digest is smallest. Refused rows are sampled alike, so that the
    share of refused rows stays what it is; rows not drawn are neither kept nor refused, and are noted.
    """

    def __init__(self, cfg: CorpusConfig, seed: int = 0, evaluation: EvaluationIndex | None = None) -> None:
        self._cfg = cfg
        self._seed = seed
        self._evaluation = evaluation
        self._digest: tuple[tuple[tuple[str, int, int], ...], str] | None = None

    def identity(self, verb: str) -> Mapping[str, Any]:
        """The settings and the content of the files: the same files elsewhere have the same identity.

        Raises:
            DataError: the files cannot be read.
        """
        return {
            "corpus": "files",
            "version": VERSION,
            "content": self._content_digest(),
            "settings": self._cfg.model_dump(mode="json", exclude={"path"}),
            "seed": self._seed if self._cfg.limit is not None else None,
            "evaluation": self._evaluation.digest if self._evaluation is not None else None,
        }

    def _content_digest(self) -> str:
        data = data_set(self._cfg)
        if data.hub is not None:
            return f"{data.path}:{data.digest()}"
        stats = [(file.path, file.path.stat()) for file in data.files]
        state = tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)
        if self._digest is None or self._digest[0] != state:
            self._digest = state, data.digest()
        return self._digest[1]

    async def read(self, stage: Stage) -> AsyncIterator[Example | Refused]:
        """The accepted rows, each instruction once, and a refusal for every other row.

        Raises:
            DataError: a file cannot be read as instructions and responses.
        """
        data = data_set(self._cfg)
        size, counts, repairs = data.size, Counter[str](), Counter[str]()
        files: dict[str, FileFacts] = {}
        drawn = _Sample(self._cfg.limit, self._seed)
        begun = time.monotonic()
        done = 0

        def watch(facts: FileFacts, position: int) -> None:
            nonlocal done
            done = sum(known.size for known in files.values() if known is not facts) + position
            files[facts.name] = facts

        for cleaned, row in cleaned_rows(data, self._cfg, self._evaluation, watch):
            counts["read"] += 1
            repairs.update({repair.kind for repair in cleaned.repairs})
            if self._cfg.limit is None:
                yield row
            else:
                drawn.add(row)
            if time.monotonic() - begun > _SLICE_S:
                stage.progress(done, size, f"{counts['read']} rows read")
                await asyncio.sleep(0)
                begun = time.monotonic()
        for row in drawn.rows():
            yield row
        for facts in files.values():
            repairs.update(repair.kind for repair in facts.repairs)
        repairs.update(repair.kind for repair in data.skipped)
        stage.expect(drawn.count if self._cfg.limit is not None else counts["read"])
        stage.note(
            read=counts["read"],
            not_drawn=counts["read"] - drawn.count if self._cfg.limit is not None else 0,
            repairs=dict(sorted(repairs.items())),
            files=[{"name": f.name, "format": f.format, "rows": f.rows} for f in files.values()],
        )


class _Sample:
    """A reproducible sample of rows, in their order: accepted rows up to a limit, refused rows in proportion."""

    def __init__(self, limit: int | None, seed: int) -> None:
        self._limit = limit or 0
        self._key = f"corpus:{seed}".encode()
        self._accepted: list[tuple[int, int, Example]] = []
        self._refused: list[tuple[int, int, Refused]] = []
        self._index = 0
        self._is_full = False
        self._forget_at = 1000

    def _rank(self, row: Example | Refused) -> int:
        return int.from_bytes(blake2b(row.id.encode(), key=self._key, digest_size=8).digest(), "big")

    def add(self, row: Example | Refused) -> None:
        """Consider one more row."""
        rank = self._rank(row)
        self._index += 1
        if isinstance(row, Refused):
            self._refused.append((rank, self._index, row))
            if self._is_full and len(self._refused) >= self._forget_at:
                self._forget()
            return
        heapq.heappush(self._accepted, (-rank, self._index, row))
        if len(self._accepted) > self._limit:
            heapq.heappop(self._accepted)
            self._is_full = True

    def _forget(self) -> None:
        """Drop refused rows beyond the last accepted one that is drawn."""
        last = -self._accepted[0][0]
        self._refused = [item for item in self._refused if item[0] <= last]
        self._forget_at = 2 * len(self._refused) + 1000

    def rows(self) -> list[Example | Refused]:
        """The drawn rows in their order; final when all rows have been considered."""
        if self._is_full:
            self._forget()
        items: list[tuple[int, Example | Refused]] = [(i, row) for _, i, row in self._accepted]
        items += [(i, row) for _, i, row in self._refused]
        return [row for _, row in sorted(items, key=lambda item: item[0])]

    @property
    def count(self) -> int:
        """Rows drawn."""
        return len(self._accepted) + len(self._refused)
