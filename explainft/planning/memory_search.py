"""What would make a train step need less memory, the nearest change first, and what each would need."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax

from explainft.core.errors import UserError
from explainft.model.execution import REMAT_POLICIES
from explainft.model.t5 import T5
from explainft.model.verifier_losses import AnyLoss
from explainft.parallel import sharding
from explainft.planning.compiler import OutOfMemory, Program
from explainft.training.train_state import abstract_state, init_state

MAX_COMPILATIONS = 3  # of configs that might fit
SAVED_FRACTION = 0.5  # of the activations: XLA rematerializes cheap ones in the fusions that read them
OTHER_ROWS = 10_007  # a prime, which no product of rows and a length is a multiple of


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
    """The settings of a recipe that trade time for memory."""

    model_parallelism: int = 1
    fsdp: bool = False
    microbatches: int = 1
    remat_policy: str = "none"

    def flags(self, before: "MemoryConfig | None" = None) -> str:
        """Formats them as macros; only those that differ from `before`."""
        return " ".join(
            f"{name.upper()}={value}"
            for name, value in dataclasses.asdict(self).items()
            if before is None or value != getattr(before, name)
        )


def configs_with_less_memory(current: MemoryConfig, num_devices: int) -> Iterator[MemoryConfig]:
    """Yields all configs that need less memory: first of the same layout, then FSDP, then more model parallelism.

    In each layout, what costs least time comes first: rematerialize a part of the activations, then all, then
    accumulate the gradients of microbatches.
    """
    policies = list(REMAT_POLICIES)
    policies = policies[policies.index(current.remat_policy) :]
    layouts = [(current.model_parallelism, current.fsdp), (current.model_parallelism, True)]
    n = current.model_parallelism * 2
    while n <= num_devices:
        layouts += [(n, current.fsdp), (n, True)]
        n *= 2
    for model_parallelism, fsdp in dict.fromkeys(layouts):
        configs = [MemoryConfig(model_parallelism, fsdp, current.microbatches, policy) for policy in policies]
        configs += [MemoryConfig(model_parallelism, fsdp, current.microbatches * n, policies[-1]) for n in (2, 4, 8)]
        yield from (config for config in configs if config != current)


def nearest_fitting_config(
    current: MemoryConfig,
    num_devices: int,
    available: float,
    estimate: Callable[[MemoryConfig, float], float],
    compile: Callable[[MemoryConfig], Program | OutOfMemory],
) -> tuple[MemoryConfig, Program] | None:
    """Returns the first config that fits `available` bytes, with its program.

    Skips those that cannot by the estimate, and compiles at most MAX_COMPILATIONS.
    """
    compilations = 0
    for config in configs_with_less_memory(current, num_devices):
        try:
            if estimate(config, available) > available:
                continue
            program = compile(config)
        except UserError:  # the model or the batch does not divide
            continue
        if isinstance(program, Program):
            return config, program
        compilations += 1
        if compilations == MAX_COMPILATIONS:
            break
    return None


class MemoryEstimate:
    """About the memory of a train step, in bytes per device, without compiling it.

    Counts the state, gradients sharded like the parameters, and SAVED_FRACTION of what the backward pass saves, divided
    by all devices.
    """

    def __init__(self, model: T5, tx: Any, loss: AnyLoss, batch: dict[str, jax.ShapeDtypeStruct], devices: list):
        self.model, self.tx, self.loss, self.batch, self.devices = model, tx, loss, batch, devices
        self.rows = batch["decoder_target_tokens"].shape[0]
        self._saved: dict[tuple[str, int], int] = {}

    def state(self, config: MemoryConfig) -> int:
        """Returns the bytes of state and gradients. Raises UserError where the model or the batch does not divide."""
        mesh = sharding.make_mesh(config.model_parallelism, self.devices)
        sharding.check_model(self.model.config, mesh, config.fsdp)
        sharding.check_batch(self.rows, mesh, config.microbatches)
        abstract = abstract_state(self.model.config, self.tx, mesh, config.fsdp)
        return bytes_per_device(abstract) + bytes_per_device(abstract.params)

    def __call__(self, config: MemoryConfig, available: float = math.inf) -> float:
        """Returns the estimate; without the activations, which take seconds to count, if the rest is too much."""
        needed = self.state(config)
        if needed > available:
            return needed
        key = config.remat_policy, config.microbatches
        if key not in self._saved:
            execution = dataclasses.replace(self.model.execution, remat_policy=config.remat_policy)
            model, rows = T5(self.model.config, execution), self.rows // config.microbatches
            self._saved[key] = saved_bytes(model, self.loss, self.batch, rows)
        return needed + SAVED_FRACTION * self._saved[key] / len(self.devices)


def bytes_per_device(tree: Any) -> int:
    """Returns the bytes that the shards of these arrays take on one device."""
    return sum(x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree))


def saved_bytes(model: T5, loss: AnyLoss, batch: dict[str, jax.ShapeDtypeStruct], rows: int) -> int:
    """Returns the bytes that the backward pass of that many rows saves of the forward pass, without parameters."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(lambda: init_state(model.config, optax.identity(), 0)).params

    def residuals(rows: int) -> Counter[tuple[tuple[int, ...], int]]:
        def backward(params: Any, batch: dict[str, jax.Array], key: jax.Array) -> Any:
            def loss_sum(params: Any) -> jax.Array:
                return loss.batch_sums(model, params, batch, dropout_rng=key)["loss_sum"]

            return jax.vjp(loss_sum, params)[1]

        unsharded = {name: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype) for name, x in batch.items()}
        return Counter(
            (x.shape, x.dtype.itemsize) for x in jax.tree.leaves(jax.eval_shape(backward, params, unsharded, key))
        )

    # What has one shape whatever the rows is a parameter or made of one.
    of_rows = residuals(rows) - residuals(OTHER_ROWS)
    return sum(count * itemsize * math.prod(shape) for (shape, itemsize), count in of_rows.items())
