"""Decoding with a cache: one jitted loop that stops when every row has ended. Greedy, or many samples of each input."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from explainft import hosts, sharding
from explainft.errors import UserError, require_at_least_zero, require_positive
from explainft.t5 import T5, T5Config
from explainft.vocabulary import EOS_ID


@functools.partial(jax.jit, static_argnums=(0, 3))
def greedy(config: T5Config, params, encoder_input_tokens: jax.Array, length: int) -> jax.Array:
    """The likeliest token at each step, until every row has written EOS or `length` tokens.

    Takes int32 inputs [B, S], zero-padded; returns int32 [B, length]: the tokens with their EOS, and zeros after it.
    """
    return _write(config, params, encoder_input_tokens, length, 1, lambda logits_BV, _: likeliest(logits_BV))


@functools.partial(jax.jit, static_argnames=("config", "length", "num_samples", "top_k", "top_p"))
def sampled(
    config: T5Config,
    params,
    encoder_input_tokens: jax.Array,
    length: int,
    key: jax.Array,
    numbers_B: jax.Array,
    num_samples: int,
    top_k: int,
    top_p: float,
    temperature: jax.typing.ArrayLike = 1.0,
) -> jax.Array:
    """`num_samples` texts of each row, int32 [B, num_samples, length] as `greedy` has them; see `sample`.

    `numbers_B` tell inputs apart: with the same key and number an input's samples are the same in any batch.
    """
    number_of = jnp.repeat(numbers_B, num_samples) * num_samples + jnp.tile(jnp.arange(num_samples), len(numbers_B))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, number_of)

    def choose(logits_RV: jax.Array, position: jax.Array) -> jax.Array:
        uniform_R = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, position)))(keys)
        return drawn(logits_RV / temperature, uniform_R, top_k, top_p)

    written_RT = _write(config, params, encoder_input_tokens, length, num_samples, choose)
    return written_RT.reshape(-1, num_samples, length)


def _write(
    config: T5Config,
    params,
    encoder_input_tokens: jax.Array,
    length: int,
    copies: int,
    choose: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """`choose(logits_RV, position)` at each step, R = B x copies rows; the copies of an input share its encoding."""
    model = T5(config)
    variables = {"params": params}
    pieces = params.get("output", {}).get("pieces")  # see reduced.py

    def piece_of(column_R: jax.Array) -> jax.Array:
        return column_R if pieces is None else pieces[column_R]

    cache = model.apply(variables, encoder_input_tokens, length, copies, method=T5.init_cache)

    def unfinished(state):
        position, _, _, ended_R, _ = state
        return (position < length) & ~jnp.all(ended_R)

    def step(state):
        position, token_R, output_RT, ended_R, cache = state
        logits_RV, cache = model.apply(variables, token_R, cache, position, method=T5.decode_step)
        token_R = jnp.where(ended_R, 0, piece_of(choose(logits_RV, position)))
        output_RT = jax.lax.dynamic_update_slice_in_dim(output_RT, token_R[:, None], position, axis=1)
        return position + 1, token_R, output_RT, ended_R | (token_R == EOS_ID), cache

    # A row of padding alone fills up the last batch: it has nothing to say.
    empty_R = jnp.repeat(~jnp.any(encoder_input_tokens > 0, axis=1), copies)
    R = len(empty_R)
    state = (jnp.int32(0), jnp.zeros(R, jnp.int32), jnp.zeros((R, length), jnp.int32), empty_R, cache)
    return jax.lax.while_loop(unfinished, step, state)[2]


def likeliest(logits_BV: jax.Array) -> jax.Array:
    """argmax, the first of equals, int32 [B]. XLA computes its own element by element on a CPU."""
    V = logits_BV.shape[-1]
    best_B1 = jnp.max(logits_BV, axis=-1, keepdims=True)
    return jnp.min(jnp.where(logits_BV == best_B1, jnp.arange(V, dtype=jnp.int32), V - 1), axis=-1)


def drawn(logits_BV: jax.Array, uniform_B: jax.Array, top_k: int, top_p: float) -> jax.Array:
    """A token for each row, int32 [B], from one uniform number each.

    Left are the `top_k` likeliest (0: all), and of these the fewest whose probabilities sum up to `top_p` (nucleus
    sampling, Holtzman et al. 2020).
    """
    V = logits_BV.shape[-1]
    k = min(top_k or V, V)
    if k == V and top_p == 1.0:  # no order is needed
        tokens_BV, kept_BV = None, jax.nn.softmax(logits_BV)
    else:
        best_BV, tokens_BV = jax.lax.top_k(logits_BV, k)
        kept_BV = jax.nn.softmax(best_BV)
        before_BV = jnp.cumsum(kept_BV, axis=-1) - kept_BV
        kept_BV = jnp.where(before_BV < top_p, kept_BV, 0.0)
    # XLA sums in a tree, in which rounding may let a later sum fall behind an earlier one.
    total_BV = jax.lax.cummax(jnp.cumsum(kept_BV, axis=-1), axis=1)
    place_B = jnp.sum(total_BV <= uniform_B[:, None] * total_BV[:, -1:], axis=-1)
    # Rounding may leave a number beyond the last sum.
    place_B = jnp.minimum(place_B, jnp.sum(kept_BV > 0, axis=-1) - 1 if tokens_BV is not None else V - 1)
    found_B = place_B if tokens_BV is None else jnp.take_along_axis(tokens_BV, place_B[:, None], axis=-1)[:, 0]
    return found_B.astype(jnp.int32)


def generate(
    config: T5Config, params, inputs: Sequence[Sequence[int] | np.ndarray], length: int, batch_size: int, progress=None
) -> list[list[int]]:
    """Decodes token sequences of any lengths greedily, in their order; EOS and what follows are dropped.

    `progress`, where given, is called with the number of examples just decoded.
    """

    def decode(batch_BS: jax.Array, numbers_B: np.ndarray) -> jax.Array:
        return greedy(config, params, batch_BS, length)[:, None]

    return [texts[0] for texts in _in_batches(decode, params, inputs, batch_size, progress)]


def sample(
    config: T5Config,
    params,
    inputs: Sequence[Sequence[int] | np.ndarray],
    length: int,
    batch_size: int,
    num_samples: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    progress=None,
) -> list[list[list[int]]]:
    """`num_samples` texts of each input, drawn from softmax(logits / temperature) as `drawn` restricts it.

    Each input is encoded once. About `batch_size` texts are written at a time; the seed alone decides which.
    """
    require_positive(num_samples=num_samples)
    require_at_least_zero(top_k=top_k)
    if not temperature > 0 or not 0 < top_p <= 1:
        raise UserError(
            f"temperature={temperature} must be above 0, top_p={top_p} above 0 and at most 1; of temperature 0 the "
            "greedy text is the limit"
        )
    key = jax.random.key(seed)

    def decode(batch_BS: jax.Array, numbers_B: np.ndarray) -> jax.Array:
        return sampled(config, params, batch_BS, length, key, numbers_B, num_samples, top_k, top_p, temperature)

    return _in_batches(decode, params, inputs, max(1, batch_size // num_samples), progress)


def _in_batches(
    decode: Callable[[jax.Array, np.ndarray], jax.Array],
    params,
    inputs: Sequence[Sequence[int] | np.ndarray],
    batch_size: int,
    progress: Callable[[int], object] | None,
) -> list[list[list[int]]]:
    """The texts of each input, from `decode(batch_BS, numbers_B)`, int32 [B, texts of each, T].

    Inputs are sorted by length and padded to the next multiple of 16, so that rows that end early share a batch and few
    shapes compile.
    """
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
    outputs: list[list[list[int]]] = [[] for _ in inputs]
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        width = -(-max(len(inputs[i]) for i in rows) // 16) * 16
        batch_BS = np.zeros((batch_size, width), np.int32)
        numbers_B = np.zeros(batch_size, np.int32)
        for r, i in enumerate(rows):
            batch_BS[r, : len(inputs[i])] = inputs[i]
            numbers_B[r] = i
        decoded = hosts.whole(decode(sharding.put_rows_like(params, batch_BS), numbers_B))
        for r, i in enumerate(rows):
            outputs[i] = [ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids for ids in decoded[r].tolist()]
        if progress:
            progress(len(rows))
    return outputs
