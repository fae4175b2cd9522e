"""Near-duplicates: texts that share most of their words in the same order."""

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

from rensa import RMinHash

from tapir.lsh import BandIndex
from tapir.rows import Draft, Example
from tapir.words import words

SHINGLE_WORDS = 3
SKETCH_SHINGLES = 256
"""Shingles kept of one text: similarity is exact up to here, and estimated (standard error 0.03) beyond."""
BANDS = 12
MAX_ROWS_PER_BAND = 8
RECALL = 0.96
"""Least chance that a pair exactly at the threshold is compared; pairs above it have a higher one."""
CROWD = 256
"""A text with so many candidates is not itself indexed (but for exact copies), so that templates stay affordable."""
_SEED = 42
_SPREAD = 0x9E3779B1
_MASK = 0xFFFFFFFF


class Duplicate(NamedTuple):
    """The earlier text that a text repeats."""

    id: str
    """The name under which the earlier text was added."""
    similarity: float
    """Jaccard similarity of the two texts' shingles, in (0, 1]; 1 for the same words in the same order."""


def comparable(row: Example | Draft) -> str:
    """The text by which a row is compared: what the user says, in all turns."""
    return "\n".join(turn.content for turn in row.turns if turn.role == "user")


def scope_of(row: Example | Draft) -> str:
    """What must be equal for two rows to be compared at all: the system prompt."""
    return "\n".join(turn.content for turn in row.turns if turn.role == "system")


class NearDuplicates:
    """An index of texts that finds, for a new text, the most similar one before it.

    Two texts are near-duplicates when the Jaccard similarity of their word 3-shingles (character 3-shingles in scripts
    without spaces, see tapir.words) is at least `similarity`. A text of fewer than three words has itself as its only
    shingle: it is repeated by the same words alone. With similarity 1 only texts of exactly the same words are found.
    Candidates come from MinHash bands (rensa), every one is checked against the shingles themselves. The answers depend
    on the texts and their order alone. Takes about 0.35 kB a text of twenty words, its name aside.
    """

    def __init__(self, similarity: float) -> None:
        self.similarity = similarity
        """Least similarity of a near-duplicate, in (0, 1]."""
        self.crowded = 0
        """Texts that were left out of the index because CROWD others looked like them."""
        self._names: list[str] = []
        self._exact: dict[int, int] = {}  # texts that no band can find: all with similarity 1, else the crowded ones
        self._shingles = array("I")
        self._ends = array("Q")
        self._permutations = BANDS * rows_per_band(similarity)
        self._bands = BandIndex(BANDS) if similarity < 1 else None

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, text: str, scope: str = "") -> Duplicate | None:
        """Index `text` under `name` unless it repeats an earlier one, which is then returned."""
        return self._look(text, scope, name)

    def query(self, text: str, scope: str = "") -> Duplicate | None:
        """The earlier text of the same scope that `text` repeats most closely, None for a new one."""
        return self._look(text, scope, None)

    def add_row(self, row: Example | Draft) -> Duplicate | None:
        """Index what the user says in a row, unless it repeats an earlier row under the same system prompt."""
        return self._look(comparable(row), scope_of(row), row.id)

    def query_row(self, row: Example | Draft) -> Duplicate | None:
        """The earlier row that a row repeats, None for a new one."""
        return self._look(comparable(row), scope_of(row), None)

    def _look(self, text: str, scope: str, name: str | None) -> Duplicate | None:
        found = words(text) or [text.strip()]
        key = hash_64(" ".join(found), scope) if self._exact or self._bands is None else 0
        same = self._exact.get(key)
        if same is not None:
            return Duplicate(self._names[same], 1.0)
        if self._bands is None:
            if name is not None:
                self._exact[key] = len(self._names)
                self._keep(name, ())
            return None
        shingles = shingled(found, scope)
        sketch = RMinHash(num_perm=self._permutations, seed=_SEED)
        sketch.update(shingles)
        bands = self._bands.hashes(sketch.digest())
        candidates = self._bands.candidates(bands)
        hashes = hashed(shingles)
        best = self._best(hashes, candidates)
        if best is not None or name is None:
            return best
        is_crowded = len(candidates) >= CROWD
        if is_crowded:
            self.crowded += 1
            self._exact[hash_64(" ".join(found), scope)] = len(self._names)
        self._bands.add(bands, is_findable=not is_crowded)
        self._keep(name, hashes)
        return None

    def _keep(self, name: str, hashes: Iterable[int]) -> None:
        self._names.append(name)
        self._shingles.extend(hashes)
        self._ends.append(len(self._shingles))

    def _best(self, hashes: list[int], candidates: Iterable[int]) -> Duplicate | None:
        """The candidate most similar to a text, the earliest of several, if it is similar enough."""
        mine = set(hashes)
        size, least = len(hashes), self.similarity
        best: tuple[float, int] | None = None
        for candidate in candidates:
            start = self._ends[candidate - 1] if candidate else 0
            end = self._ends[candidate]
            if not least * (end - start) <= size <= (end - start) / least:
                continue
            similarity = jaccard(mine, self._shingles[start:end])
            if similarity >= least and (best is None or (-similarity, candidate) < (-best[0], best[1])):
                best = (similarity, candidate)
        return Duplicate(self._names[best[1]], best[0]) if best else None


def rows_per_band(similarity: float) -> int:
    """Most MinHash values in a band, of BANDS, that still find a pair at `similarity` with a chance of RECALL."""
    for rows in range(MAX_ROWS_PER_BAND, 1, -1):
        if 1 - (1 - similarity**rows) ** BANDS >= RECALL:
            return rows
    return 1


def shingled(found: list[str], scope: str) -> list[str]:
    """Runs of three words, or the whole of a shorter text, marked with what they are compared within."""
    mark = f"\x1f{scope}" if scope else ""
    if len(found) < SHINGLE_WORDS:
        return [" ".join(found) + mark]
    return [f"{a} {b} {c}{mark}" for a, b, c in zip(found, found[1:], found[2:], strict=False)]


def hashed(shingles: Iterable[str]) -> list[int]:
    """32-bit hashes of the different shingles, the SKETCH_SHINGLES smallest of a long text (its bottom-k sketch)."""
    hashes = {crc32(shingle.encode("utf-8", "surrogatepass")) * _SPREAD & _MASK for shingle in shingles}
    return list(hashes) if len(hashes) <= SKETCH_SHINGLES else sorted(hashes)[:SKETCH_SHINGLES]


def hash_64(text: str, scope: str) -> int:
    """A 64-bit hash of a text within its scope."""
    data = f"{scope}\x1f{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def jaccard(mine: set[int], theirs: "array[int]") -> float:
    """Jaccard similarity of two texts from their hashed shingles: exact for short texts, estimated for long ones."""
    shared = mine.intersection(theirs)
    if len(mine) < SKETCH_SHINGLES and len(theirs) < SKETCH_SHINGLES:
        return len(shared) / (len(mine) + len(theirs) - len(shared))
    smallest = sorted(mine.union(theirs))[:SKETCH_SHINGLES]
    return len(shared.intersection(smallest)) / len(smallest)
