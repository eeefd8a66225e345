"""The same numbers from explainft, and the difference of two sets of numbers."""

import functools

import jax
import numpy as np
import optax

from explainft.model.config import T5Config
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.training import optimizers
from tests.golden.cases import Flat, flatten


def relative_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest absolute difference, in units of the expected array's largest absolute value."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    return float(np.abs(actual - expected.astype(np.float64)).max() / np.abs(expected).max())


def largest_difference(actual: Flat, expected: Flat) -> tuple[float, str]:
    """Returns the largest `relative_difference` of an array, and its path."""
    assert set(actual) == set(expected)
    return max((relative_difference(actual[path], expected[path]), path) for path in expected)


def loss_and_gradients(config: T5Config, params, batch, loss: Loss) -> tuple[np.ndarray, float, Flat]:
    """Returns logits [B, T, V], the loss and its gradients."""
    logits, value, gradients = _step(config, loss, params, {k: v for k, v in batch.items() if "positions" not in k})
    return np.asarray(logits), float(value), flatten(gradients)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step(config: T5Config, loss: Loss, params, batch):
    def objective(params):
        logits_BTV = T5(config).apply({"params": params}, **batch)
        return _objective(logits_BTV, batch, loss), logits_BTV

    (value, logits_BTV), gradients = jax.value_and_grad(objective, has_aux=True)(params)
    return logits_BTV, value, gradients


def loss_of_logits(logits_BTV: np.ndarray, batch, loss: Loss) -> tuple[float, np.ndarray]:
    """Returns the loss of a padded batch for these logits, and its gradient with respect to them."""
    value, gradient = jax.jit(jax.value_and_grad(_objective), static_argnums=2)(logits_BTV, batch, loss)
    return float(value), np.asarray(gradient)


def _objective(logits_BTV: jax.Array, batch, loss: Loss) -> jax.Array:
    targets_BT = batch["decoder_target_tokens"]
    return loss.sums(logits_BTV, targets_BT)["loss_sum"] / loss.denominator(batch)


class Adafactor:
    """explainft's Adafactor with access to its slots."""

    def __init__(self, params, learning_rate: float, step_offset: int = 0):
        tx = optimizers.adafactor(lambda _: learning_rate, step_offset=step_offset)
        self.params, self.state = params, tx.init(params)
        self._update = jax.jit(tx.update)

    def go_to(self, step: int) -> None:
        """Sets the step: the counts are the only integers of the state."""
        self.state = jax.tree.map(
            lambda x: np.full_like(x, step) if np.issubdtype(x.dtype, np.integer) else x, self.state
        )

    def update(self, gradients) -> tuple[Flat, dict[str, Flat]]:
        """Returns parameters by path after the update, and slots by name: v, v_row, v_col, [1] where there is none."""
        updates, self.state = self._update(gradients, self.state, self.params)
        self.params = optax.apply_updates(self.params, updates)
        factored = next(s for s in jax.tree.leaves(self.state, is_leaf=_is_factored) if _is_factored(s))
        return flatten(self.params), {name: flatten(getattr(factored, name)) for name in ("v", "v_row", "v_col")}


def _is_factored(state) -> bool:
    return hasattr(state, "v_row")
