"""Continuous batching: rows of one decoder that begin, go on and end each on its own.

`prefill` encodes one input, `insert` gives it a row of the cache, `step` adds one token to every row at the row's own
position, and `resize` changes the cache's sizes. Who owns which row is the caller's matter: the cache holds keys and
values alone, and everything else about a row comes with each step. A row without an owner computes what is not read.

Dimensions in names: R rows, S length of inputs, L cache capacity, V vocabulary, H heads, K head size, C candidates.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from explainft.generation.sampling import argmax, log_probability, sample_row_tokens
from explainft.model import decoder
from explainft.model.decoder import Cache
from explainft.model.layer_stack import NEG_INF
from explainft.model.t5 import T5

MAX_CANDIDATES = 5  # of a position: the most probable tokens with their log-probabilities


class Sizes(NamedTuple):
    """The sizes of a cache: how many rows, tokens of an input, and tokens of an output it has room for.

    The capacity is at most the `length` of `prefill`.
    """

    rows: int
    input_length: int
    capacity: int


class Rows(NamedTuple):
    """What the next step needs of each row, as NumPy arrays; see `sample_keys_of_rows` for the last two."""

    token_R: np.ndarray  # int32, the last one
    position_R: np.ndarray  # int32, of the next one
    temperature_R: np.ndarray  # float32; 0: greedy
    top_p_R: np.ndarray  # float32
    seed_R2: np.ndarray  # uint32, high and low half
    index_R: np.ndarray  # int32

    @classmethod
    def unused(cls, rows: int) -> "Rows":
        """Returns what a step takes for rows whose tokens are not read."""
        zeros = np.zeros(rows, np.int32)
        temperature_R, top_p_R = np.zeros(rows, np.float32), np.ones(rows, np.float32)
        return cls(zeros, zeros.copy(), temperature_R, top_p_R, np.zeros((rows, 2), np.uint32), zeros.copy())


class Tokens(NamedTuple):
    """The next token of each row, with the model's own log-probabilities where the step was asked for them.

    At temperature 1, with no token left out.
    """

    token_R: Any
    logprob_R: Any
    candidate_RC: Any  # the most probable tokens, in their order
    candidate_logprob_RC: Any


def prefill(model: T5, params: Any, encoder_input_tokens: jax.Array, length: int) -> Cache:
    """Encodes one input [1, S], zero-padded: the cache of one row, with room for one of up to `length` tokens."""
    cache: Any = model.apply({"params": params}, encoder_input_tokens, length, 1, 1, method=T5.init_cache)
    return cache


def empty_cache(prefix: Cache, sizes: Sizes) -> Cache:
    """Returns a cache of these sizes for rows like that of a prefix."""

    def zeros(leaf: jax.Array, length: int) -> jax.Array:
        return jnp.zeros((sizes.rows, leaf.shape[1], length, leaf.shape[3]), leaf.dtype)

    return {
        "self": jax.tree.map(lambda leaf: zeros(leaf, sizes.capacity), prefix["self"]),
        "cross": jax.tree.map(lambda leaf: zeros(leaf, sizes.input_length), prefix["cross"]),
        "cross_bias": jnp.zeros((sizes.rows, 1, 1, sizes.input_length), prefix["cross_bias"].dtype),
        "relpos": jnp.copy(prefix["relpos"]),  # `step` donates the cache
    }


def cache_sizes(cache: Cache) -> Sizes:
    rows, _, _, input_length = cache["cross_bias"].shape
    return Sizes(rows, input_length, decoder.cache_capacity(cache))


def insert(cache: Cache, prefix: Cache, row: jax.typing.ArrayLike) -> Cache:
    """Gives an encoded input a row. What the row's self-attention cache holds is masked until it is overwritten."""
    S = cache["cross_bias"].shape[-1]
    bias = prefix["cross_bias"]
    bias = jnp.pad(bias, ((0, 0), (0, 0), (0, 0), (0, S - bias.shape[-1])), constant_values=NEG_INF)

    def write(leaf: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(leaf, new, (row, 0, 0, 0))

    cross = jax.tree.map(write, cache["cross"], prefix["cross"])
    return {**cache, "cross": cross, "cross_bias": write(cache["cross_bias"], bias)}


def step(model: T5, params: Any, cache: Cache, rows: Rows, logprobs: jax.typing.ArrayLike) -> tuple[Cache, Tokens]:
    """Adds one token to every row. `logprobs`: whether log-probabilities are wanted; they are zeros otherwise."""
    arguments = (jnp.asarray(rows.token_R), cache, jnp.asarray(rows.position_R))
    found: Any = model.apply({"params": params}, *arguments, method=T5.decode_step)
    logits_RV, cache = found
    R, V = logits_RV.shape
    C = min(MAX_CANDIDATES, V)
    temperature_R = jnp.asarray(rows.temperature_R)
    greedy_R = temperature_R <= 0

    def sample() -> jax.Array:
        key_R = sample_keys_of_rows(rows)
        uniform_R = jax.vmap(jax.random.uniform)(key_R)
        warm_R = jnp.where(greedy_R, 1.0, temperature_R)
        sampled_R = sample_row_tokens(logits_RV, uniform_R, warm_R, jnp.asarray(rows.top_p_R))
        return jnp.where(greedy_R, argmax(logits_RV), sampled_R)

    place_R = jax.lax.cond(jnp.all(greedy_R), lambda: argmax(logits_RV), sample)

    def log_probabilities() -> tuple[jax.Array, jax.Array, jax.Array]:
        top_RC, top_place_RC = jax.lax.top_k(logits_RV.astype(jnp.float32), C)
        total_R1 = jax.nn.logsumexp(logits_RV.astype(jnp.float32), axis=-1, keepdims=True)
        return log_probability(logits_RV, place_R), top_place_RC, top_RC - total_R1

    def zeros() -> tuple[jax.Array, jax.Array, jax.Array]:
        return jnp.zeros(R), jnp.zeros((R, C), jnp.int32), jnp.zeros((R, C))

    logprob_R, candidate_RC, candidate_logprob_RC = jax.lax.cond(logprobs, log_probabilities, zeros)
    output_ids = params.get("output", {}).get("token_ids")  # see quantization.decode_parameters
    if output_ids is not None:
        place_R, candidate_RC = output_ids[place_R], output_ids[candidate_RC]
    return cache, Tokens(place_R, logprob_R, candidate_RC, candidate_logprob_RC)


def sample_keys_of_rows(rows: Rows) -> jax.Array:
    """Returns the key of each row's next token: of its seed (64 bits), its index and its position, and nothing else."""
    fold = jax.random.fold_in

    def key(seed_2: jax.Array, index: jax.Array, position: jax.Array) -> jax.Array:
        return fold(fold(fold(jax.random.key(seed_2[1]), seed_2[0]), index), position)

    return jax.vmap(key)(jnp.asarray(rows.seed_R2), jnp.asarray(rows.index_R), jnp.asarray(rows.position_R))


def resize(cache: Cache, rows_R: jax.Array, input_length: int, capacity: int) -> Cache:
    """Returns the cache of these rows in their order, with room for inputs and outputs of these lengths.

    Where it gets shorter, what stood beyond must be of no row.
    """

    def fit(leaf: jax.Array, length: int, axis: int = 2, fill: float = 0.0) -> jax.Array:
        leaf = decoder.take_rows(leaf, rows_R)
        leaf = jax.lax.slice_in_dim(leaf, 0, min(length, leaf.shape[axis]), axis=axis)
        more = [(0, length - n if i == axis else 0) for i, n in enumerate(leaf.shape)]
        return jnp.pad(leaf, more, constant_values=fill)

    return {
        "self": jax.tree.map(lambda leaf: fit(leaf, capacity), cache["self"]),
        "cross": jax.tree.map(lambda leaf: fit(leaf, input_length), cache["cross"]),
        "cross_bias": fit(cache["cross_bias"], input_length, 3, NEG_INF),
        "relpos": cache["relpos"],
    }


prefill_jit = functools.partial(jax.jit, static_argnums=(0, 3))(prefill)
insert_jit = functools.partial(jax.jit, donate_argnums=0)(insert)
step_jit = functools.partial(jax.jit, static_argnums=0, donate_argnums=2)(step)
resize_jit = functools.partial(jax.jit, static_argnums=(2, 3))(resize)
