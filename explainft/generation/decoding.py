"""Decoding with a cache: greedy, or several samples of each input.

Dimensions in names: B inputs, S their length, R rows (outputs), T their length, V vocabulary, G groups of N rows.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.errors import UserError, require_at_least_zero, require_positive
from explainft.data.vocabulary import EOS_ID
from explainft.generation.batching import MIN_ROWS, decode_in_batches
from explainft.generation.sampling import TokenFilter, argmax, sample_token
from explainft.model import decoder
from explainft.model.decoder import Cache
from explainft.model.t5 import T5
from explainft.parallel import hosts

INITIAL_CACHE_CAPACITY = 32  # tokens; it doubles when it is full

Tokens = Sequence[int] | np.ndarray


class DecodeState(NamedTuple):
    """R rows, the samples of an input side by side; the next token of each is written at `position`."""

    position: jax.Array
    token_R: jax.Array  # the last ones
    tokens_RT: jax.Array  # zeros after EOS
    ended_R: jax.Array
    key_R: jax.Array | None  # of sampling
    cache: Cache


@functools.partial(jax.jit, static_argnums=(0, 3))
def greedy(model: T5, params, encoder_input_tokens: jax.Array, length: int) -> jax.Array:
    """Decodes greedily in one program, until every row has EOS or `length` tokens.

    Takes int32 inputs [B, S], zero-padded; returns int32 [B, length]: the tokens with their EOS, and zeros after it.
    """
    state = prefill(model, params, encoder_input_tokens, length, length)
    return decode_loop(model, params, state, None, 1.0, 1, 0).tokens_RT


def prefill(
    model: T5,
    params,
    encoder_input_tokens: jax.Array,
    length: int,
    cache_capacity: int,
    num_samples: int = 1,
    key: jax.Array | None = None,
    example_ids_B: jax.typing.ArrayLike = 0,
) -> DecodeState:
    """Encodes inputs [B, S] for `num_samples` outputs of each, of up to `length` tokens.

    The key and the example id alone decide the samples of an input, whatever its batch.
    """
    cache: Any = model.apply(
        {"params": params}, encoder_input_tokens, length, num_samples, cache_capacity, method=T5.init_cache
    )
    # Rows of padding alone fill up the last batch.
    padding_R = jnp.repeat(~jnp.any(encoder_input_tokens > 0, axis=1), num_samples)
    R = len(padding_R)
    key_R = None
    if key is not None:
        sample_R = jnp.tile(jnp.arange(num_samples), R // num_samples)
        fold_R = jnp.repeat(example_ids_B, num_samples) * num_samples + sample_R
        key_R = jax.vmap(jax.random.fold_in, (None, 0))(key, fold_R)
    no_tokens_RT = jnp.zeros((R, length), jnp.int32)
    return DecodeState(jnp.int32(0), jnp.zeros(R, jnp.int32), no_tokens_RT, padding_R, key_R, cache)


def decode_loop(
    model: T5,
    params,
    state: DecodeState,
    token_filter: TokenFilter | None,
    temperature: jax.typing.ArrayLike,
    groups: int,
    max_unfinished: jax.typing.ArrayLike,
) -> DecodeState:
    """Decodes until the cache is full or no group of neighbouring rows has more than `max_unfinished` without EOS.

    Greedily where `token_filter` is None.
    """
    end = min(decoder.cache_capacity(state.cache), state.tokens_RT.shape[1])
    output_ids = params.get("output", {}).get("token_ids")  # see quantization.decode_parameters

    def unfinished(state: DecodeState) -> jax.Array:
        return (state.position < end) & (_unfinished(state, groups) > max_unfinished)

    def step(state: DecodeState) -> DecodeState:
        position = state.position
        logits_RV, cache = model.apply({"params": params}, state.token_R, state.cache, position, method=T5.decode_step)
        if token_filter is None:
            token_R = argmax(logits_RV)
        else:
            uniform_R = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, position)))(state.key_R)
            token_R = sample_token(logits_RV, uniform_R, token_filter.top_k, token_filter.top_p, temperature)
        token_R = jnp.where(state.ended_R, 0, token_R if output_ids is None else output_ids[token_R])
        tokens_RT = jax.lax.dynamic_update_slice_in_dim(state.tokens_RT, token_R[:, None], position, axis=1)
        ended_R = state.ended_R | (token_R == EOS_ID)
        return state._replace(position=position + 1, token_R=token_R, tokens_RT=tokens_RT, ended_R=ended_R, cache=cache)

    return jax.lax.while_loop(unfinished, step, state)


def _unfinished(state: DecodeState, groups: int) -> jax.Array:
    """Returns the number of rows without EOS, in the group that has most of them."""
    return jnp.max(jnp.sum(~state.ended_R.reshape(groups, -1), axis=1))


def compact_rows(state: DecodeState, rows: jax.Array) -> DecodeState:
    """Returns the state of these rows alone."""
    per_row = {name: leaf for name, leaf in state._asdict().items() if name.endswith("_R") or name == "tokens_RT"}
    kept = jax.tree.map(lambda leaf: decoder.take_rows(leaf, rows), per_row)
    return state._replace(**kept, cache=decoder.take_cache_rows(state.cache, rows))


def grow_cache(state: DecodeState, capacity: int) -> DecodeState:
    return state._replace(cache=decoder.grow_cache(state.cache, capacity))


_prefill_jit = jax.jit(prefill, static_argnums=(0, 3, 4, 5))
_decode_loop_jit = jax.jit(decode_loop, static_argnums=(0, 3, 5), donate_argnums=2)
_compact_rows_jit = jax.jit(compact_rows)
_grow_cache_jit = jax.jit(grow_cache, static_argnums=1)


def generate_batch(
    model: T5,
    params,
    encoder_input_tokens: jax.Array,
    length: int,
    num_samples: int = 1,
    key: jax.Array | None = None,
    example_ids_B: np.ndarray | None = None,
    token_filter: TokenFilter | None = None,
    temperature: float = 1.0,
) -> np.ndarray:
    """Returns int32 [R, length]: R = B x num_samples outputs, those of an input side by side; see `prefill`.

    The cache doubles when it is full, and rows with EOS are dropped when they are half of all: a step reads at most
    twice the positions and computes at most twice the rows that it must. On several devices all rows stay, because
    dropping some would exchange rows between devices.
    """
    one_device = len(encoder_input_tokens.devices()) == 1
    capacity = min(INITIAL_CACHE_CAPACITY, length) if one_device else length
    state = _prefill_jit(model, params, encoder_input_tokens, length, capacity, num_samples, key, example_ids_B)
    R = len(state.ended_R)
    # The samples of an input share its encoding: as many of each must stay.
    groups = 1 if num_samples == 1 else R // num_samples
    rows = np.arange(R)
    tokens_RT = np.zeros((R, length), np.int32)
    while True:
        half = len(rows) // groups // 2
        max_unfinished = half if one_device and half * groups >= MIN_ROWS else 0
        state = _decode_loop_jit(model, params, state, token_filter, temperature, groups, max_unfinished)
        if not one_device:
            return hosts.whole(state.tokens_RT)
        ended_GN = np.asarray(state.ended_R).reshape(groups, -1)
        if ended_GN.all() or state.position >= length:
            tokens_RT[rows] = state.tokens_RT
            return tokens_RT
        if (~ended_GN).sum(axis=1).max() <= max_unfinished:
            tokens_RT[rows] = state.tokens_RT
            kept_GN = np.argsort(ended_GN, axis=1, kind="stable")[:, :half]
            kept = (kept_GN + np.arange(groups)[:, None] * ended_GN.shape[1]).reshape(-1)
            rows, state = rows[kept], _compact_rows_jit(state, kept)
        if state.position >= decoder.cache_capacity(state.cache):
            state = _grow_cache_jit(state, min(2 * decoder.cache_capacity(state.cache), length))


def generate(
    model: T5,
    params,
    inputs: Sequence[Tokens],
    length: int,
    batch_size: int,
    progress: Callable[[int], object] | None = None,
) -> list[list[int]]:
    """Decodes token sequences of any lengths greedily, in their order; EOS and what follows are dropped.

    `progress`, where given, is called with the number of examples just decoded.
    """

    def decode_batch(batch_BS: jax.Array, index_B: np.ndarray) -> np.ndarray:
        return generate_batch(model, params, batch_BS, length)

    return [outputs[0] for outputs in decode_in_batches(decode_batch, params, inputs, batch_size, 1, progress)]


def sample(
    model: T5,
    params,
    inputs: Sequence[Tokens],
    length: int,
    batch_size: int,
    num_samples: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
    example_ids: Sequence[int] | None = None,
) -> list[list[list[int]]]:
    """Returns `num_samples` outputs of each input, sampled as `sample_token` does.

    Each input is encoded once. About `batch_size` outputs are decoded at a time. Samples depend on the seed, the
    example id (by default the input's place; below 2**31 / num_samples) and the sample's index alone. Raises UserError
    for settings out of range.
    """
    require_positive(num_samples=num_samples)
    require_at_least_zero(top_k=top_k)
    if not temperature > 0 or not 0 < top_p <= 1:
        raise UserError(
            f"temperature={temperature} must be above 0, top_p={top_p} above 0 and at most 1; for temperature 0 decode "
            "greedily"
        )
    key = jax.random.key(seed)
    token_filter = TokenFilter(top_k, top_p)
    id_of = np.array(range(len(inputs)) if example_ids is None else example_ids, np.int32)

    def decode_batch(batch_BS: jax.Array, index_B: np.ndarray) -> np.ndarray:
        return generate_batch(
            model, params, batch_BS, length, num_samples, key, id_of[index_B], token_filter, temperature
        )

    inputs_per_batch = max(1, batch_size // num_samples)
    return decode_in_batches(decode_batch, params, inputs, inputs_per_batch, num_samples, progress)
