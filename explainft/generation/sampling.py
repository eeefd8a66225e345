"""The next token of each row, from its logits: the argmax, or a sample.

Dimensions in names: B and R rows, V vocabulary, M samples.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.errors import UserError, require_count

MAX_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class TokenFilter:
    """The tokens that may be sampled; see `sample_token`."""

    top_k: int = 0
    top_p: float = 1.0


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How tokens are sampled, see `sample_token`. Raises UserError for values out of range."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        require_count(top_k=self.top_k, seed=self.seed)
        if not 0 < self.temperature < float("inf"):
            raise UserError(
                f"temperature={self.temperature} must be a finite number above 0; for temperature 0 decode greedily"
            )
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p} must be above 0 and at most 1; 1 keeps all tokens")
        if self.seed > MAX_SEED:
            raise UserError(f"seed={self.seed} must be at most {MAX_SEED}")

    @property
    def token_filter(self) -> TokenFilter:
        return TokenFilter(self.top_k, self.top_p)


class SampleIds(NamedTuple):
    """What alone decides the samples of a batch: the seed, the 64 bits of each example id, and the samples' indices.

    NumPy arrays: each host passes the same.
    """

    seed: np.ndarray  # uint32
    example_ids_B2: np.ndarray  # uint32, high and low half
    indices_N: np.ndarray


def sample_keys(sample_ids: SampleIds) -> jax.Array:
    """Returns the keys [B, N]: the seed's, with the example id and the index folded in."""
    fold = jax.random.fold_in
    seed_key = jax.random.key(sample_ids.seed)
    key_B = jax.vmap(lambda id: fold(fold(seed_key, id[0]), id[1]))(sample_ids.example_ids_B2)
    return jax.vmap(lambda key: jax.vmap(fold, (None, 0))(key, sample_ids.indices_N))(key_B)


def argmax(logits_BV: jax.Array) -> jax.Array:
    """Returns the first token id of the largest logit, int32 [B].

    `jnp.argmax` compares element by element on a CPU; this vectorizes.
    """
    V = logits_BV.shape[-1]
    max_B1 = jnp.max(logits_BV, axis=-1, keepdims=True)
    return jnp.min(jnp.where(logits_BV == max_B1, jnp.arange(V, dtype=jnp.int32), V - 1), axis=-1)


def sample_token(
    logits_RV: jax.Array,
    uniform_M: jax.Array,
    top_k: int,
    top_p: float,
    temperature: jax.typing.ArrayLike = 1.0,
    row_M: jax.Array | None = None,
) -> jax.Array:
    """Samples a token for each uniform number in [0, 1), int32 [M], from its row of the logits (None: one each).

    Probabilities are softmax(logits / temperature). Candidates are the `top_k` most probable tokens (0: all), and of
    these the fewest whose probabilities sum up to `top_p` (nucleus sampling, Holtzman et al. 2020).
    """
    R, V = logits_RV.shape
    row_M = jnp.arange(R) if row_M is None else row_M
    k = min(top_k or V, V)
    if k == V and top_p == 1.0:  # no sort is needed
        tokens_RV, probs_RV = None, jax.nn.softmax(logits_RV / temperature)
    else:
        top_logits_RV, tokens_RV = jax.lax.top_k(logits_RV, k)
        probs_RV = jax.nn.softmax(top_logits_RV / temperature)
        before_RV = jnp.cumsum(probs_RV, axis=-1) - probs_RV
        probs_RV = jnp.where(before_RV < top_p, probs_RV, 0.0)
    last_M = V - 1 if tokens_RV is None else jnp.sum(probs_RV > 0, axis=-1)[row_M] - 1
    index_M = _invert_cdf(probs_RV, row_M, uniform_M, last_M)
    return (index_M if tokens_RV is None else tokens_RV[row_M, index_M]).astype(jnp.int32)


def sample_row_tokens(
    logits_RV: jax.Array, uniform_R: jax.Array, temperature_R: jax.Array, top_p_R: jax.Array
) -> jax.Array:
    """Samples a token for each row, int32 [R], each at its own temperature above 0 and top-p of 0 to 1.

    Nucleus sampling as in `sample_token`, except that tokens as probable as the last of the nucleus belong to it.
    Nothing is sorted, and candidates keep the vocabulary's order: a row's token does not depend on others' settings.
    """
    # The maximum first: what a very low temperature makes of large logits would overflow.
    scaled_RV = (logits_RV - jnp.max(logits_RV, axis=-1, keepdims=True)) / temperature_R[:, None]
    probs_RV = jax.nn.softmax(scaled_RV)
    nucleus_R = top_p_R < 1
    threshold_R = jax.lax.cond(
        jnp.any(nucleus_R), lambda: _nucleus_threshold(probs_RV, top_p_R), lambda: jnp.zeros_like(top_p_R)
    )
    threshold_R = jnp.where(nucleus_R, threshold_R, 0.0)
    kept_RV = jnp.where(probs_RV >= threshold_R[:, None], probs_RV, 0.0)
    R, V = logits_RV.shape
    last_R = jnp.max(jnp.where(kept_RV > 0, jnp.arange(V), 0), axis=-1)
    return _invert_cdf(kept_RV, jnp.arange(R), uniform_R, last_R).astype(jnp.int32)


def _nucleus_threshold(probs_RV: jax.Array, top_p_R: jax.Array) -> jax.Array:
    """Returns the largest probability of each row such that those of at least as much sum up to top-p.

    A binary search over the bits of a float32, which are ordered as the positive numbers are.
    """

    def number(bits_R: jax.Array) -> jax.Array:
        return jax.lax.bitcast_convert_type(bits_R, jnp.float32)

    def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low_R, high_R = bounds
        middle_R = low_R + (high_R - low_R + 1) // 2
        kept_RV = jnp.where(probs_RV >= number(middle_R)[:, None], probs_RV, 0.0)
        enough_R = jnp.sum(kept_RV, axis=-1) >= top_p_R
        return jnp.where(enough_R, middle_R, low_R), jnp.where(enough_R, high_R, middle_R - 1)

    high_R = jax.lax.bitcast_convert_type(jnp.max(probs_RV, axis=-1), jnp.int32)
    return number(jax.lax.fori_loop(0, 31, halve, (jnp.zeros_like(high_R), high_R))[0])


def _invert_cdf(probs_RV: jax.Array, row_M: jax.Array, uniform_M: jax.Array, last_M: jax.typing.ArrayLike) -> jax.Array:
    """Returns the place in its row that each uniform number in [0, 1) chooses, at most `last_M`.

    The probabilities of a row need not sum up to 1.
    """
    # XLA sums in a tree: rounding may make a later sum smaller than an earlier one.
    cumulative_RV = jax.lax.cummax(jnp.cumsum(probs_RV, axis=-1), axis=1)
    index_M = _count_at_most(cumulative_RV, row_M, uniform_M * cumulative_RV[row_M, -1])
    # Rounding may leave a number beyond the last sum.
    return jnp.minimum(index_M, last_M)


def _count_at_most(ascending_RV: jax.Array, row_M: jax.Array, limit_M: jax.Array) -> jax.Array:
    """Returns how many numbers of its ascending row are at most each limit: a binary search of all at once."""
    V = ascending_RV.shape[-1]

    def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low_M, high_M = bounds
        middle_M = (low_M + high_M) // 2
        at_most_M = (low_M < high_M) & (ascending_RV[row_M, jnp.minimum(middle_M, V - 1)] <= limit_M)
        return jnp.where(at_most_M, middle_M + 1, low_M), jnp.where(at_most_M, high_M, middle_M)

    bounds = jnp.zeros_like(row_M), jnp.full_like(row_M, V)
    return jax.lax.fori_loop(0, V.bit_length(), halve, bounds)[0]


def log_probability(logits_RV: jax.Array, token_M: jax.Array, row_M: jax.Array | None = None) -> jax.Array:
    """Returns the log-probabilities of tokens, float32 [M], by their places in their rows of the logits."""
    logits_RV = logits_RV.astype(jnp.float32)
    row_M = jnp.arange(len(logits_RV)) if row_M is None else row_M
    return logits_RV[row_M, token_M] - jax.nn.logsumexp(logits_RV, axis=-1)[row_M]
