"""Sequences of different lengths on disk: concatenated tokens, read on demand."""

import contextlib
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from explainft.core.errors import UserError

SHARD_TOKENS = 2**26  # max tokens of a file: 256 MB


class Ragged:
    """The sequences that `writer` wrote. Sequence i is tokens starts[i] ... starts[i + 1] - 1 of all, int32."""

    def __init__(self, directory: Path, name: str):
        self._directory = directory
        self.starts = np.asarray(np.memmap(directory / f"{name}.starts", "<i8", "r"))  # faster to index than np.memmap
        # Read, not mapped: mapped pages would count as memory of the process.
        self._shards = [os.open(path, os.O_RDONLY) for path in sorted(directory.glob(f"{name}-*.tokens"))]
        for shard in self._shards:
            weakref.finalize(self, os.close, shard)
        self._shard_starts = np.cumsum([0, *(os.fstat(shard).st_size // 4 for shard in self._shards)])

    @property
    def lengths(self) -> np.ndarray:
        """The lengths of all sequences, int32; computed at each call."""
        return np.diff(self.starts).astype(np.int32)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.take(np.array([i]))[0]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the concatenated tokens of the sequences, and the length of each. Raises UserError for a cut file."""
        starts = self.starts[indices]
        lengths = self.starts[indices + 1] - starts
        shard_of = np.searchsorted(self._shard_starts, starts, side="right") - 1
        locations = zip(shard_of.tolist(), (4 * (starts - self._shard_starts[shard_of])).tolist(), strict=True)
        sizes = (4 * lengths).tolist()
        read = b"".join(
            [os.pread(self._shards[shard], n, at) for (shard, at), n in zip(locations, sizes, strict=True) if n]
        )
        if len(read) < sum(sizes):
            raise UserError(
                f"the token cache {self._directory} was truncated while it was read; delete it and rerun the command"
            )
        return np.frombuffer(read, "<i4"), lengths


@contextlib.contextmanager
def writer(directory: Path, name: str) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """Yields a function that appends sequences, given their concatenated tokens and their lengths.

    The tokens go to `<name>-00000.tokens`, `<name>-00001.tokens` ..., the starts of sequences to `<name>.starts`.
    """
    n_tokens = n_shards = room = 0
    with open(directory / f"{name}.starts", "wb") as starts, contextlib.ExitStack() as open_shard:
        shard = None

        def write(tokens: np.ndarray, lengths: np.ndarray) -> None:
            nonlocal n_tokens, n_shards, room, shard
            if shard is None or len(tokens) > room:
                open_shard.close()
                shard = open_shard.enter_context(open(directory / f"{name}-{n_shards:05d}.tokens", "wb"))
                n_shards, room = n_shards + 1, SHARD_TOKENS
            shard.write(tokens.astype("<i4").tobytes())
            starts.write((n_tokens + np.cumsum(lengths)).astype("<i8").tobytes())
            n_tokens += len(tokens)
            room -= len(tokens)

        starts.write(np.zeros(1, "<i8").tobytes())
        yield write
