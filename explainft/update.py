"""The update of a network's parameters by a batch, and several updates as one computation."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from explainft import sharding
from explainft.evaluate import loss_sums
from explainft.loss import Loss
from explainft.t5 import T5, T5Config
from explainft.train_state import TrainState

AT_ONCE = 8  # updates in one computation, at most
SECONDS_AT_ONCE = 10.0


def gradient_sums(config: T5Config, loss: Loss, microbatches: int = 1) -> Callable:
    """(params, batch, rng) -> gradients of the summed loss, and its sums; in parts that run after each other."""
    model = T5(config)

    def loss_sum(params, batch, rng):
        sums = loss_sums(model, loss, params, batch, dropout_rng=rng)
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


def make_step(
    config: T5Config,
    tx: optax.GradientTransformation,
    loss: Loss,
    seed: int,
    microbatches: int = 1,
    places: TrainState | None = None,
) -> Callable:
    """A jitted update (state, batch) -> (state, sums). The old state's memory is reused: do not read it afterwards.

    `places`: the shardings that the state keeps; None leaves them to the compiler.
    """
    gradients = gradient_sums(config, loss, microbatches)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=None if places is None else (places, None))
    def step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, dict[str, jax.Array]]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, sums = gradients(state.params, batch, rng)
        denominator = loss.denominator(batch["decoder_target_tokens"])
        grads = jax.tree.map(lambda g: g / denominator, grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        segments_B = jnp.max(batch["decoder_segment_ids"], axis=1)
        tokens = jnp.sum(batch["encoder_segment_ids"] > 0) + sums["weight_sum"]
        sums = {**sums, "examples": jnp.sum(segments_B), "tokens": tokens}
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), sums

    return step


class Updates:
    """Updates one after the other, each of the next batch. Where one CPU trains, several are one computation.

    XLA takes a computation's temporary arrays, hundreds of MiB, from the system and gives them back at its end: to
    fault in their pages at each update is up to a seventh of its time. There are as many in a call as take
    SECONDS_AT_ONCE, which a signal may have to wait for. What they compute does not depend on how many there are.
    """

    def __init__(self, step: Callable, mesh: jax.sharding.Mesh, at_most: int = AT_ONCE):
        """`step`: of make_step."""
        self.at_once = 1  # until it is known how long they take
        self._step, self._mesh, self._at_most = step, mesh, at_most
        self._loop_jit = jax.jit(self._loop, donate_argnums=0)

    def __call__(
        self, state: TrainState, batches: Sequence[dict[str, np.ndarray]]
    ) -> tuple[TrainState, list[dict[str, Any]]]:
        """The state after one to `at_once` batches, and the sums of each. The old state's memory is reused."""
        if not sharding.are_one_cpu(self._mesh.devices.flat):
            state, sums = self._step(state, sharding.put_batch(batches[0], self._mesh))
            return state, [sums]
        begun = time.perf_counter()
        padded = [*batches, *[batches[-1]] * (AT_ONCE - len(batches))]
        state, sums = self._loop_jit(state, jax.tree.map(lambda *x: np.stack(x), *padded), len(batches))
        sums = jax.device_get(sums)
        seconds = (time.perf_counter() - begun) / len(batches)
        self.at_once = max(1, min(self._at_most, int(SECONDS_AT_ONCE / seconds)))
        return state, [{name: found[i] for name, found in sums.items()} for i in range(len(batches))]

    def _loop(
        self, state: TrainState, batches: dict[str, jax.Array], count: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Updates by the first `count` of AT_ONCE batches, stacked as the sums are: one compilation for all counts."""

        def add(i: jax.Array, done: tuple[TrainState, dict[str, jax.Array]]):
            state, sums = self._step(done[0], jax.tree.map(lambda x: x[i], batches))
            return state, jax.tree.map(lambda all_of_them, new: all_of_them.at[i].set(new), done[1], sums)

        _, one = jax.eval_shape(self._step, state, jax.tree.map(lambda x: x[0], batches))
        sums = jax.tree.map(lambda x: jnp.zeros((AT_ONCE, *x.shape), x.dtype), one)
        return jax.lax.fori_loop(0, count, add, (state, sums))
