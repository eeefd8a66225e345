"""Greedy decoding in which a task's fixed words are given and not predicted: they carry no loss in training.

Dimensions in names: B inputs, S their length, R rows (outputs), T their length, E tokens of `end`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from explainft.data.multitask import Context
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.generation.batching import decode_in_batches
from explainft.generation.decoding import DecodeState, Tokens, argmax, prefill
from explainft.model.t5 import T5
from explainft.parallel import hosts


class ForcedTokens(NamedTuple):
    """Token ids: an output begins with `start`, and `following` comes after the first `end`."""

    start: tuple[int, ...]
    end: tuple[int, ...]
    following: tuple[int, ...]


def encode_context(context: Context, vocabulary: Vocabulary) -> ForcedTokens:
    """Returns the tokens of the fixed words, as they are within a text."""
    word = "a"
    texts = ("", context.start), (word, context.end), (word + context.end, context.following)
    return ForcedTokens(*(_added_tokens(before, text, vocabulary) for before, text in texts))


def _added_tokens(before: str, text: str, vocabulary: Vocabulary) -> tuple[int, ...]:
    return tuple(vocabulary.encode(before + text)[len(vocabulary.encode(before)) :])


def generate(
    model: T5,
    params: Any,
    inputs: Sequence[Tokens],
    length: int,
    batch_size: int,
    forced: ForcedTokens,
    progress: Callable[[int], object] | None = None,
) -> list[list[int]]:
    """Decodes as decoding.generate does; outputs contain the forced tokens."""
    arrays = ForcedTokens(*(cast(Any, np.array(ids, np.int32)) for ids in forced))

    def decode_batch(batch_BS: jax.Array, inputs_B: np.ndarray) -> list[list[int]]:
        rows = hosts.whole(_decode(model, params, batch_BS, length, arrays)).tolist()
        return [ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids for ids in rows]

    return decode_in_batches(decode_batch, params, inputs, batch_size, progress)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _decode(model: T5, params: Any, encoder_input_tokens: jax.Array, length: int, forced: ForcedTokens) -> jax.Array:
    """Returns tokens int32 [R, length], with zeros after EOS."""
    start, end_E, following = map(jnp.asarray, forced)
    output_ids = params.get("output", {}).get("token_ids")  # see quantization.decode_parameters
    state = prefill(model, params, encoder_input_tokens, length, length)
    R, E = len(state.ended_R), len(end_E)
    # Tokens of `following` that an output has; -1 before its `end`.
    written_R, last_RE = jnp.full(R, -1), jnp.zeros((R, E), jnp.int32)

    def unfinished(carry: tuple[DecodeState, jax.Array, jax.Array]) -> jax.Array:
        return (carry[0].position < length) & ~jnp.all(carry[0].ended_R)

    def step(carry: tuple[DecodeState, jax.Array, jax.Array]) -> tuple[DecodeState, jax.Array, jax.Array]:
        state, written_R, last_RE = carry
        position = state.position
        arguments = (state.token_R, state.cache, position)
        logits_RV, cache = cast(Any, model.apply({"params": params}, *arguments, method=T5.decode_step))
        token_R = argmax(logits_RV)
        token_R = token_R if output_ids is None else output_ids[token_R]
        follows_R = (written_R >= 0) & (written_R < len(following))
        token_R = jnp.where(follows_R, following.at[written_R].get(mode="clip"), token_R)
        if len(start):
            token_R = jnp.where(position < len(start), start.at[position].get(mode="clip"), token_R)
        token_R = jnp.where(state.ended_R, 0, token_R)
        last_RE = jnp.concatenate([last_RE[:, 1:], token_R[:, None]], axis=1)
        ends_R = (written_R < 0) & (position >= len(start)) & jnp.all(last_RE == end_E, axis=1)
        written_R = jnp.where(ends_R, 0, written_R + follows_R)
        tokens_RT = jax.lax.dynamic_update_slice_in_dim(state.tokens_RT, token_R[:, None], position, axis=1)
        ended_R = state.ended_R | (token_R == EOS_ID)
        state = state._replace(
            position=position + 1, token_R=token_R, tokens_RT=tokens_RT, ended_R=ended_R, cache=cache
        )
        return state, written_R, last_RE

    state, *_ = jax.lax.while_loop(unfinished, step, (state, written_R, last_RE))
    return state.tokens_RT
