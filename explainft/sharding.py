"""The device mesh, and which part of what lies where. One CPU is the (1, 1) mesh: no other module counts devices."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from explainft.errors import UserError
from explainft.t5 import T5Config
from explainft.weights import leaf_name, named_leaves

# The logical axes of each parameter by the last parts of its name, and T5X's standard rules for them.
LOGICAL_AXES = {
    "token_embedder/embedding": ("vocab", "embed"),
    "relpos_bias/rel_embedding": ("heads", "relpos_buckets"),
    "query/kernel": ("embed", "joined_kv"),
    "key/kernel": ("embed", "joined_kv"),
    "value/kernel": ("embed", "joined_kv"),
    "out/kernel": ("joined_kv", "embed"),
    "wi/kernel": ("embed", "mlp"),
    "wi_0/kernel": ("embed", "mlp"),
    "wi_1/kernel": ("embed", "mlp"),
    "wo/kernel": ("mlp", "embed"),
    "logits_dense/kernel": ("embed", "vocab"),
}
OVER_MODEL = ("vocab", "heads", "joined_kv", "mlp")


def make_mesh(model_parallelism: int = 1) -> Mesh:
    """A ("data", "model") mesh over all devices: `model_parallelism` of them share each copy of the network."""
    devices = jax.device_count()
    if model_parallelism < 1 or devices % model_parallelism:
        fits = [n for n in range(1, devices + 1) if devices % n == 0]
        raise UserError(
            f"MODEL_PARALLELISM={model_parallelism} does not divide the {devices} devices; it can be "
            f"{', '.join(map(str, fits))}"
        )
    # Auto, not today's default of Explicit axes, under which Linen modules fail.
    shape = (devices // model_parallelism, model_parallelism)
    return jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def check_batch(batch_size: int, mesh: Mesh, microbatches: int = 1) -> None:
    """Refuses a BATCH_SIZE that does not divide into equal microbatches on all data-parallel devices."""
    parts = mesh.shape["data"] * microbatches
    if batch_size < 1 or batch_size % parts:
        near = max(parts, batch_size - batch_size % parts)
        raise UserError(
            f"BATCH_SIZE={batch_size} must be a positive multiple of {parts} ({mesh.shape['data']} data-parallel "
            f"devices x MICROBATCHES={microbatches}); try {near}"
        )


def check_model(config: T5Config, mesh: Mesh) -> None:
    """Refuses a network whose heads, feed-forward width or vocabulary do not divide over `model`."""
    n = mesh.shape["model"]
    for name in ("num_heads", "mlp_dim", "vocab_size"):
        size = getattr(config, name)
        if size % n:
            fits = [d for d in range(1, n) if size % d == 0]
            raise UserError(f"{name}={size} does not divide by MODEL_PARALLELISM={n}; it divides by {fits}")


def places(tree: Any, parameters: Any, mesh: Mesh) -> Any:
    """Where each array of a state goes: like the parameter at the end of its path if it has its shape, else everywhere.

    `parameters` is the tree of parameters, or of their shapes; `tree` may be that tree, or hold it several times, as an
    optimizer's state does.
    """
    shapes = {name: leaf.shape for name, leaf in named_leaves(parameters).items()}

    def place(path: jax.tree_util.KeyPath, leaf: Any) -> NamedSharding:
        parts = leaf_name(path).split("/")
        ends = ("/".join(parts[i:]) for i in range(len(parts)))
        name = next((end for end in ends if shapes.get(end) == leaf.shape), None)
        return NamedSharding(mesh, partition(name) if name else PartitionSpec())

    return jax.tree_util.tree_map_with_path(place, tree)


def partition(parameter: str) -> PartitionSpec:
    """How a parameter is split: its wide axis over `model`; the axis of the residual stream stays whole."""
    axes = LOGICAL_AXES.get("/".join(parameter.split("/")[-2:]), ())
    return PartitionSpec(*("model" if axis in OVER_MODEL else None for axis in axes))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The batch on the devices, its rows split over `data`."""
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
