"""The device mesh. One CPU is the (1, 1) mesh: nothing else in the code knows how many devices there are."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from explainft.errors import UserError


def make_mesh(model_parallelism: int = 1) -> Mesh:
    """A ("data", "model") mesh over all devices."""
    devices = jax.device_count()
    if devices % model_parallelism:
        fits = [n for n in range(1, devices + 1) if devices % n == 0]
        raise UserError(f"MODEL_PARALLELISM={model_parallelism} must divide the {devices} devices; possible: {fits}")
    # Auto, not today's default of Explicit axes, under which Linen modules fail.
    return jax.make_mesh(
        (devices // model_parallelism, model_parallelism), ("data", "model"), axis_types=(AxisType.Auto,) * 2
    )


def check_batch(batch_size: int, mesh: Mesh, microbatches: int = 1) -> None:
    """Refuses a BATCH_SIZE that does not divide into equal microbatches on all data-parallel devices."""
    parts = mesh.shape["data"] * microbatches
    if batch_size < 1 or batch_size % parts:
        near = max(parts, batch_size - batch_size % parts)
        raise UserError(
            f"BATCH_SIZE={batch_size} must be a positive multiple of {parts} ({mesh.shape['data']} data-parallel "
            f"devices x MICROBATCHES={microbatches}); try {near}"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The batch on the devices, its rows split over `data`."""
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
