"""Greedy decoding with a cache: one jitted loop that stops when every row has ended."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from explainft import hosts, sharding
from explainft.t5 import T5, T5Config
from explainft.vocabulary import EOS_ID


@functools.partial(jax.jit, static_argnums=(0, 3))
def greedy(config: T5Config, params, encoder_input_tokens: jax.Array, length: int) -> jax.Array:
    """The likeliest token at each step, until every row has written EOS or `length` tokens.

    Takes int32 inputs [B, S], zero-padded; returns int32 [B, length]: the tokens with their EOS, and zeros after it.
    """
    model = T5(config)
    variables = {"params": params}
    B = encoder_input_tokens.shape[0]
    cache = model.apply(variables, encoder_input_tokens, length, method=T5.init_cache)

    def unfinished(state):
        position, _, _, ended_B, _ = state
        return (position < length) & ~jnp.all(ended_B)

    def step(state):
        position, token_B, output_BT, ended_B, cache = state
        logits_BV, cache = model.apply(variables, token_B, cache, position, method=T5.decode_step)
        token_B = jnp.where(ended_B, 0, jnp.argmax(logits_BV, axis=-1).astype(jnp.int32))
        output_BT = jax.lax.dynamic_update_slice_in_dim(output_BT, token_B[:, None], position, axis=1)
        return position + 1, token_B, output_BT, ended_B | (token_B == EOS_ID), cache

    # A row of padding alone fills up the last batch: it has nothing to say.
    empty_B = ~jnp.any(encoder_input_tokens > 0, axis=1)
    state = (jnp.int32(0), jnp.zeros(B, jnp.int32), jnp.zeros((B, length), jnp.int32), empty_B, cache)
    return jax.lax.while_loop(unfinished, step, state)[2]


def generate(
    config: T5Config, params, inputs: Sequence[Sequence[int] | np.ndarray], length: int, batch_size: int, progress=None
) -> list[list[int]]:
    """Decodes token sequences of any lengths, in their order; EOS and what follows are dropped.

    Inputs are sorted by length and padded to the next multiple of 16, so that rows that end early share a batch and few
    shapes compile. `progress`, where given, is called with the number of examples just decoded.
    """
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
    outputs: list[list[int]] = [[] for _ in inputs]
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        width = -(-max(len(inputs[i]) for i in rows) // 16) * 16
        batch_BS = np.zeros((batch_size, width), np.int32)
        for r, i in enumerate(rows):
            batch_BS[r, : len(inputs[i])] = inputs[i]
        decoded_BT = hosts.whole(greedy(config, params, sharding.put_rows_like(params, batch_BS), length))
        for r, i in enumerate(rows):
            ids = decoded_BT[r].tolist()
            outputs[i] = ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids
        if progress:
            progress(len(rows))
    return outputs
