"""A map of digests that stays small for millions of rows."""

from array import array

_START = 2**10  # slots; a power of two


class DigestMap:
    """Maps 64-bit digests to 64-bit integers in 32 to 64 bytes each, where a dict takes about 200.

    Open addressing with linear probing. The key 0 stands for an empty slot, and 1 for the digest 0 too.
    """

    def __init__(self):
        self._allocate(_START)

    def add(self, digest: int, value: int) -> int | None:
        """Returns the value of a digest that was added before; else adds it and returns None."""
        key, keys, mask = digest or 1, self._keys, self._mask
        slot = key & mask
        while found := keys[slot]:
            if found == key:
                return self._values[slot]
            slot = (slot + 1) & mask
        keys[slot], self._values[slot] = key, value
        self._room -= 1
        if not self._room:
            self._grow()
        return None

    def _allocate(self, slots: int) -> None:
        self._keys, self._values = array("Q", bytes(8 * slots)), array("Q", bytes(8 * slots))
        self._mask, self._room = slots - 1, slots // 2

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._allocate(2 * len(keys))
        for key, value in zip(keys, values, strict=True):
            if key:
                self.add(key, value)
