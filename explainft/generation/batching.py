"""Sequences of any lengths through a decoder of fixed shapes.

Dimensions in names: B inputs, S their length, R rows, T length of the outputs.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.process_pool import available_cores, map_in_order
from explainft.data.vocabulary import EOS_ID
from explainft.parallel import sharding

MIN_ROWS = 16  # a step of half as many takes nearly as long: it reads every kernel
CONCURRENT_BATCHES = 2  # on one CPU: XLA computes much of a step, all of its attention, on one core

DecodeBatch = Callable[[jax.Array, np.ndarray], np.ndarray]


def decode_in_batches(
    decode_batch: DecodeBatch,
    params: Any,
    inputs: Sequence[Sequence[int] | np.ndarray],
    batch_size: int,
    num_samples: int = 1,
    progress: Callable[[int], object] | None = None,
) -> list[list[list[int]]]:
    """Returns the `num_samples` outputs of each input in order; EOS and what follows are dropped.

    `decode_batch(batch_BS, index_B)` returns int32 [B x num_samples, T]; `index_B` are the indices of the inputs.
    `progress` is called with the number of examples just decoded.

    Inputs are sorted by length and padded to the next multiple of 16: rows that end early share a batch, and few shapes
    compile. On one CPU several batches are decoded concurrently, and inputs that would fit into fewer are split between
    them, unless they are few: a power of two to each, so that few shapes compile here too.
    """
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
    concurrent = min(CONCURRENT_BATCHES, available_cores()) if sharding.on_one_cpu(params) else 1
    if concurrent > 1 and inputs:
        kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
        if len(inputs) <= min(batch_size, MIN_ROWS // num_samples) and all(k.dtype == jnp.float32 for k in kernels):
            concurrent = 1  # each batch reads every kernel; in float32 they are largest
        per_batch = -(-len(inputs) // concurrent)
        batch_size = min(batch_size, max(MIN_ROWS // 2 // num_samples, 1 << (per_batch - 1).bit_length()))

    def decode_rows(rows: list[int]) -> list[list[list[int]]]:
        width = -(-max(len(inputs[i]) for i in rows) // 16) * 16
        batch_BS = np.zeros((batch_size, width), np.int32)
        index_B = np.zeros(batch_size, np.int32)
        for r, i in enumerate(rows):
            batch_BS[r, : len(inputs[i])] = inputs[i]
            index_B[r] = i
        tokens_RT = decode_batch(sharding.put_rows_like(params, batch_BS), index_B)
        return tokens_RT.reshape(batch_size, -1, tokens_RT.shape[-1])[: len(rows)].tolist()

    outputs: list[list[list[int]]] = [[] for _ in inputs]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    with contextlib.ExitStack() as stack:
        run: Callable = map
        if concurrent > 1:
            run = functools.partial(map_in_order, stack.enter_context(ThreadPoolExecutor(concurrent)), concurrent - 1)
        for rows, decoded in zip(batches, run(decode_rows, batches), strict=True):
            for i, samples in zip(rows, decoded, strict=True):
                outputs[i] = [ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids for ids in samples]
            if progress:
                progress(len(rows))
    return outputs
