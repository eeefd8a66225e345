"""Cross entropy over a vocabulary, as sums: divide once, where the whole batch is known."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.errors import UserError, nearest, require_at_least_zero
from explainft.data.vocabulary import Vocabulary
from explainft.model.config import T5Config
from explainft.model.t5 import T5, output_columns, output_parameters

LOSS_WEIGHTS = "decoder_loss_weights"  # a feature of some batches, see data/target_parts.py
NORMALIZERS = ("NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS")


@dataclasses.dataclass(frozen=True)
class Loss:
    """Defines what is minimised: cross entropy, its smoothing, the z-loss, and the divisor of the sum over a batch.

    `normalizing_factor` is a number, None (the plain sum, as in T5X), "NUM_REAL_TARGET_TOKENS" or
    "NUM_TOTAL_TARGET_TOKENS" (padding counted). A fixed number weighs every token alike, however full its batch is.
    """

    z_loss: float = 0.0
    label_smoothing: float = 0.0
    normalizing_factor: float | str | None = "NUM_REAL_TARGET_TOKENS"
    # The token ids that the output layer has, 0 first; targets hold no others. None: the whole vocabulary.
    output_ids: tuple[int, ...] | None = None
    group: ClassVar[int] = 1  # examples that the loss compares, which no batch splits

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

    def denominator(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns what the loss of this batch is divided by. Loss weights, where it has some, stand for tokens."""
        if self.normalizing_factor == "NUM_REAL_TARGET_TOKENS":
            weight = jnp.sum(loss_weights(batch))
            return jnp.where(weight > 0.0, weight, 1.0)
        if self.normalizing_factor == "NUM_TOTAL_TARGET_TOKENS":
            return jnp.float32(batch["decoder_target_tokens"].size)
        return jnp.float32(1.0 if self.normalizing_factor is None else self.normalizing_factor)

    def pair_labels(self, vocabulary: Vocabulary) -> None:
        """Returns None: any examples form a batch."""

    def for_task(self, vocabulary: Vocabulary, output_ids: Sequence[int] | None) -> "Loss":
        """Returns the loss for a task of this vocabulary whose outputs hold the `output_ids` alone (None: all)."""
        return self if output_ids is None else dataclasses.replace(self, output_ids=(0, *output_ids))

    def batch_sums(
        self, model: T5, params: Any, batch: Mapping[str, jax.Array], dropout_rng: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Computes the sums over a batch (see batches.Batches); applies dropout where `dropout_rng` is given."""
        rngs = None if dropout_rng is None else {"dropout": dropout_rng}
        tokens: Any = {name: feature for name, feature in batch.items() if name != LOSS_WEIGHTS}
        deterministic = dropout_rng is None
        y_BTD: Any = model.apply(
            {"params": params}, **tokens, deterministic=deterministic, rngs=rngs, method=T5.hidden_states
        )
        output, column_of = output_layer(model.config, params, self.output_ids)
        targets_BT = batch["decoder_target_tokens"]
        if column_of is not None:
            targets_BT = jnp.asarray(column_of)[targets_BT]

        def compute_logits(output: Any, y_BTD: jax.Array) -> Any:
            return model.apply({"params": output}, y_BTD, method=T5.logits)

        return self.sums_of_hidden_states(
            compute_logits, output, y_BTD, targets_BT, loss_weights(batch), model.execution.max_logits
        )

    def sums(
        self, logits_BTV: jax.Array, targets_BT: jax.Array, weights_BT: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Sums loss_sum (z-loss included), correct_sum and weight_sum over tokens by their weights.

        A token is correct if no other has a larger logit. Without weights each token has 1, and padding 0.
        """
        if weights_BT is None:
            weights_BT = (targets_BT > 0).astype(jnp.float32)
        loss_BT = cross_entropy(logits_BTV, targets_BT, self.label_smoothing, self.z_loss)
        # Not argmax, which XLA computes element by element on a CPU: a tenth of a step.
        correct_BT = target_logits(logits_BTV, targets_BT) >= jnp.max(logits_BTV, axis=-1)
        return {
            "loss_sum": jnp.sum(loss_BT * weights_BT),
            "correct_sum": jnp.sum(correct_BT * weights_BT),
            "weight_sum": jnp.sum(weights_BT),
        }

    def sums_of_hidden_states(
        self,
        compute_logits: Callable[[Any, jax.Array], jax.Array],
        output: Any,
        y_BTD: jax.Array,
        targets_BT: jax.Array,
        weights_BT: jax.Array,
        max_logits: int,
    ) -> dict[str, jax.Array]:
        """Computes the same sums from the decoder's final hidden states, with about `max_logits` at once on a device.

        `compute_logits(output, y_BTD)` returns the logits; `output` holds the parameters of the output layer alone.
        loss_sum has a first gradient, with respect to `output` and `y_BTD`.
        """
        B, T = targets_BT.shape
        V = jax.eval_shape(compute_logits, output, y_BTD).shape[-1]
        devices = jax.sharding.get_abstract_mesh().shape.get("data", 1)
        chunk = max(1, max_logits * devices // (B * V))
        if chunk >= T:
            return self.sums(compute_logits(output, y_BTD), targets_BT, weights_BT)
        chunks = -(-T // chunk)
        chunk = -(-T // chunks)
        padding = ((0, 0), (0, chunks * chunk - T))
        y_BTD = jnp.pad(y_BTD, (*padding, (0, 0)))
        targets_BT, weights_BT = jnp.pad(targets_BT, padding), jnp.pad(weights_BT, padding)  # padding weighs nothing
        y_chunks, *tokens_chunks = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(B, chunks, chunk, *x.shape[2:]), 1, 0), (y_BTD, targets_BT, weights_BT)
        )

        def sums_of_chunk(output, y_BTD, tokens):
            return self.sums(compute_logits(output, y_BTD), *tokens)

        return _sum_chunks(sums_of_chunk, output, y_chunks, tokens_chunks)


def loss_weights(batch: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the loss weight [B, T] of each target token: that of the batch, else 1, and 0 for padding."""
    if LOSS_WEIGHTS in batch:
        return batch[LOSS_WEIGHTS]
    return (batch["decoder_target_tokens"] > 0).astype(jnp.float32)


def output_layer(config: T5Config, params: Any, output_ids: Sequence[int] | None) -> tuple[Any, np.ndarray | None]:
    """Returns the parameters of an output layer with these token ids alone (None: all), and the column of each id."""
    output = output_parameters(config, params)
    if output_ids is None:
        return output, None
    ids = np.array(output_ids)
    column_of = np.zeros(config.vocab_size, np.int32)
    column_of[ids] = np.arange(len(ids))
    return output_columns(config, output, ids), column_of


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_chunks(f: Callable, shared: Any, x_chunks: jax.Array, targets_chunks: list[jax.Array]) -> dict[str, jax.Array]:
    """Sums `f(shared, x, targets and weights)` over the chunks. Its gradient is that of "loss_sum" alone."""
    return _scan_sum(lambda chunk: f(shared, *chunk), (x_chunks, targets_chunks))


def _sum_chunks_forward(f: Callable, shared: Any, x_chunks: jax.Array, targets_chunks: list[jax.Array]):
    # The gradient of a sum is known up to a factor. It is computed here, where a chunk's logits exist: the backward
    # pass neither keeps nor rematerializes them.
    def differentiate(chunk):
        def loss_sum(shared, x):
            sums = f(shared, x, chunk[1])
            return sums["loss_sum"], sums

        (d_shared, d_x), sums = jax.grad(loss_sum, argnums=(0, 1), has_aux=True)(shared, chunk[0])
        return (sums, d_shared), d_x

    (sums, d_shared), d_x_chunks = _scan_sum(differentiate, (x_chunks, targets_chunks), has_aux=True)
    return sums, (d_shared, d_x_chunks)


def _sum_chunks_backward(f: Callable, residuals: Any, d_sums: dict[str, jax.Array]):
    d_shared, d_x_chunks = jax.tree.map(lambda d: (d_sums["loss_sum"] * d).astype(d.dtype), residuals)
    return d_shared, d_x_chunks, None


_sum_chunks.defvjp(_sum_chunks_forward, _sum_chunks_backward)


def _scan_sum(f: Callable, chunks: Any, has_aux: bool = False) -> Any:
    """Sums `f(chunk)` over the leading axis of `chunks`; with `has_aux` stacks its second output.

    The first chunk starts the sum: to add it to zeros would be two more passes over the gradient of the embedding.
    """
    split = f if has_aux else lambda chunk: (f(chunk), None)

    def add(total, chunk):
        value, aux = split(chunk)
        return jax.tree.map(jnp.add, total, value), aux

    first, first_aux = split(jax.tree.map(lambda x: x[0], chunks))
    total, aux = jax.lax.scan(add, first, jax.tree.map(lambda x: x[1:], chunks))
    if not has_aux:
        return total
    return total, jax.tree.map(lambda x, more: jnp.concatenate([x[None], more]), first_aux, aux)


@jax.custom_vjp
def target_logits(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """Returns the logit [B, T] of each target."""
    return _take_targets(logits_BTV, targets_BT)


def _take_targets(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    return jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]


def _target_logits_forward(logits_BTV: jax.Array, targets_BT: jax.Array):
    return target_logits(logits_BTV, targets_BT), (logits_BTV, targets_BT)


def _target_logits_backward(residuals: tuple[jax.Array, jax.Array], d_BT: jax.Array):
    logits_BTV, targets_BT = residuals

    def scatter(targets_BT, d_BT):
        return jax.vjp(lambda logits: _take_targets(logits, targets_BT), logits_BTV)[1](d_BT)[0]

    def compare(targets_BT, d_BT):  # fuses with the pass that writes the gradient of all logits
        tokens_V = jnp.arange(logits_BTV.shape[-1], dtype=jnp.int32)
        return jnp.where(tokens_V == targets_BT[..., None], d_BT[..., None], 0.0)

    # On a CPU the comparison is slower.
    return jax.lax.platform_dependent(targets_BT, d_BT, cuda=compare, default=scatter), None


target_logits.defvjp(_target_logits_forward, _target_logits_backward)


def cross_entropy(
    logits_BTV: jax.Array, targets_BT: jax.Array, label_smoothing: float = 0.0, z_loss: float = 0.0
) -> jax.Array:
    """Returns the cross entropy [B, T], in nats, with smoothed targets, less their entropy: a perfect model scores 0.

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
