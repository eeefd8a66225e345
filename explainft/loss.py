"""Cross entropy over a vocabulary, as sums: divide once, where the whole batch is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from explainft.errors import UserError, nearest

NORMALIZERS = ("NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS")


@dataclasses.dataclass(frozen=True)
class Loss:
    """What is minimised: cross entropy, its smoothing, the z-loss, and what the sum over a batch is divided by.

    `normalizing_factor` is a number, None (the plain sum, as in T5X), "NUM_REAL_TARGET_TOKENS" or
    "NUM_TOTAL_TARGET_TOKENS" (padding counted). A fixed number weighs every token alike, however full its batch is.
    """

    z_loss: float = 0.0
    label_smoothing: float = 0.0
    normalizing_factor: float | str | None = "NUM_REAL_TARGET_TOKENS"

    def __post_init__(self):
        if isinstance(self.normalizing_factor, str) and self.normalizing_factor not in NORMALIZERS:
            name = self.normalizing_factor
            raise UserError(
                f"LOSS_NORMALIZING_FACTOR={name!r} is neither a number nor a known rule{nearest(name, NORMALIZERS)}"
            )
        if not isinstance(self.normalizing_factor, str | None) and not self.normalizing_factor > 0:
            raise UserError(f"LOSS_NORMALIZING_FACTOR={self.normalizing_factor} must be above 0")

    def denominator(self, decoder_target_tokens: jax.Array) -> jax.Array:
        """What the loss of this batch, int32 [B, T], is divided by."""
        if self.normalizing_factor == "NUM_REAL_TARGET_TOKENS":
            return jnp.maximum(jnp.sum(decoder_target_tokens > 0), 1).astype(jnp.float32)
        if self.normalizing_factor == "NUM_TOTAL_TARGET_TOKENS":
            return jnp.float32(decoder_target_tokens.size)
        return jnp.float32(1.0 if self.normalizing_factor is None else self.normalizing_factor)

    def sums(self, logits_BTV: jax.Array, decoder_target_tokens: jax.Array) -> dict[str, jax.Array]:
        """Sums over the tokens that are no padding: loss_sum (z-loss included), correct_sum, weight_sum."""
        weights_BT = (decoder_target_tokens > 0).astype(jnp.float32)
        loss_BT = cross_entropy(logits_BTV, decoder_target_tokens, self.label_smoothing, self.z_loss)
        correct_BT = jnp.argmax(logits_BTV, axis=-1) == decoder_target_tokens
        return {
            "loss_sum": jnp.sum(loss_BT * weights_BT),
            "correct_sum": jnp.sum(correct_BT * weights_BT),
            "weight_sum": jnp.sum(weights_BT),
        }


def cross_entropy(
    logits_BTV: jax.Array, targets_BT: jax.Array, label_smoothing: float = 0.0, z_loss: float = 0.0
) -> jax.Array:
    """Cross entropy [B, T] in nats against smoothed one-hot targets, less their entropy: a perfect model scores 0.

    The z-loss adds z_loss * log(Z)^2, which keeps the softmax's normaliser near 1 (Chowdhery et al. 2022, section 5).
    """
    log_z_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    target_logit_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]
    loss_BT = log_z_BT - target_logit_BT
    if label_smoothing:
        V = logits_BTV.shape[-1]
        on, off = 1.0 - label_smoothing, label_smoothing / (V - 1)
        entropy = -(on * np.log(on) + (V - 1) * off * np.log(off))
        others_BT = jnp.sum(logits_BTV, axis=-1) - target_logit_BT
        loss_BT = log_z_BT - on * target_logit_BT - off * others_BT - entropy
    return loss_BT + z_loss * jnp.square(log_z_BT)
