"""Hashed n-grams of texts, as sparse rows: words (1-2), characters (3-5, inside word boundaries) and coarse shape.

Everything is arithmetic on code points over a batch of texts at once, so that numpy alone reads thousands of rows a
second. The same features serve the classifier's heads, the pool teacher's retrieval and the reference judge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]

HEAD_CHARS = 1200
TAIL_CHARS = 600
"""Of a longer text its beginning and its end are read: that is where a task is stated."""

WORD_BUCKETS = 1 << 16
CHAR_BUCKETS = 1 << 16
SHAPE_BUCKETS = 64
BUCKETS = WORD_BUCKETS + CHAR_BUCKETS + SHAPE_BUCKETS

_BLOCK_ENDS = np.array([WORD_BUCKETS, WORD_BUCKETS + CHAR_BUCKETS])
_BLOCK_SHARES = np.array([0.705, 0.705, 0.07])
"""Length of each block of a row's vector: two rows alike in all three have cosine 1."""

_ROWS_AT_ONCE = 256
_BATCH_CHARS = 100_000
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SPACE, _NEWLINE, _ZERO, _LAST_LATIN = 32, 10, 48, 0x24F


@dataclass(frozen=True)
class Sparse:
    """Rows of a sparse matrix: row i holds `columns[starts[i]:starts[i + 1]]` with `values` alike."""

    starts: Ints
    columns: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def row_of(self) -> Ints:
        """The row of each entry."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def times(self, dense: Floats) -> Floats:
        """The product with a dense matrix (columns x k), as len(self) x k."""
        out = np.zeros((len(self), dense.shape[1]), dtype=np.float32)
        filled = np.flatnonzero(np.diff(self.starts))
        for at in range(0, len(filled), _ROWS_AT_ONCE):
            rows = filled[at : at + _ROWS_AT_ONCE]
            first, end = self.starts[rows[0]], self.starts[rows[-1] + 1]
            terms = dense[self.columns[first:end]]
            terms *= self.values[first:end, None]
            out[rows] = np.add.reduceat(terms, self.starts[rows] - first, axis=0)
        return out


def tfidf(counted: Sparse, idf: Floats) -> Sparse:
    """Counts times inverse document frequency; words, characters and shape each scaled to their share of length one."""
    values = counted.values * idf[counted.columns]
    block = np.searchsorted(_BLOCK_ENDS, counted.columns, side="right")
    cell = counted.row_of * len(_BLOCK_SHARES) + block
    norms = np.sqrt(np.bincount(cell, values * values, minlength=len(counted) * len(_BLOCK_SHARES)))
    scaled = values / np.maximum(norms, 1e-9)[cell] * _BLOCK_SHARES[block]
    return Sparse(counted.starts, counted.columns, scaled.astype(np.float32))


def inverse_frequency(counted: Sparse, least: int = 0) -> Floats:
    """The smoothed inverse document frequency of every bucket over the rows given; 0 where under `least` hold it."""
    found = np.bincount(counted.columns, minlength=BUCKETS)
    return np.where(found >= least, np.log((1 + len(counted)) / (1 + found)) + 1, 0).astype(np.float32)


def stack(parts: Sequence[Sparse]) -> Sparse:
    """The rows of `parts` one after the other; no parts: no rows."""
    if not parts:
        return Sparse(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    lengths = np.concatenate([np.diff(part.starts) for part in parts])
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sparse(
        starts, np.concatenate([part.columns for part in parts]), np.concatenate([part.values for part in parts])
    )


def take(matrix: Sparse, rows: Ints) -> Sparse:
    """Some rows of `matrix`, in the order given."""
    lengths = np.diff(matrix.starts)[rows]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    entries = np.arange(starts[-1]) + np.repeat(matrix.starts[rows] - starts[:-1], lengths)
    return Sparse(starts, matrix.columns[entries], matrix.values[entries])


def counts(texts: Sequence[str]) -> Iterator[Sparse]:
    """Sublinear counts (1 + ln n) of every bucket in each text, in batches that fit the cache."""
    batch: list[str] = []
    chars = 0
    for text in texts:
        clipped = clip(text)
        if batch and chars + len(clipped) > _BATCH_CHARS:
            yield _batch_counts(batch)
            batch, chars = [], 0
        batch.append(clipped)
        chars += len(clipped)
    if batch:
        yield _batch_counts(batch)


def clip(text: str) -> str:
    """The beginning and the end of a long text, the whole of any other."""
    return text if len(text) <= HEAD_CHARS + TAIL_CHARS else text[:HEAD_CHARS] + "\n" + text[-TAIL_CHARS:]


def _batch_counts(texts: Sequence[str]) -> Sparse:
    points = _points(texts)
    row = np.cumsum(points == _NEWLINE) - 1
    word_rows, words = _words(points, row)
    char_rows, chars = _chars(points, row)
    shape_rows, shapes = _shapes(texts)
    rows = np.concatenate([word_rows, char_rows, shape_rows])
    columns = np.concatenate([words, chars, shapes])
    keys, repeats = np.unique(rows * BUCKETS + columns, return_counts=True)
    starts = np.searchsorted(keys, np.arange(len(texts) + 1) * BUCKETS)
    return Sparse(starts.astype(np.int64), keys % BUCKETS, (1 + np.log(repeats)).astype(np.float32))


def _points(texts: Sequence[str]) -> Ints:
    """Code points of all texts, in lower case, digits alike; each text starts with a newline, between spaces."""
    joined = "".join(f"\n {' '.join(text.lower().split())} " for text in texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
    points[(points >= _ZERO) & (points <= _ZERO + 9)] = _ZERO
    return points


def _words(points: Ints, row: Ints) -> tuple[Ints, Ints]:
    """Rows and buckets of the words, of pairs of neighbouring words, of the first words as such, and of one token for
    each word in another script than Latin: most such words are in no training row."""
    inside = np.flatnonzero(_is_word(points))
    if not len(inside):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    begins = np.flatnonzero(np.concatenate([[True], np.diff(inside) > 1]))
    offset = np.arange(len(inside)) - np.repeat(begins, np.diff(np.append(begins, len(inside))))
    offset %= len(_powers())  # lower() may lengthen a text
    letters = (points[inside].astype(np.uint64) + np.uint64(1)) * _powers()[offset]
    single = _mix(np.add.reduceat(letters, begins))
    owner = row[inside[begins]]
    same = owner[1:] == owner[:-1]
    pair = _mix(single[:-1] * np.uint64(31) + single[1:])[same]
    first = np.flatnonzero(np.concatenate([[True], ~same]))
    opening = _mix(single[first] + np.uint64(7))
    is_foreign = points[inside[begins]] > _LAST_LATIN
    foreign = np.full(np.count_nonzero(is_foreign), _mix(np.array([_LAST_LATIN]))[0])
    hashes = np.concatenate([single, pair, opening, foreign])
    rows = np.concatenate([owner, owner[1:][same], owner[first], owner[is_foreign]])
    return rows, (hashes % np.uint64(WORD_BUCKETS)).astype(np.int64)


def _chars(points: Ints, row: Ints) -> tuple[Ints, Ints]:
    """Rows and buckets of the runs of 3, 4 and 5 characters that cross no word boundary."""
    letters = points.astype(np.uint64)
    is_gap = (points == _SPACE) | (points == _NEWLINE)
    is_end = points == _NEWLINE
    rows, hashes = [], []
    rolled = letters * _MULTIPLIER
    open_until = np.ones(len(points), dtype=bool)
    for size in range(2, 6):
        if len(points) < size:
            break
        last = size - 1
        rolled = (rolled[: len(points) - last] + letters[last:]) * _MULTIPLIER
        if size > 2:
            open_until = open_until[: len(points) - last] & ~is_gap[last - 1 : len(points) - 1]
            fits = open_until & ~is_end[: len(points) - last] & ~is_end[last:]
            rows.append(row[: len(points) - last][fits])
            hashes.append(_mix(rolled[fits] + np.uint64(size)))
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    buckets = (np.concatenate(hashes) % np.uint64(CHAR_BUCKETS)).astype(np.int64) + WORD_BUCKETS
    return np.concatenate(rows), buckets


def _shapes(texts: Sequence[str]) -> tuple[Ints, Ints]:
    """Rows and buckets of what a text looks like: length, lines, scripts, digits, code symbols, how it ends."""
    joined = "".join(f"\x00{text}" for text in texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
    begins = np.flatnonzero(points == 0)
    if len(begins) != len(texts):
        return _shapes([text.replace("\x00", " ") for text in texts])
    size = np.diff(np.append(begins, len(points)))
    table = _classes()[np.minimum(points, _classes().size - 1)]

    def share(kind: int) -> Ints:
        found = np.add.reduceat((table == kind).astype(np.int64), begins)
        return np.ceil(np.log2(1 + 100 * found / size)).astype(np.int64).clip(0, 7)

    lines = np.add.reduceat((points == _NEWLINE).astype(np.int64), begins)
    bins = [
        np.log2(size).astype(np.int64).clip(0, 11),
        12 + np.ceil(np.log2(1 + lines)).astype(np.int64).clip(0, 5),
        18 + share(_DIGIT),
        26 + share(_SYMBOL),
        34 + share(_FOREIGN),
        42 + share(_CAPITAL),
        50 + np.array([text.rstrip()[-1:] in ("?", "？", "؟") for text in texts], dtype=np.int64),
        52 + np.array(["```" in text for text in texts], dtype=np.int64),
    ]
    rows = np.tile(np.arange(len(texts)), len(bins))
    return rows, np.concatenate(bins) + WORD_BUCKETS + CHAR_BUCKETS


_DIGIT, _SYMBOL, _FOREIGN, _CAPITAL = 1, 2, 3, 4


@cache
def _classes() -> NDArray[np.int8]:
    """The class of each code point below 0x10000: digit, symbol of program code, foreign letter, capital; 0 else."""
    table = np.zeros(0x10000, dtype=np.int8)
    table[[ord(c) for c in "0123456789"]] = _DIGIT
    table[[ord(c) for c in "{}()[]<>=;_/\\|&*+$#"]] = _SYMBOL
    table[[ord(c) for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]] = _CAPITAL
    table[[i for i in range(0xC0, 0x10000) if chr(i).isalpha()]] = _FOREIGN
    return table


@cache
def _word_table() -> NDArray[np.bool_]:
    return np.array([chr(i).isalnum() or chr(i) in "_'" for i in range(0x10000)])


def _is_word(points: Ints) -> NDArray[np.bool_]:
    """Whether each code point is a letter or a digit; those beyond the basic plane count as letters."""
    found: NDArray[np.bool_] = _word_table()[np.minimum(points, 0xFFFF)] | (points > 0xFFFF)
    return found


@cache
def _powers() -> Hashes:
    size = HEAD_CHARS + TAIL_CHARS + 2
    return np.cumprod(np.full(size, _MULTIPLIER, dtype=np.uint64), dtype=np.uint64)


def _mix(hashes: NDArray[Any]) -> Hashes:
    """The finaliser of splitmix64: spreads the sums above over all bits."""
    mixed = hashes.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
