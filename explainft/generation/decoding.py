"""Decoding with a cache: greedy, or several samples of each input.

Dimensions in names: B inputs, S their length, R rows (outputs), T their length, V vocabulary, G groups of N rows.
"""

import functools
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.errors import require_positive
from explainft.data.vocabulary import EOS_ID
from explainft.generation import shared_prefixes
from explainft.generation.batching import MIN_ROWS, decode_batches, decode_in_batches, plan_batches
from explainft.generation.sampling import (
    SampleIds,
    SamplingConfig,
    TokenFilter,
    argmax,
    log_probability,
    sample_keys,
    sample_token,
)
from explainft.model import decoder
from explainft.model.decoder import Cache
from explainft.model.t5 import T5
from explainft.parallel import hosts, sharding

INITIAL_CACHE_CAPACITY = 32  # tokens; it doubles when it is full

Tokens = Sequence[int] | np.ndarray


class DecodeState(NamedTuple):
    """R rows, the samples of an input side by side; the next token of each is written at `position`."""

    position: jax.Array
    token_R: jax.Array  # the last ones
    tokens_RT: jax.Array  # zeros after EOS
    ended_R: jax.Array
    key_R: jax.Array | None  # of sampling
    logprob_R: jax.Array | None  # of sampling: the sum over the tokens of the model's own log-probabilities
    cache: Cache


class Sampled(NamedTuple):
    """The token ids of a sample before its EOS, and the model's own log-probability of them, EOS included.

    At temperature 1, with no token left out. `cut`: at the length limit, before EOS.
    """

    ids: list[int]
    logprob: float
    cut: bool

    @property
    def num_tokens(self) -> int:
        """The number of generated tokens, EOS included."""
        return len(self.ids) + (not self.cut)


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
    sample_ids: SampleIds | None = None,
) -> DecodeState:
    """Encodes inputs [B, S] for the samples of each (None: one output, greedy), of up to `length` tokens."""
    num_samples = 1 if sample_ids is None else len(sample_ids.indices_N)
    cache: Any = model.apply(
        {"params": params}, encoder_input_tokens, length, num_samples, cache_capacity, method=T5.init_cache
    )
    # Rows of padding alone fill up the last batch.
    padding_R = jnp.repeat(~jnp.any(encoder_input_tokens > 0, axis=1), num_samples)
    R = len(padding_R)
    key_R, logprob_R = None, None
    if sample_ids is not None:
        key_R, logprob_R = sample_keys(sample_ids).reshape(-1), jnp.zeros(R, jnp.float32)
    no_tokens_RT = jnp.zeros((R, length), jnp.int32)
    return DecodeState(jnp.int32(0), jnp.zeros(R, jnp.int32), no_tokens_RT, padding_R, key_R, logprob_R, cache)


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
        arguments = (state.token_R, state.cache, position)
        logits_RV, cache = cast(Any, model.apply({"params": params}, *arguments, method=T5.decode_step))
        logprob_R: Any = state.logprob_R
        if token_filter is None:
            token_R = argmax(logits_RV)
        else:
            uniform_R = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, position)))(state.key_R)
            token_R = sample_token(logits_RV, uniform_R, token_filter.top_k, token_filter.top_p, temperature)
            logprob_R += jnp.where(state.ended_R, 0.0, log_probability(logits_RV, token_R))
        token_R = jnp.where(state.ended_R, 0, token_R if output_ids is None else output_ids[token_R])
        tokens_RT = jax.lax.dynamic_update_slice_in_dim(state.tokens_RT, token_R[:, None], position, axis=1)
        ended_R = state.ended_R | (token_R == EOS_ID)
        return DecodeState(position + 1, token_R, tokens_RT, ended_R, state.key_R, logprob_R, cache)

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


_prefill_jit = jax.jit(prefill, static_argnums=(0, 3, 4))
_decode_loop_jit = jax.jit(decode_loop, static_argnums=(0, 3, 5), donate_argnums=2)
_compact_rows_jit = jax.jit(compact_rows)
_grow_cache_jit = jax.jit(grow_cache, static_argnums=1)


def generate_batch(
    model: T5,
    params,
    encoder_input_tokens: jax.Array,
    length: int,
    sample_ids: SampleIds | None = None,
    token_filter: TokenFilter | None = None,
    temperature: float = 1.0,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns tokens int32 [R, length], and of samples their logprob_R; those of an input are side by side.

    The cache doubles when it is full, and rows with EOS are dropped when they are half of all: a step reads at most
    twice the positions and computes at most twice the rows that it must. On several devices all rows stay, because
    dropping some would exchange rows between devices.
    """
    one_device = len(encoder_input_tokens.devices()) == 1
    capacity = min(INITIAL_CACHE_CAPACITY, length) if one_device else length
    state = _prefill_jit(model, params, encoder_input_tokens, length, capacity, sample_ids)
    R = len(state.ended_R)
    # The samples of an input share its encoding: as many of each must stay.
    groups = len(encoder_input_tokens) if len(encoder_input_tokens) < R else 1
    rows = np.arange(R)
    tokens_RT = np.zeros((R, length), np.int32)
    logprob_R = None if sample_ids is None else np.zeros(R, np.float32)
    while True:
        half = len(rows) // groups // 2
        max_unfinished = half if one_device and half * groups >= MIN_ROWS else 0
        state = _decode_loop_jit(model, params, state, token_filter, temperature, groups, max_unfinished)
        if not one_device:
            return hosts.whole(state.tokens_RT), None if state.logprob_R is None else hosts.whole(state.logprob_R)
        ended_GN = np.asarray(state.ended_R).reshape(groups, -1)
        complete = ended_GN.all() or state.position >= length
        drop = not complete and (~ended_GN).sum(axis=1).max() <= max_unfinished
        if complete or drop:
            tokens_RT[rows] = state.tokens_RT
            if logprob_R is not None:
                logprob_R[rows] = state.logprob_R
        if complete:
            return tokens_RT, logprob_R
        if drop:
            kept_GN = np.argsort(ended_GN, axis=1, kind="stable")[:, :half]
            kept = (kept_GN + np.arange(groups)[:, None] * ended_GN.shape[1]).reshape(-1)
            rows, state = rows[kept], _compact_rows_jit(state, kept)
        if state.position >= decoder.cache_capacity(state.cache):
            state = _grow_cache_jit(state, min(2 * decoder.cache_capacity(state.cache), length))


def _before_eos(tokens_T: np.ndarray) -> list[int]:
    ids = tokens_T.tolist()
    return ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids


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

    def decode_batch(batch_BS: jax.Array, inputs_B: np.ndarray) -> list[list[int]]:
        tokens_RT, _ = generate_batch(model, params, batch_BS, length)
        return [_before_eos(tokens_T) for tokens_T in tokens_RT]

    return decode_in_batches(decode_batch, params, inputs, batch_size, progress)


def sample_batches(
    model: T5,
    params,
    inputs: Sequence[Tokens],
    example_ids: Sequence[int],
    indices: range,
    length: int,
    batches: Sequence[Sequence[int]],
    inputs_per_batch: int,
    config: SamplingConfig,
) -> Generator[list[list[Sampled]]]:
    """Yields for each batch of inputs, by their places, the samples of each input with these indices.

    A sample depends on the seed, the example id (64 bits) and its index alone; its log-probability on them up to
    rounding. Each input is encoded once.
    """
    ids = np.array(example_ids, np.uint64)
    ids_I2 = np.stack([ids >> np.uint64(32), ids & np.uint64(0xFFFFFFFF)], axis=-1).astype(np.uint32)
    seed, indices_N = np.uint32(config.seed), np.array(indices, np.int32)
    share = sharding.on_one_cpu(params) and len(indices) > 1

    def decode_batch(batch_BS: jax.Array, inputs_B: np.ndarray) -> list[list[Sampled]]:
        sample_ids = SampleIds(np.asarray(seed), ids_I2[inputs_B], indices_N)
        arguments = (sample_ids, config.token_filter, config.temperature)
        decode = shared_prefixes.sample_batch if share else generate_batch
        tokens_RT, logprob_R = decode(model, params, batch_BS, length, *arguments)
        assert logprob_R is not None
        before = map(_before_eos, tokens_RT)
        rows = [Sampled(ids, float(lp), len(ids) == length) for ids, lp in zip(before, logprob_R, strict=True)]
        return [rows[i : i + len(indices)] for i in range(0, len(rows), len(indices))]

    return decode_batches(decode_batch, params, inputs, batches, inputs_per_batch)


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
    """Returns the token ids of `num_samples` outputs of each input, as `sample_batches` samples them.

    About `batch_size` outputs are decoded at a time. The example id is by default the input's place. Raises UserError
    for settings out of range.
    """
    require_positive(num_samples=num_samples)
    config = SamplingConfig(temperature, top_k, top_p, seed)
    ids = range(len(inputs)) if example_ids is None else example_ids
    inputs_per_batch = max(1, batch_size // num_samples)
    batches = plan_batches(inputs, inputs_per_batch)
    arguments = (range(num_samples), length, batches, inputs_per_batch, config)
    outputs: list[list[list[int]]] = [[] for _ in inputs]
    for places, decoded in zip(batches, sample_batches(model, params, inputs, ids, *arguments), strict=True):
        for i, samples in zip(places, decoded, strict=True):
            outputs[i] = [sampled.ids for sampled in samples]
        if progress:
            progress(len(places))
    return outputs
