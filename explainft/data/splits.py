"""Assigns the records of a stream to its splits, without duplicates."""

from collections.abc import Iterable, Iterator

import numpy as np

from explainft.listops.configs import split_of


def assign_splits(
    stream: str, sizes: dict[str, int], records: Iterable[tuple[int, bytes]]
) -> Iterator[tuple[str, bytes]]:
    """Yields each record of a stream with its split.

    `records` are pairs of the expression's 64-bit digest and its bytes. A split takes the first `sizes[split]` of its
    own records, without duplicates.
    """
    missing = dict(sizes)
    seen = DigestSet()
    for digest, data in records:
        split = split_of(stream, digest)
        if missing[split] and seen.add(digest):
            missing[split] -= 1
            yield split, data
        if not any(missing.values()):
            return


class DigestSet:
    """A set of 64-bit digests: a sorted array and a set of the newest. It takes 8 bytes each, Python's about 100."""

    NEWEST = 2**18

    def __init__(self):
        self._sorted = np.empty(0, np.uint64)
        self._newest: set[int] = set()

    def add(self, digest: int) -> bool:
        """Adds a digest and returns whether it is new."""
        if digest in self._newest:
            return False
        index = self._sorted.searchsorted(np.uint64(digest))
        if index < len(self._sorted) and self._sorted[index] == digest:
            return False
        self._newest.add(digest)
        if len(self._newest) == self.NEWEST:
            self._sorted = np.concatenate([self._sorted, np.fromiter(self._newest, np.uint64, self.NEWEST)])
            self._sorted.sort()
            self._newest.clear()
        return True
