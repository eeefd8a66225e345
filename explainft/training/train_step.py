"""The train step: gradients of a batch, and the optimizer's update."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from explainft.model.t5 import T5
from explainft.model.verifier_losses import AnyLoss
from explainft.training.train_state import TrainState


def gradient_sums(model: T5, loss: AnyLoss, microbatches: int = 1) -> Callable:
    """Returns (params, batch, rng) -> gradients of the summed loss and the sums, over microbatches in sequence."""

    def loss_sum(params, batch, rng):
        sums = loss.batch_sums(model, params, batch, dropout_rng=rng)
        return sums["loss_sum"], sums

    def gradients(params, batch, rng):
        if microbatches == 1:
            return jax.grad(loss_sum, has_aux=True)(params, batch, rng)
        # Rows i, i + n, ... form microbatch i: each device keeps its own rows when the batch is split over devices.
        parts = jax.tree.map(lambda x: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1), batch)

        def add(total, part_and_rng):
            part, rng = part_and_rng
            return jax.tree.map(jnp.add, total, jax.grad(loss_sum, has_aux=True)(params, part, rng)), None

        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype),
            jax.eval_shape(jax.grad(loss_sum, has_aux=True), params, jax.tree.map(lambda x: x[0], parts), rng),
        )
        return jax.lax.scan(add, zeros, (parts, jax.random.split(rng, microbatches)))[0]

    return gradients


def make_train_step(
    model: T5,
    tx: optax.GradientTransformation,
    loss: AnyLoss,
    seed: int,
    microbatches: int = 1,
    shardings: TrainState | None = None,
) -> Callable:
    """Returns a jitted step (state, batch) -> (state, sums). It donates the old state: do not read that afterwards.

    `shardings`: those that the state keeps; None leaves them to the compiler.
    """
    gradients = gradient_sums(model, loss, microbatches)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=None if shardings is None else (shardings, None))
    def step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, dict[str, jax.Array]]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, sums = gradients(state.params, batch, rng)
        denominator = loss.denominator(batch)
        grads = jax.tree.map(lambda g: g / denominator, grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        segments = jnp.max(batch["decoder_segment_ids"], axis=-1)
        target_tokens = jnp.sum(batch["decoder_segment_ids"] > 0)
        tokens = jnp.sum(batch["encoder_segment_ids"] > 0) + target_tokens
        sums = {**sums, "examples": jnp.sum(segments), "tokens": tokens, "target_tokens": target_tokens}
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), sums

    return step
