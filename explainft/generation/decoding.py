"""Decoding with a cache, greedily or many samples of each input.

Dimensions in names: B inputs, S their length, R texts, T their length, V vocabulary.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.errors import UserError, require_at_least_zero, require_positive
from explainft.core.process_pool import available_cores, map_in_order
from explainft.data.vocabulary import EOS_ID
from explainft.model import t5
from explainft.model.t5 import T5, Cache, T5Config
from explainft.parallel import hosts, sharding

WINDOW = 32  # positions that a cache begins with
FEWEST_ROWS = 16  # half of them take a step nearly as long: it reads every kernel
BATCHES_AT_ONCE = 2  # on one CPU: XLA computes much of a step, all of its attention, on one core


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What may be drawn; see `drawn`."""

    top_k: int = 0
    top_p: float = 1.0


class Writing(NamedTuple):
    """Texts under way: R rows, the copies of an input side by side; the next token of all goes to `position`."""

    position: jax.Array
    token_R: jax.Array  # written last
    text_RT: jax.Array  # zeros after EOS
    ended_R: jax.Array
    key_R: jax.Array | None  # of its draws
    cache: Cache


@functools.partial(jax.jit, static_argnums=(0, 3))
def greedy(config: T5Config, params, encoder_input_tokens: jax.Array, length: int) -> jax.Array:
    """The likeliest token at each step, until every row has written EOS or `length` tokens; all in one program.

    Takes int32 inputs [B, S], zero-padded; returns int32 [B, length]: the tokens with their EOS, and zeros after it.
    """
    writing = _begin(config, params, encoder_input_tokens, length, length)
    return _advance(config, params, writing, None, 1.0, 1, 0).text_RT


def _begin(
    config: T5Config,
    params,
    encoder_input_tokens: jax.Array,
    length: int,
    window: int,
    copies: int = 1,
    key: jax.Array | None = None,
    numbers_B: jax.typing.ArrayLike = 0,
) -> Writing:
    """Encodes inputs [B, S] for `copies` texts of each, of up to `length` tokens.

    With the same key and number an input's texts draw the same numbers in any batch.
    """
    cache: Any = T5(config).apply(
        {"params": params}, encoder_input_tokens, length, copies, window, method=T5.init_cache
    )
    # A row of padding alone fills up the last batch: it has nothing to say.
    empty_R = jnp.repeat(~jnp.any(encoder_input_tokens > 0, axis=1), copies)
    R = len(empty_R)
    key_R = None
    if key is not None:
        number_R = jnp.repeat(numbers_B, copies) * copies + jnp.tile(jnp.arange(copies), R // copies)
        key_R = jax.vmap(jax.random.fold_in, (None, 0))(key, number_R)
    return Writing(jnp.int32(0), jnp.zeros(R, jnp.int32), jnp.zeros((R, length), jnp.int32), empty_R, key_R, cache)


def _advance(
    config: T5Config,
    params,
    writing: Writing,
    sampling: Sampling | None,
    temperature: jax.typing.ArrayLike,
    groups: int,
    enough: jax.typing.ArrayLike,
) -> Writing:
    """Writes until the cache is full or at most `enough` rows of each of the `groups` of neighbours have not ended."""
    window = min(t5.cache_length(writing.cache), writing.text_RT.shape[1])
    pieces = params.get("output", {}).get("pieces")  # see reduced.py

    def go_on(writing: Writing) -> jax.Array:
        return (writing.position < window) & (_unfinished(writing, groups) > enough)

    def step(writing: Writing) -> Writing:
        position = writing.position
        logits_RV, cache = T5(config).apply(
            {"params": params}, writing.token_R, writing.cache, position, method=T5.decode_step
        )
        if sampling is None:
            token_R = likeliest(logits_RV)
        else:
            uniform_R = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, position)))(writing.key_R)
            token_R = drawn(logits_RV, uniform_R, sampling.top_k, sampling.top_p, temperature)
        token_R = jnp.where(writing.ended_R, 0, token_R if pieces is None else pieces[token_R])
        text_RT = jax.lax.dynamic_update_slice_in_dim(writing.text_RT, token_R[:, None], position, axis=1)
        ended_R = writing.ended_R | (token_R == EOS_ID)
        return writing._replace(position=position + 1, token_R=token_R, text_RT=text_RT, ended_R=ended_R, cache=cache)

    return jax.lax.while_loop(go_on, step, writing)


def _unfinished(writing: Writing, groups: int) -> jax.Array:
    """How many rows have not ended, in the group that has most of them."""
    return jnp.max(jnp.sum(~writing.ended_R.reshape(groups, -1), axis=1))


def _keep(writing: Writing, rows: jax.Array) -> Writing:
    """These rows alone."""
    of_rows = {name: leaf for name, leaf in writing._asdict().items() if name.endswith("_R") or name == "text_RT"}
    kept = jax.tree.map(lambda leaf: t5.rows_of(leaf, rows), of_rows)
    return writing._replace(**kept, cache=t5.cache_of_rows(writing.cache, rows))


_begin_jit = jax.jit(_begin, static_argnums=(0, 3, 4, 5))
_advance_jit = jax.jit(_advance, static_argnums=(0, 3, 5), donate_argnums=2)
_keep_jit = jax.jit(_keep)
_grow_jit = jax.jit(lambda writing, to: writing._replace(cache=t5.longer_cache(writing.cache, to)), static_argnums=1)


def _write(
    config: T5Config,
    params,
    encoder_input_tokens: jax.Array,
    length: int,
    copies: int = 1,
    key: jax.Array | None = None,
    numbers_B: np.ndarray | None = None,
    sampling: Sampling | None = None,
    temperature: float = 1.0,
) -> np.ndarray:
    """int32 [R, length]: R = B x copies texts, those of an input side by side; see `_begin`.

    The cache doubles when it is full, and rows that have ended are left out when they are half of all: a step reads at
    most twice the positions and computes at most twice the rows that it must. On several devices, which would have to
    exchange rows, all stay.
    """
    one_device = len(encoder_input_tokens.devices()) == 1
    window = min(WINDOW, length) if one_device else length
    writing = _begin_jit(config, params, encoder_input_tokens, length, window, copies, key, numbers_B)
    R = len(writing.ended_R)
    # The copies of an input share its encoding: as many of each must stay.
    groups = 1 if copies == 1 else R // copies
    rows = np.arange(R)
    text_RT = np.zeros((R, length), np.int32)
    while True:
        half = len(rows) // groups // 2
        enough = half if one_device and half * groups >= FEWEST_ROWS else 0
        writing = _advance_jit(config, params, writing, sampling, temperature, groups, enough)
        if not one_device:
            return hosts.whole(writing.text_RT)
        ended_GN = np.asarray(writing.ended_R).reshape(groups, -1)
        if ended_GN.all() or writing.position >= length:
            text_RT[rows] = writing.text_RT
            return text_RT
        if (~ended_GN).sum(axis=1).max() <= enough:
            text_RT[rows] = writing.text_RT
            kept_GN = np.argsort(ended_GN, axis=1, kind="stable")[:, :half]
            kept = (kept_GN + np.arange(groups)[:, None] * ended_GN.shape[1]).reshape(-1)
            rows, writing = rows[kept], _keep_jit(writing, kept)
        if writing.position >= t5.cache_length(writing.cache):
            writing = _grow_jit(writing, min(2 * t5.cache_length(writing.cache), length))


def likeliest(logits_BV: jax.Array) -> jax.Array:
    """argmax, the first of equals, int32 [B]. XLA computes its own element by element on a CPU."""
    V = logits_BV.shape[-1]
    best_B1 = jnp.max(logits_BV, axis=-1, keepdims=True)
    return jnp.min(jnp.where(logits_BV == best_B1, jnp.arange(V, dtype=jnp.int32), V - 1), axis=-1)


def drawn(
    logits_BV: jax.Array,
    uniform_B: jax.Array,
    top_k: int,
    top_p: float,
    temperature: jax.typing.ArrayLike = 1.0,
) -> jax.Array:
    """A token for each row, int32 [B], from one uniform number each; probabilities are softmax(logits / temperature).

    Left are the `top_k` likeliest (0: all), and of these the fewest whose probabilities sum up to `top_p` (nucleus
    sampling, Holtzman et al. 2020).
    """
    V = logits_BV.shape[-1]
    k = min(top_k or V, V)
    if k == V and top_p == 1.0:  # no order is needed
        tokens_BV, kept_BV = None, jax.nn.softmax(logits_BV / temperature)
    else:
        best_BV, tokens_BV = jax.lax.top_k(logits_BV, k)
        kept_BV = jax.nn.softmax(best_BV / temperature)
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

    def decode(batch_BS: jax.Array, numbers_B: np.ndarray) -> np.ndarray:
        return _write(config, params, batch_BS, length)

    return [texts[0] for texts in _in_batches(decode, params, inputs, batch_size, 1, progress)]


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
    numbers: Sequence[int] | None = None,
) -> list[list[list[int]]]:
    """`num_samples` texts of each input, drawn from softmax(logits / temperature) as `drawn` restricts it.

    Each input is encoded once. About `batch_size` texts are written at a time; the seed alone decides which, and the
    input's number below 2**31 / num_samples, by default its place.
    """
    require_positive(num_samples=num_samples)
    require_at_least_zero(top_k=top_k)
    if not temperature > 0 or not 0 < top_p <= 1:
        raise UserError(
            f"temperature={temperature} must be above 0, top_p={top_p} above 0 and at most 1; of temperature 0 the "
            "greedy text is the limit"
        )
    key = jax.random.key(seed)
    number_of = np.array(range(len(inputs)) if numbers is None else numbers, np.int32)

    def decode(batch_BS: jax.Array, numbers_B: np.ndarray) -> np.ndarray:
        sampling = Sampling(top_k, top_p)
        return _write(config, params, batch_BS, length, num_samples, key, number_of[numbers_B], sampling, temperature)

    return _in_batches(decode, params, inputs, max(1, batch_size // num_samples), num_samples, progress)


def _in_batches(
    decode: Callable[[jax.Array, np.ndarray], np.ndarray],
    params,
    inputs: Sequence[Sequence[int] | np.ndarray],
    batch_size: int,
    copies: int,
    progress: Callable[[int], object] | None,
) -> list[list[list[int]]]:
    """The `copies` texts of each input, from `decode(batch_BS, numbers_B)`, int32 [B x copies, T].

    Inputs are sorted by length and padded to the next multiple of 16, so that rows that end early share a batch and few
    shapes compile. On one CPU several batches are under way at once, and inputs that would fit into fewer are dealt out
    to them, unless they are few: a power of two to each, so that few shapes compile here too.
    """
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
    at_once = min(BATCHES_AT_ONCE, available_cores()) if sharding.on_one_cpu(params) else 1
    if at_once > 1 and inputs:
        kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
        if len(inputs) <= min(batch_size, FEWEST_ROWS // copies) and all(k.dtype == jnp.float32 for k in kernels):
            at_once = 1  # for each batch reads every kernel, of which these are the largest
        share = -(-len(inputs) // at_once)
        batch_size = min(batch_size, max(FEWEST_ROWS // 2 // copies, 1 << (share - 1).bit_length()))

    def decode_rows(rows: list[int]) -> list[list[list[int]]]:
        width = -(-max(len(inputs[i]) for i in rows) // 16) * 16
        batch_BS = np.zeros((batch_size, width), np.int32)
        numbers_B = np.zeros(batch_size, np.int32)
        for r, i in enumerate(rows):
            batch_BS[r, : len(inputs[i])] = inputs[i]
            numbers_B[r] = i
        decoded = decode(sharding.put_rows_like(params, batch_BS), numbers_B)
        return decoded.reshape(batch_size, -1, decoded.shape[-1])[: len(rows)].tolist()

    outputs: list[list[list[int]]] = [[] for _ in inputs]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    with contextlib.ExitStack() as stack:
        run: Callable = map
        if at_once > 1:
            run = functools.partial(map_in_order, stack.enter_context(ThreadPoolExecutor(at_once)), at_once - 1)
        for rows, decoded in zip(batches, run(decode_rows, batches), strict=True):
            for i, texts in zip(rows, decoded, strict=True):
                outputs[i] = [ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids for ids in texts]
            if progress:
                progress(len(rows))
    return outputs
