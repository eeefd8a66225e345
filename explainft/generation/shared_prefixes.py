"""Samples of an input that share a row as long as their tokens are the same.

Samples of one input begin alike, and of a trained model they stay alike for long: equal prefixes have equal logits, so
one row computes them for all. Where samples choose different tokens, the row is forked: its keys and values are copied.

Dimensions in names: B inputs, S their length, M samples of all of them, R rows, T length of samples, V vocabulary.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from explainft.data.vocabulary import EOS_ID
from explainft.generation.batching import MIN_ROWS
from explainft.generation.sampling import SampleIds, TokenFilter, log_probability, sample_keys, sample_token
from explainft.model import decoder
from explainft.model.decoder import Cache
from explainft.model.layer_stack import NEG_INF
from explainft.model.t5 import T5

INITIAL_CACHE_CAPACITY = 32  # tokens; it grows by as many when it is full
WIDTH_MULTIPLE = 32  # of padded inputs: each width compiles a program for each number of rows


class SharedState(NamedTuple):
    """The next token of each sample is generated at `position`, from the logits of its row."""

    position: jax.Array
    input_R: jax.Array  # the place of a row's input
    token_R: jax.Array  # the last ones
    row_M: jax.Array
    token_M: jax.Array
    tokens_MT: jax.Array  # zeros after EOS
    ended_M: jax.Array
    key_M: jax.Array
    logprob_M: jax.Array
    needed: jax.Array  # the number of distinct prefixes: of rows that the next step needs
    source_bias_Q: jax.Array  # masks the padding of the Q = B x S positions of all inputs
    cache: Cache

    def live(self) -> jax.Array:
        """Returns the number of samples without EOS."""
        return jnp.sum(~self.ended_M)


def start(
    model: T5, params, encoder_input_tokens: jax.Array, length: int, rows: int, capacity: int, sample_ids: SampleIds
) -> SharedState:
    """Encodes inputs [B, S] for `rows` rows, at least as many; all samples of an input begin in one row.

    Rows move from an input to another. So the cross keys of all inputs stand in one sequence, of which a row attends to
    the part of its own input; this costs less than to keep as many rows of each input.
    """
    B, S = encoder_input_tokens.shape
    M = B * len(sample_ids.indices_N)
    cache: Any = model.apply({"params": params}, encoder_input_tokens, length, 1, capacity, method=T5.init_cache)
    more = ((0, rows - B), (0, 0), (0, 0), (0, 0))
    input_M = jnp.repeat(jnp.arange(B), M // B)
    return SharedState(
        position=jnp.int32(0),
        input_R=jnp.minimum(jnp.arange(rows), B - 1),
        token_R=jnp.zeros(rows, jnp.int32),
        row_M=input_M,
        token_M=jnp.zeros(M, jnp.int32),
        tokens_MT=jnp.zeros((M, length), jnp.int32),
        ended_M=~jnp.any(encoder_input_tokens > 0, axis=1)[input_M],  # of padding
        key_M=sample_keys(sample_ids).reshape(-1),
        logprob_M=jnp.zeros(M, jnp.float32),
        needed=jnp.int32(B),
        source_bias_Q=cache["cross_bias"].reshape(-1),
        cache={
            **cache,
            "self": jax.tree.map(lambda leaf: jnp.pad(leaf, more), cache["self"]),
            "cross": jax.tree.map(_one_sequence, cache["cross"]),
        },
    )


def _one_sequence(x_BHSK: jax.Array) -> jax.Array:
    B, H, S, K = x_BHSK.shape
    return x_BHSK.swapaxes(0, 1).reshape(1, H, B * S, K)


def decode_loop(
    model: T5, params, state: SharedState, token_filter: TokenFilter, temperature: float, max_live: jax.typing.ArrayLike
) -> SharedState:
    """Decodes until the cache is full, rows are missing, or at most `max_live` samples have no EOS."""
    end = min(decoder.cache_capacity(state.cache), state.tokens_MT.shape[1])
    output_ids = params.get("output", {}).get("token_ids")  # see quantization.decode_parameters

    def unfinished(state: SharedState) -> jax.Array:
        return (state.position < end) & (state.needed <= len(state.token_R)) & (state.live() > max_live)

    def step(state: SharedState) -> SharedState:
        position = state.position
        cross_cache = {**state.cache, "cross_bias": _cross_bias(state)}
        arguments = (state.token_R, cross_cache, position)
        logits_RV, cache = cast(Any, model.apply({"params": params}, *arguments, method=T5.decode_step))
        uniform_M = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, position)))(state.key_M)
        token_M = sample_token(logits_RV, uniform_M, token_filter.top_k, token_filter.top_p, temperature, state.row_M)
        logprob_M = jnp.where(state.ended_M, 0.0, log_probability(logits_RV, token_M, state.row_M))
        token_M = jnp.where(state.ended_M, 0, token_M if output_ids is None else output_ids[token_M])
        state = state._replace(
            position=position + 1,
            token_M=token_M,
            tokens_MT=jax.lax.dynamic_update_slice_in_dim(state.tokens_MT, token_M[:, None], position, axis=1),
            ended_M=state.ended_M | (token_M == EOS_ID),
            logprob_M=state.logprob_M + logprob_M,
            cache={**cache, "cross_bias": state.cache["cross_bias"]},
        )
        return _fork(state)

    return jax.lax.while_loop(unfinished, step, state)


def _cross_bias(state: SharedState) -> jax.Array:
    """Returns the bias [1, 1, R, Q] that leaves each row the positions of its input."""
    Q, B = len(state.source_bias_Q), len(state.cache["cross_bias"])
    own_RQ = state.input_R[:, None] == jnp.arange(Q) // (Q // B)
    return jnp.where(own_RQ, state.source_bias_Q, NEG_INF)[None, None]


def _distinct(state: SharedState) -> tuple[jax.Array, jax.Array]:
    """Returns for each sample the first one with the same prefix, and whether it is that; not of those with EOS."""
    live_M = ~state.ended_M
    same_MM = (state.row_M[:, None] == state.row_M) & (state.token_M[:, None] == state.token_M) & live_M
    leader_M = jnp.argmax(same_MM, axis=1)
    return leader_M, live_M & (leader_M == jnp.arange(len(leader_M)))


def _fork(state: SharedState) -> SharedState:
    """Gives each distinct prefix a row: one keeps its row, others get a copy of it in a free one.

    Where rows are missing, only `needed` changes.
    """
    R, M = len(state.token_R), len(state.row_M)
    leader_M, leads_M = _distinct(state)
    needed = jnp.sum(leads_M)
    fits = needed <= R
    uses_RM = (jnp.arange(R)[:, None] == state.row_M) & ~state.ended_M
    keeper_R = jnp.argmax(uses_RM, axis=1)  # the first sample of a row
    forks_M = leads_M & (keeper_R[state.row_M] != jnp.arange(M))
    free_R = jnp.argsort(jnp.any(uses_RM, axis=1), stable=True)
    target_M = jnp.where(forks_M, free_R[jnp.minimum(jnp.cumsum(forks_M) - 1, R - 1)], state.row_M)
    row_M = jnp.where(fits, target_M[leader_M], state.row_M)
    copied_M = jnp.argsort(~forks_M, stable=True)  # those that fork first

    def copy(i: jax.Array, leaves: Any) -> Any:
        source, target = state.row_M[copied_M[i]], target_M[copied_M[i]]
        return jax.tree.map(
            lambda leaf: jax.lax.dynamic_update_slice_in_dim(
                leaf, jax.lax.dynamic_slice_in_dim(leaf, source, 1), target, axis=0
            ),
            leaves,
        )

    # Row by row, in place: to gather all rows would copy the whole cache at each step.
    leaves = jax.lax.fori_loop(0, jnp.where(fits, jnp.sum(forks_M), 0), copy, state.cache["self"])
    live_row_M = jnp.where(state.ended_M, R, row_M)
    return state._replace(
        input_R=state.input_R.at[live_row_M].set(state.input_R[state.row_M], mode="drop"),
        token_R=state.token_R.at[live_row_M].set(state.token_M, mode="drop"),
        row_M=row_M,
        needed=needed,
        cache={**state.cache, "self": leaves},
    )


def resize(state: SharedState, rows: int, capacity: int) -> SharedState:
    """Returns the state with `rows` rows, enough for its distinct prefixes, and room for more tokens."""
    M = len(state.row_M)
    leader_M, leads_M = _distinct(state)
    # The samples that lead come first, in their order: the i-th gets row i.
    source_R = jnp.pad(state.row_M[jnp.argsort(~leads_M, stable=True)], (0, max(0, rows - M)))[:rows]
    row_M = jnp.where(state.ended_M, 0, (jnp.cumsum(leads_M) - 1)[leader_M])
    token_R = jnp.zeros(rows, jnp.int32).at[jnp.where(state.ended_M, rows, row_M)].set(state.token_M, mode="drop")
    leaves = jax.tree.map(lambda leaf: decoder.take_rows(leaf, source_R), state.cache["self"])
    cache = decoder.grow_cache({**state.cache, "self": leaves}, capacity)
    return state._replace(input_R=state.input_R[source_R], token_R=token_R, row_M=row_M, cache=cache)


_start_jit = jax.jit(start, static_argnums=(0, 3, 4, 5))
_decode_loop_jit = jax.jit(decode_loop, static_argnums=(0, 3), donate_argnums=2)
_resize_jit = jax.jit(resize, static_argnums=(1, 2))


def row_counts(inputs: int, samples: int) -> list[int]:
    """Returns the numbers of rows that are compiled, ascending: from one for each input to one for each sample."""
    counts = [MIN_ROWS * n for n in (2, 4, 8, 12, 16)] + [MIN_ROWS * 2**i for i in range(5, 32)]
    return [n for n in counts if inputs <= n < samples] + [samples]


def sample_batch(
    model: T5,
    params,
    encoder_input_tokens: jax.Array,
    length: int,
    sample_ids: SampleIds,
    token_filter: TokenFilter,
    temperature: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens int32 [M, length] and their log-probabilities; the samples of an input are side by side."""
    inputs, width = encoder_input_tokens.shape
    encoder_input_tokens = jnp.pad(encoder_input_tokens, ((0, 0), (0, -width % WIDTH_MULTIPLE)))
    counts = row_counts(inputs, inputs * len(sample_ids.indices_N))
    rows, capacity = counts[0], min(INITIAL_CACHE_CAPACITY, length)
    state = _start_jit(model, params, encoder_input_tokens, length, rows, capacity, sample_ids)
    while True:
        fewer = max((n for n in counts if n < rows), default=0)
        state = _decode_loop_jit(model, params, state, token_filter, temperature, fewer)
        live, needed = int(state.live()), int(state.needed)
        if not live or state.position >= length:
            return np.asarray(state.tokens_MT), np.asarray(state.logprob_M)
        if needed > rows or live <= fewer:
            rows = next(n for n in counts if n >= needed)
        if state.position >= capacity:
            capacity = min(capacity + INITIAL_CACHE_CAPACITY, length)
        state = _resize_jit(state, rows, capacity)
