"""Teacher-forced evaluation: loss and token accuracy."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from explainft.data.batches import Batches
from explainft.model.t5 import T5
from explainft.model.verifier_losses import AnyLoss
from explainft.parallel import sharding


@functools.partial(jax.jit, static_argnums=(0, 1))
def _loss_sums(model: T5, loss: AnyLoss, params: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return loss.batch_sums(model, params, batch)


def evaluate_loss(
    model: T5,
    loss: AnyLoss,
    params: Any,
    batches: Batches,
    mesh: jax.sharding.Mesh,
    steps: int,
    between_batches: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Returns loss and token accuracy of the first `steps` batches of one pass in order, as means over tokens."""
    totals: dict[str, float] = {}
    for i in range(min(steps, batches.epoch_batches())):
        between_batches()
        sums = _loss_sums(model, loss, params, sharding.put_batch(batches.ordered(i), mesh))
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + float(value)
    weight = totals["weight_sum"]
    return {"loss": totals["loss_sum"] / weight, "accuracy": totals["correct_sum"] / weight}
