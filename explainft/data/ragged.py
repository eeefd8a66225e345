"""Sequences of different lengths on disk, one after the other: written as they come, read when they are wanted."""

import contextlib
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from explainft.core.errors import UserError

SHARD_TOKENS = 2**26  # in a file, at most: 256 MB


class Ragged:
    """What `writer` has written: sequence i is tokens starts[i] ... starts[i + 1] - 1 of all, int32."""

    def __init__(self, folder: Path, name: str):
        self._folder = folder
        self.starts = np.asarray(np.memmap(folder / f"{name}.starts", "<i8", "r"))  # plain arrays are faster
        # Read, not mapped: a process that maps them seems to grow by every page that it has seen.
        self._shards = [os.open(path, os.O_RDONLY) for path in sorted(folder.glob(f"{name}-*.tokens"))]
        for shard in self._shards:
            weakref.finalize(self, os.close, shard)
        self._shard_starts = np.cumsum([0, *(os.fstat(shard).st_size // 4 for shard in self._shards)])

    @property
    def lengths(self) -> np.ndarray:
        """Of all sequences: an array that is made for the asking, and not kept."""
        return np.diff(self.starts).astype(np.int32)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.take(np.array([i]))[0]

    def take(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of these sequences, one after the other, and the length of each."""
        starts = self.starts[which]
        lengths = self.starts[which + 1] - starts
        shard_of = np.searchsorted(self._shard_starts, starts, side="right") - 1
        places = zip(shard_of.tolist(), (4 * (starts - self._shard_starts[shard_of])).tolist(), strict=True)
        sizes = (4 * lengths).tolist()
        read = b"".join(
            [os.pread(self._shards[shard], n, at) for (shard, at), n in zip(places, sizes, strict=True) if n]
        )
        if len(read) < sum(sizes):
            raise UserError(
                f"the token cache {self._folder} was cut off while it was read; delete it: it is made again"
            )
        return np.frombuffer(read, "<i4"), lengths


@contextlib.contextmanager
def writer(folder: Path, name: str) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """Yields a function that adds sequences, given their tokens and lengths, to one of the files

    `<name>-00000.tokens`, `<name>-00001.tokens` ..., and where each begins to `<name>.starts`.
    """
    n_tokens = n_shards = room = 0
    with open(folder / f"{name}.starts", "wb") as starts, contextlib.ExitStack() as open_shard:
        shard = None

        def write(tokens: np.ndarray, lengths: np.ndarray) -> None:
            nonlocal n_tokens, n_shards, room, shard
            if shard is None or len(tokens) > room:
                open_shard.close()
                shard = open_shard.enter_context(open(folder / f"{name}-{n_shards:05d}.tokens", "wb"))
                n_shards, room = n_shards + 1, SHARD_TOKENS
            shard.write(tokens.astype("<i4").tobytes())
            starts.write((n_tokens + np.cumsum(lengths)).astype("<i8").tobytes())
            n_tokens += len(tokens)
            room -= len(tokens)

        starts.write(np.zeros(1, "<i8").tobytes())
        yield write
