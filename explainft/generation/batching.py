"""Sequences of any lengths through a decoder of fixed shapes.

Dimensions in names: B inputs, S their length, R rows, T length of the outputs.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.process_pool import available_cores, map_in_order
from explainft.parallel import sharding

MIN_ROWS = 16  # a step of half as many takes nearly as long: it reads every kernel
CONCURRENT_BATCHES = 2  # on one CPU: XLA computes much of a step, all of its attention, on one core

Decoded = TypeVar("Decoded")
# From the token ids [B, S] and the places of the inputs [B]: one result a row. Rows beyond the inputs hold padding.
DecodeBatch = Callable[[jax.Array, np.ndarray], Sequence[Decoded]]


def decode_in_batches(
    decode_batch: DecodeBatch[Decoded],
    params: Any,
    inputs: Sequence[Sequence[int] | np.ndarray],
    batch_size: int,
    progress: Callable[[int], object] | None = None,
) -> list[Decoded]:
    """Returns the result of each input in order. `progress` is called with the number of examples just decoded.

    On one CPU, inputs that would fit into fewer batches are split between those that are decoded concurrently, unless
    they are few: a power of two to each, so that few shapes compile here too.
    """
    concurrent = _concurrent_batches(params)
    if concurrent > 1 and inputs:
        kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
        if len(inputs) <= min(batch_size, MIN_ROWS) and all(k.dtype == jnp.float32 for k in kernels):
            concurrent = 1  # each batch reads every kernel; in float32 they are largest
        per_batch = -(-len(inputs) // concurrent)
        batch_size = min(batch_size, max(MIN_ROWS // 2, 1 << (per_batch - 1).bit_length()))
    batches = plan_batches(inputs, batch_size)
    outputs: dict[int, Decoded] = {}
    for places, decoded in zip(batches, decode_batches(decode_batch, params, inputs, batches, batch_size), strict=True):
        outputs |= zip(places, decoded, strict=True)
        if progress:
            progress(len(places))
    return [outputs[i] for i in range(len(inputs))]


def plan_batches(inputs: Sequence[Sequence[int] | np.ndarray], batch_size: int) -> list[list[int]]:
    """Returns the places of the inputs of each batch, by their length: rows that end early share a batch."""
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def decode_batches(
    decode_batch: DecodeBatch[Decoded],
    params: Any,
    inputs: Sequence[Sequence[int] | np.ndarray],
    batches: Sequence[Sequence[int]],
    batch_size: int,
) -> Generator[list[Decoded]]:
    """Yields the results of each batch, in order. On one CPU several are decoded concurrently.

    Inputs are padded to the next multiple of 16, and batches to `batch_size`: few shapes compile.
    """

    def decode(places: Sequence[int]) -> list[Decoded]:
        width = -(-max(len(inputs[i]) for i in places) // 16) * 16
        batch_BS = np.zeros((batch_size, width), np.int32)
        inputs_B = np.zeros(batch_size, np.int32)
        for r, i in enumerate(places):
            batch_BS[r, : len(inputs[i])] = inputs[i]
            inputs_B[r] = i
        return list(decode_batch(sharding.put_rows_like(params, batch_BS), inputs_B)[: len(places)])

    concurrent = _concurrent_batches(params)
    if concurrent == 1 or len(batches) == 1:
        yield from map(decode, batches)
        return
    with ThreadPoolExecutor(concurrent) as pool:
        yield from map_in_order(pool, concurrent - 1, decode, batches)


def _concurrent_batches(params: Any) -> int:
    return min(CONCURRENT_BATCHES, available_cores()) if sharding.on_one_cpu(params) else 1
