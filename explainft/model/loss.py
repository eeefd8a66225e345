"""Cross entropy over a vocabulary, as sums: divide once, where the whole batch is known."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.errors import UserError, nearest, require_at_least_zero
from explainft.model import t5
from explainft.model.t5 import T5

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
    # The only token ids that targets hold, 0 first: of the others no logit counts. None: all do.
    pieces: tuple[int, ...] | None = None

    def __post_init__(self):
        require_at_least_zero(Z_LOSS=self.z_loss)
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(f"LABEL_SMOOTHING={self.label_smoothing} must be at least 0 and below 1")
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
        """Sums over the tokens that are no padding: loss_sum (z-loss included), correct_sum, weight_sum.

        A token is correct where no other has a larger logit.
        """
        weights_BT = (decoder_target_tokens > 0).astype(jnp.float32)
        loss_BT = cross_entropy(logits_BTV, decoder_target_tokens, self.label_smoothing, self.z_loss)
        # Not argmax, which XLA computes element by element on a CPU: a tenth of a step.
        correct_BT = target_logits(logits_BTV, decoder_target_tokens) >= jnp.max(logits_BTV, axis=-1)
        return {
            "loss_sum": jnp.sum(loss_BT * weights_BT),
            "correct_sum": jnp.sum(correct_BT * weights_BT),
            "weight_sum": jnp.sum(weights_BT),
        }

    def sums_of_states(
        self,
        logits_of: Callable[[Any, jax.Array], jax.Array],
        output: Any,
        y_BTD: jax.Array,
        targets_BT: jax.Array,
        at_once: int,
    ) -> dict[str, jax.Array]:
        """The same sums from the decoder's last states, with about so many logits at once on a device.

        `logits_of(output, y_BTD)` are the logits, `output` the parameters of the output layer alone. loss_sum may be
        differentiated once, by `output` and `y_BTD`.
        """
        B, T = targets_BT.shape
        V = jax.eval_shape(logits_of, output, y_BTD).shape[-1]
        devices = jax.sharding.get_abstract_mesh().shape.get("data", 1)
        chunk = max(1, at_once * devices // (B * V))
        if chunk >= T:
            return self.sums(logits_of(output, y_BTD), targets_BT)
        chunks = -(-T // chunk)
        chunk = -(-T // chunks)
        padding = ((0, 0), (0, chunks * chunk - T))
        y_BTD, targets_BT = jnp.pad(y_BTD, (*padding, (0, 0))), jnp.pad(targets_BT, padding)  # padding weighs nothing
        parts = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(B, chunks, chunk, *x.shape[2:]), 1, 0), (y_BTD, targets_BT)
        )
        return _summed(lambda output, y, targets: self.sums(logits_of(output, y), targets), output, *parts)


def loss_sums(
    model: T5, loss: Loss, params: Any, batch: dict[str, jax.Array], dropout_rng: jax.Array | None = None
) -> dict[str, jax.Array]:
    """The loss's sums over a batch (see batches.Batches); with dropout where a key for it is given."""
    states_BTD = t5.states(model, params, batch, dropout_rng)
    output, targets_BT = t5.output_parameters(model.config, params), batch["decoder_target_tokens"]
    if loss.pieces is not None:
        pieces = np.array(loss.pieces)
        place_of = np.zeros(model.config.vocab_size, np.int32)
        place_of[pieces] = np.arange(len(pieces))
        output, targets_BT = t5.columns(model.config, output, pieces), jnp.asarray(place_of)[targets_BT]
    logits_of = functools.partial(t5.logits, model)
    return loss.sums_of_states(logits_of, output, states_BTD, targets_BT, model.config.logits_at_once)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(of_part: Callable, shared: Any, x_parts: jax.Array, targets_parts: jax.Array) -> dict[str, jax.Array]:
    """The sum of `of_part(shared, x, targets)` over the parts. Its derivative is that of "loss_sum" alone."""
    return _scan_sum(lambda part: of_part(shared, *part), (x_parts, targets_parts))


def _summed_forward(of_part: Callable, shared: Any, x_parts: jax.Array, targets_parts: jax.Array):
    # The derivative of a sum is known but for a factor: it is taken here, where a part's logits are at hand, and the
    # backward pass neither keeps them nor computes them again.
    def of(part):
        def loss_sum(shared, x):
            sums = of_part(shared, x, part[1])
            return sums["loss_sum"], sums

        (d_shared, d_x), sums = jax.grad(loss_sum, argnums=(0, 1), has_aux=True)(shared, part[0])
        return (sums, d_shared), d_x

    (sums, d_shared), d_x_parts = _scan_sum(of, (x_parts, targets_parts), has_aux=True)
    return sums, (d_shared, d_x_parts)


def _summed_backward(of_part: Callable, residuals: Any, d_sums: dict[str, jax.Array]):
    d_shared, d_x_parts = jax.tree.map(lambda d: (d_sums["loss_sum"] * d).astype(d.dtype), residuals)
    return d_shared, d_x_parts, None


_summed.defvjp(_summed_forward, _summed_backward)


def _scan_sum(of_part: Callable, parts: Any, has_aux: bool = False) -> Any:
    """The sum over the leading axis of `of_part(part)`; with `has_aux` of its first output, the second is stacked.

    It begins with the first part: adding that to zeros would be two more passes over a gradient by all embeddings.
    """
    split = of_part if has_aux else lambda part: (of_part(part), None)

    def add(total, part):
        value, aux = split(part)
        return jax.tree.map(jnp.add, total, value), aux

    first, first_aux = split(jax.tree.map(lambda x: x[0], parts))
    total, aux = jax.lax.scan(add, first, jax.tree.map(lambda x: x[1:], parts))
    if not has_aux:
        return total
    return total, jax.tree.map(lambda x, more: jnp.concatenate([x[None], more]), first_aux, aux)


@jax.custom_vjp
def target_logits(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    return _taken(logits_BTV, targets_BT)


def _taken(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    return jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]


def _target_logits_forward(logits_BTV: jax.Array, targets_BT: jax.Array):
    return target_logits(logits_BTV, targets_BT), (logits_BTV, targets_BT)


def _target_logits_backward(residuals: tuple[jax.Array, jax.Array], d_BT: jax.Array):
    logits_BTV, targets_BT = residuals

    def scattered(targets_BT, d_BT):
        return jax.vjp(lambda logits: _taken(logits, targets_BT), logits_BTV)[1](d_BT)[0]

    def compared(targets_BT, d_BT):  # a part of the pass that writes all of the logits' derivative
        tokens_V = jnp.arange(logits_BTV.shape[-1], dtype=jnp.int32)
        return jnp.where(tokens_V == targets_BT[..., None], d_BT[..., None], 0.0)

    # Compared, a CPU's pass takes longer.
    return jax.lax.platform_dependent(targets_BT, d_BT, cuda=compared, default=scattered), None


target_logits.defvjp(_target_logits_forward, _target_logits_backward)


def cross_entropy(
    logits_BTV: jax.Array, targets_BT: jax.Array, label_smoothing: float = 0.0, z_loss: float = 0.0
) -> jax.Array:
    """Cross entropy [B, T] in nats against smoothed one-hot targets, less their entropy: a perfect model scores 0.

    The z-loss adds z_loss * log(Z)^2, which keeps the softmax's normaliser near 1 (Chowdhery et al. 2022, section 5).
    """
    log_z_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    target_logit_BT = target_logits(logits_BTV, targets_BT)
    loss_BT = log_z_BT - target_logit_BT
    if label_smoothing:
        V = logits_BTV.shape[-1]
        on, off = 1.0 - label_smoothing, label_smoothing / (V - 1)
        entropy = -(on * np.log(on) + (V - 1) * off * np.log(off))
        others_BT = jnp.sum(logits_BTV, axis=-1) - target_logit_BT
        loss_BT = log_z_BT - on * target_logit_BT - off * others_BT - entropy
    return loss_BT + z_loss * jnp.square(log_z_BT)
