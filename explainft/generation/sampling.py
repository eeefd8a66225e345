"""The next token of each row, from its logits: the argmax, or a sample.

Dimensions in names: B rows, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

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


def argmax(logits_BV: jax.Array) -> jax.Array:
    """Returns the first token id of the largest logit, int32 [B].

    `jnp.argmax` compares element by element on a CPU; this vectorizes.
    """
    V = logits_BV.shape[-1]
    max_B1 = jnp.max(logits_BV, axis=-1, keepdims=True)
    return jnp.min(jnp.where(logits_BV == max_B1, jnp.arange(V, dtype=jnp.int32), V - 1), axis=-1)


def sample_token(
    logits_BV: jax.Array,
    uniform_B: jax.Array,
    top_k: int,
    top_p: float,
    temperature: jax.typing.ArrayLike = 1.0,
) -> jax.Array:
    """Samples a token for each row, int32 [B], from one uniform number in [0, 1) each.

    Probabilities are softmax(logits / temperature). Candidates are the `top_k` most probable tokens (0: all), and of
    these the fewest whose probabilities sum up to `top_p` (nucleus sampling, Holtzman et al. 2020).
    """
    V = logits_BV.shape[-1]
    k = min(top_k or V, V)
    if k == V and top_p == 1.0:  # no sort is needed
        tokens_BV, probs_BV = None, jax.nn.softmax(logits_BV / temperature)
    else:
        top_logits_BV, tokens_BV = jax.lax.top_k(logits_BV, k)
        probs_BV = jax.nn.softmax(top_logits_BV / temperature)
        before_BV = jnp.cumsum(probs_BV, axis=-1) - probs_BV
        probs_BV = jnp.where(before_BV < top_p, probs_BV, 0.0)
    # XLA sums in a tree: rounding may make a later sum smaller than an earlier one.
    cumulative_BV = jax.lax.cummax(jnp.cumsum(probs_BV, axis=-1), axis=1)
    index_B = jnp.sum(cumulative_BV <= uniform_B[:, None] * cumulative_BV[:, -1:], axis=-1)
    # Rounding may leave a number beyond the last sum.
    index_B = jnp.minimum(index_B, jnp.sum(probs_BV > 0, axis=-1) - 1 if tokens_BV is not None else V - 1)
    sampled_B = index_B if tokens_BV is None else jnp.take_along_axis(tokens_BV, index_B[:, None], axis=-1)[:, 0]
    return sampled_B.astype(jnp.int32)


def log_probability(logits_BV: jax.Array, token_B: jax.Array) -> jax.Array:
    """Returns the log-probability of a token of each row, float32 [B]: of its place in the logits."""
    logits_BV = logits_BV.astype(jnp.float32)
    logit_B = jnp.take_along_axis(logits_BV, token_B[:, None], axis=-1)[:, 0]
    return logit_B - jax.nn.logsumexp(logits_BV, axis=-1)
