"""Locality-sensitive hashing: which earlier rows share a band of MinHash values with a row.

rensa's own index takes 84 bytes a row and band; this one takes 12 to 24, so that a million rows fit beside a model.
"""

from array import array
from collections.abc import Sequence

_FIRST_SLOTS = 1 << 12
_MASK = 0xFFFFFFFF


class BandIndex:
    """Rows, numbered from 0 in the order of their adding, by the hashes of their bands.

    For each band a table of slots points at the newest row of the slot, and each row at the next older one.
    """

    def __init__(self, bands: int) -> None:
        self._bands = bands
        self._hashes = array("I")
        self._older = array("I")
        self._slots = _FIRST_SLOTS
        self._newest: list[array[int]] = []
        self._empty()

    def _empty(self) -> None:
        self._newest = [array("I", bytes(4 * self._slots)) for _ in range(self._bands)]

    def __len__(self) -> int:
        return len(self._hashes) // self._bands

    def hashes(self, values: Sequence[int]) -> list[int]:
        """The hash of each band of a row's MinHash values (32 bits each), in [1, 2^32)."""
        width = len(values) // self._bands
        return [hash(tuple(values[i : i + width])) & _MASK or 1 for i in range(0, len(values), width)]

    def candidates(self, hashes: Sequence[int]) -> set[int]:
        """The rows that share a band with these hashes."""
        found: set[int] = set()
        stored, older, bands, mask = self._hashes, self._older, self._bands, self._slots - 1
        for band, value in enumerate(hashes):
            row = self._newest[band][value & mask]
            while row:
                at = (row - 1) * bands + band
                if stored[at] == value:
                    found.add(row - 1)
                row = older[at]
        return found

    def add(self, hashes: Sequence[int], *, is_findable: bool = True) -> None:
        """Add one row; one that is not findable only takes a number."""
        if len(self) >= self._slots:
            self._grow()
        if not is_findable:
            empty = array("I", bytes(4 * self._bands))
            self._hashes.extend(empty)
            self._older.extend(empty)
            return
        row, mask = len(self) + 1, self._slots - 1
        self._hashes.extend(hashes)
        for band, value in enumerate(hashes):
            newest, slot = self._newest[band], value & mask
            self._older.append(newest[slot])
            newest[slot] = row

    def _grow(self) -> None:
        """Four times as many slots."""
        rows, bands = len(self), self._bands
        self._slots *= 4
        mask = self._slots - 1
        self._empty()
        for band, newest in enumerate(self._newest):
            for row in range(rows):
                at = row * bands + band
                value = self._hashes[at]
                if value:
                    slot = value & mask
                    self._older[at] = newest[slot]
                    newest[slot] = row + 1
