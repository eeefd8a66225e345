"""The device mesh. One CPU is the (1, 1) mesh: nothing else in the code knows how many devices there are."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from explainft.errors import UserError


def make_mesh() -> Mesh:
    """A ("data", "model") mesh over all devices, which share the rows of a batch."""
    # Auto, not today's default of Explicit axes, under which Linen modules fail.
    return jax.make_mesh((jax.device_count(), 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


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
