"""The rows that are decoded together: which sizes are compiled, and who owns which row.

Only the thread of the engine uses a `Batch`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import jax.numpy as jnp
import numpy as np

from explainft.generation import continuous
from explainft.generation.continuous import Rows, Sizes, Tokens
from explainft.model.t5 import T5

MIN_ROWS = 4
MIN_INPUT_LENGTH = 32
Owner = TypeVar("Owner")


@dataclasses.dataclass(frozen=True)
class Limits:
    """How many rows are decoded at once, and the longest input and output in tokens.

    `usual`: the lengths of most inputs and outputs. As long as all rows have at most those, the cache is smaller.
    """

    rows: int
    input_length: int
    output_length: int
    usual: tuple[int, int]

    def lengths(self) -> list[tuple[int, int]]:
        """Returns the lengths of inputs and outputs that are compiled, ascending."""
        inputs = self.padded(min(self.usual[0], self.input_length))
        outputs = min(-(-self.usual[1] // 16) * 16, self.output_length)
        return sorted({(inputs, outputs), (self.input_length, self.output_length)})

    def input_lengths(self) -> list[int]:
        """Returns the lengths to which inputs are padded, ascending: each twice the one before."""
        lengths = [MIN_INPUT_LENGTH]
        while lengths[-1] < self.input_length:
            lengths.append(2 * lengths[-1])
        return [*lengths[:-1], self.input_length]

    def padded(self, length: int) -> int:
        """Returns the length to which an input of this length is padded."""
        return next(n for n in self.input_lengths() if n >= length)

    def row_counts(self) -> list[int]:
        return sorted({1, max(min(MIN_ROWS, self.rows), self.rows // 4), self.rows})

    def sizes(self) -> list[Sizes]:
        """Returns all sizes of the cache that are compiled."""
        return [Sizes(rows, *lengths) for rows in self.row_counts() for lengths in self.lengths()]


@dataclasses.dataclass
class Row(Generic[Owner]):
    """An output that is being decoded. `position` counts its tokens so far."""

    owner: Owner
    input_length: int
    temperature: float
    top_p: float
    seed: int
    index: int
    token: int = 0
    position: int = 0


class Batch(Generic[Owner]):
    """The rows in use and their cache; a row's place changes when the cache is resized."""

    def __init__(self, model: T5, params: Any, limits: Limits):
        self.limits = limits
        self._model, self._params = model, params
        self._cache: Any = None
        self._places: list[Row[Owner] | None] = []

    @property
    def rows(self) -> list[Row[Owner]]:
        return [row for row in self._places if row is not None]

    @property
    def free(self) -> int:
        """The number of rows that may still be added."""
        return self.limits.rows - len(self.rows)

    def num_programs(self) -> int:
        """Returns how many programs `warm_up` compiles."""
        sizes, lengths = self.limits.sizes(), self.limits.input_lengths()
        inserts = sum(length <= size.input_length for size in sizes for length in lengths)
        return len(lengths) + inserts + len(sizes) ** 2  # a step, and the ways to the other sizes

    def warm_up(self, progress: Callable[[], object]) -> None:
        """Compiles every program that requests can need; `progress` is called after each."""
        prefixes = {}
        for length in self.limits.input_lengths():
            prefixes[length] = self.encode([1], length)
            progress()
        sizes = self.limits.sizes()
        for size in sizes:
            cache = continuous.empty_cache(prefixes[size.input_length], size)
            for length, prefix in prefixes.items():
                if length <= size.input_length:
                    cache = continuous.insert_jit(cache, prefix, np.int32(0))
                    progress()
            cache, tokens = continuous.step_jit(
                self._model, self._params, cache, Rows.unused(size.rows), np.bool_(False)
            )
            np.asarray(tokens.token_R)
            progress()
            for other in sizes:
                if other != size:
                    self._resized(cache, [], other)
                    progress()

    def encode(self, ids: Sequence[int], length: int | None = None) -> Any:
        """Returns what `add` needs of an input; `length` is one of those that are compiled (None: the shortest)."""
        length = length or self.limits.padded(len(ids))
        padded_1S = np.zeros((1, length), np.int32)
        padded_1S[0, : len(ids)] = ids
        return continuous.prefill_jit(self._model, self._params, padded_1S, self.limits.output_length)

    def add(self, additions: Sequence[tuple[Row[Owner], Any]]) -> None:
        """Adds rows with their encoded inputs, at most as many as are free."""
        if self._cache is None and additions:
            self._cache = continuous.empty_cache(additions[0][1], self.limits.sizes()[0])
            self._places = [None] * self.limits.sizes()[0].rows
        self.fit([row for row, _ in additions])
        for row, prefix in additions:
            place = self._places.index(None)
            self._cache = continuous.insert_jit(self._cache, prefix, np.int32(place))
            self._places[place] = row

    def remove(self, row: Row[Owner]) -> None:
        self._places[self._places.index(row)] = None

    def clear(self) -> None:
        """Drops all rows and the cache, as after a failed step, which leaves none."""
        self._cache, self._places = None, []

    def step(self, logprobs: bool) -> tuple[list[tuple[int, Row[Owner]]], Tokens]:
        """Adds a token to each row. Returns the rows by their places in the tokens."""
        self.fit([])
        inputs = Rows.unused(len(self._places))
        placed = [(place, row) for place, row in enumerate(self._places) if row is not None]
        for place, row in placed:
            inputs.token_R[place], inputs.position_R[place] = row.token, row.position
            inputs.temperature_R[place], inputs.top_p_R[place] = row.temperature, row.top_p
            inputs.seed_R2[place] = row.seed >> 32, row.seed & 0xFFFFFFFF
            inputs.index_R[place] = row.index
        self._cache, tokens = continuous.step_jit(self._model, self._params, self._cache, inputs, np.bool_(logprobs))
        tokens = Tokens(*map(np.asarray, tokens))
        for place, row in placed:
            row.token, row.position = int(tokens.token_R[place]), row.position + 1
        return placed, tokens

    def fit(self, added: Sequence[Row[Owner]]) -> None:
        """Resizes the cache to the smallest sizes for its rows and `added`.

        It gets fewer rows only where at most half of those are in use: the next request would undo it.
        """
        rows = [*self.rows, *added]
        now = continuous.cache_sizes(self._cache)
        counts = self.limits.row_counts()
        count = next(n for n in counts if n >= len(rows))
        if count < now.rows and len(rows) > count // 2:
            count = now.rows
        longest = max((row.input_length for row in rows), default=0), max((row.position for row in rows), default=0)
        lengths = next(
            (inputs, outputs)
            for inputs, outputs in self.limits.lengths()
            if longest[0] <= inputs and longest[1] < outputs
        )
        sizes = Sizes(count, *lengths)
        if sizes != now:
            used = [place for place, row in enumerate(self._places) if row is not None]
            self._cache = self._resized(self._cache, used, sizes)
            self._places = [self._places[place] for place in used] + [None] * (sizes.rows - len(used))

    def _resized(self, cache: Any, places: Sequence[int], sizes: Sizes) -> Any:
        rows_R = np.zeros(sizes.rows, np.int32)
        rows_R[: len(places)] = places
        return continuous.resize_jit(cache, jnp.asarray(rows_R), sizes.input_length, sizes.capacity)
