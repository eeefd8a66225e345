"""What would make a train step need less memory, the nearest change first, and what each would need."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import optax

from explainft.model.execution import REMAT_POLICIES
from explainft.model.loss import Loss, loss_sums
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.training.train_state import abstract_state, init_state

KEPT_SHARE = 0.5
OTHER_ROWS = 10_007  # a prime, which no product of rows and a length is a multiple of


@dataclasses.dataclass(frozen=True)
class Choice:
    """The settings of a recipe that trade time for memory."""

    model_parallelism: int = 1
    fsdp: bool = False
    microbatches: int = 1
    remat_policy: str = "none"

    def words(self, before: "Choice | None" = None) -> str:
        """As macros; those alone that differ from `before`."""
        return " ".join(
            f"{name.upper()}={value}"
            for name, value in dataclasses.asdict(self).items()
            if before is None or value != getattr(before, name)
        )


def choices(now: Choice, devices: int) -> Iterator[Choice]:
    """All that need less memory than `now`: first what leaves the layout as it is, then FSDP, then model parallelism.

    In each layout, what costs least time comes first: computing a part of the activations again, then all, then
    microbatches one after the other.
    """
    policies = list(REMAT_POLICIES)
    policies = policies[policies.index(now.remat_policy) :]
    layouts = [(now.model_parallelism, now.fsdp), (now.model_parallelism, True)]
    n = now.model_parallelism * 2
    while n <= devices:
        layouts += [(n, now.fsdp), (n, True)]
        n *= 2
    for model_parallelism, fsdp in dict.fromkeys(layouts):
        found = [Choice(model_parallelism, fsdp, now.microbatches, policy) for policy in policies]
        found += [Choice(model_parallelism, fsdp, now.microbatches * n, policies[-1]) for n in (2, 4, 8)]
        yield from (choice for choice in found if choice != now)


class Estimate:
    """About the memory of a train step, in bytes a chip, without compiling it.

    Counts the state, gradients placed like the parameters, and half of what the backward pass keeps, shared by all
    chips: XLA computes cheap values again in the fusions that read them.
    """

    def __init__(self, model: T5, tx: Any, loss: Loss, batch: dict[str, jax.ShapeDtypeStruct], devices: list):
        self.model, self.tx, self.loss, self.batch, self.devices = model, tx, loss, batch, devices
        self.rows = batch["decoder_target_tokens"].shape[0]
        self._kept: dict[tuple[str, int], int] = {}

    def state(self, choice: Choice) -> int:
        """The state and the gradients alone. Raises UserError where the network or the batch does not divide."""
        mesh = sharding.make_mesh(choice.model_parallelism, self.devices)
        sharding.check_model(self.model.config, mesh, choice.fsdp)
        sharding.check_batch(self.rows, mesh, choice.microbatches)
        like = abstract_state(self.model.config, self.tx, mesh, choice.fsdp)
        return bytes_a_chip(like) + bytes_a_chip(like.params)

    def __call__(self, choice: Choice, enough: float = math.inf) -> float:
        """Leaves out the activations where the rest is more than `enough`: to count them takes seconds."""
        needed = self.state(choice)
        if needed > enough:
            return needed
        key = choice.remat_policy, choice.microbatches
        if key not in self._kept:
            model = with_remat_policy(self.model, choice.remat_policy)
            self._kept[key] = kept_bytes(model, self.loss, self.batch, self.rows // choice.microbatches)
        return needed + KEPT_SHARE * self._kept[key] / len(self.devices)


def with_remat_policy(model: T5, remat_policy: str) -> T5:
    return T5(model.config, dataclasses.replace(model.execution, remat_policy=remat_policy))


def bytes_a_chip(tree: Any) -> int:
    return sum(x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree))


def kept_bytes(model: T5, loss: Loss, batch: dict[str, jax.ShapeDtypeStruct], rows: int) -> int:
    """What the backward pass of that many rows keeps of the forward pass, on all chips together; no parameters."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(lambda: init_state(model.config, optax.identity(), 0)).params

    def kept(rows: int) -> Counter[tuple[tuple[int, ...], int]]:
        def backward(params: Any, batch: dict[str, jax.Array], key: jax.Array) -> Any:
            def loss_sum(params: Any) -> jax.Array:
                return loss_sums(model, loss, params, batch, dropout_rng=key)["loss_sum"]

            return jax.vjp(loss_sum, params)[1]

        unplaced = {name: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype) for name, x in batch.items()}
        return Counter(
            (x.shape, x.dtype.itemsize) for x in jax.tree.leaves(jax.eval_shape(backward, params, unplaced, key))
        )

    # What has one shape whatever the rows is a parameter or made of one.
    of_rows = kept(rows) - kept(OTHER_ROWS)
    return sum(count * itemsize * math.prod(shape) for (shape, itemsize), count in of_rows.items())
