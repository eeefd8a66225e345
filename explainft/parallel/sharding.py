"""The device mesh, and how arrays are sharded over it. One CPU is the (1, 1) mesh: no other module counts devices."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from explainft.core.errors import UserError
from explainft.model.config import T5Config
from explainft.model.execution import MAX_LOGITS, ExecutionConfig
from explainft.model.layers import PER_HEAD_MIN_SCORES
from explainft.model.parameters import abstract_tree, leaf_name, named_leaves

# The logical axes of each parameter by the last parts of its name.
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
    "*/scale": ("embed",),
}
# T5X's standard rules; with fsdp its rule of two-dimensional parameters too.
MODEL_RULES = {"vocab": "model", "heads": "model", "joined_kv": "model", "mlp": "model"}
FSDP_RULES = {**MODEL_RULES, "embed": "data"}


def make_mesh(model_parallelism: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Makes a ("data", "model") mesh; `model_parallelism` devices share each copy of the model.

    Contains all devices, in the order that jax finds best, or `devices` in their order.
    """
    n = jax.device_count() if devices is None else len(devices)
    if model_parallelism < 1 or n % model_parallelism:
        fits = [divisor for divisor in range(1, n + 1) if n % divisor == 0]
        raise UserError(
            f"MODEL_PARALLELISM={model_parallelism} does not divide the {n} devices; it can be "
            f"{', '.join(map(str, fits))}"
        )
    shape, names = (n // model_parallelism, model_parallelism), ("data", "model")
    # Auto, not today's default of Explicit axes, under which Linen modules fail.
    auto = (AxisType.Auto,) * 2
    if devices is None:
        return jax.make_mesh(shape, names, axis_types=auto)
    return Mesh(np.array(devices).reshape(shape), names, axis_types=auto)


def resolve_execution(
    execution: ExecutionConfig, config: T5Config, mesh: Mesh, lengths: Iterable[int]
) -> ExecutionConfig:
    """Returns how to train on the mesh, with rows of such lengths: the fastest way that computes the same.

    One CPU: per-head attention for long rows, and bfloat16 matmuls with float32 accumulation for bfloat16 activations.
    NVIDIA GPUs: cuDNN attention for bfloat16 activations, and more logits at once.
    """
    devices = list(mesh.devices.flat)
    if are_one_cpu(devices):
        precision = "bfloat16" if config.dtype == "bfloat16" else execution.matmul_precision
        kernel = "per_head" if max(lengths) ** 2 >= PER_HEAD_MIN_SCORES else "plain"
        return dataclasses.replace(execution, matmul_precision=precision, attention_kernel=kernel)
    if not all(_is_nvidia(device) for device in devices):
        return dataclasses.replace(execution, attention_kernel="plain")
    kernel = "cudnn" if _fits_cudnn(config, lengths) else "plain"
    return dataclasses.replace(execution, attention_kernel=kernel, max_logits=8 * MAX_LOGITS)


def _is_nvidia(device: Any) -> bool:
    """Returns whether this is an NVIDIA GPU that cuDNN attention runs on: Ampere or later."""
    return device.device_kind.startswith("NVIDIA") and float(device.compute_capability) >= 8.0


def _fits_cudnn(config: T5Config, lengths: Iterable[int]) -> bool:
    """Returns whether cuDNN attention takes such heads and rows, on any such GPU, with the gradient of a bias."""
    fits = config.head_dim % 8 == 0 and config.head_dim <= 128 and all(n % 2 == 0 for n in lengths)
    return fits and config.dtype == "bfloat16"


def check_batch(batch_size: int, mesh: Mesh, microbatches: int = 1, group: int = 1) -> None:
    """Raises UserError for a BATCH_SIZE without equal microbatches, of whole groups, on all data-parallel devices."""
    parts = mesh.shape["data"] * microbatches * group
    if batch_size < 1 or batch_size % parts:
        near = max(parts, batch_size - batch_size % parts)
        raise UserError(
            f"BATCH_SIZE={batch_size} must be a positive multiple of {parts} ({mesh.shape['data']} data-parallel "
            f"devices x MICROBATCHES={microbatches}{f' x {group} examples of a pair' if group > 1 else ''}); try {near}"
        )


def check_model(config: T5Config, mesh: Mesh, fsdp: bool = False) -> None:
    """Raises UserError for a model that does not divide over the mesh; names the numbers of devices that do."""
    n = mesh.shape["model"]
    for name in ("num_heads", "mlp_dim", "vocab_size"):
        size = getattr(config, name)
        if size % n:
            raise UserError(f"{name}={size} does not divide by MODEL_PARALLELISM={n}; {_divisors(size, mesh.size)} do")
    if fsdp and config.emb_dim % mesh.shape["data"]:
        fits = _divisors(config.emb_dim, mesh.size)
        raise UserError(
            f"FSDP=True splits emb_dim={config.emb_dim} over {mesh.shape['data']} data-parallel devices; {fits} do"
        )


def _divisors(size: int, largest: int) -> str:
    return ", ".join(str(n) for n in range(1, largest + 1) if size % n == 0 and largest % n == 0)


def shardings(tree: Any, parameters: Any, mesh: Mesh, fsdp: bool = False) -> Any:
    """Returns the sharding of each array of a tree: its parameter's if they have one shape, else replicated.

    `parameters` is the tree of parameters, or of their shapes. `tree` may be that tree or contain it several times, as
    an optimizer's state does: a parameter is found by the end of the array's path. `fsdp` splits over `data` too.
    """
    shapes = {name: leaf.shape for name, leaf in named_leaves(parameters).items()}

    def shard(path: jax.tree_util.KeyPath, leaf: Any) -> NamedSharding:
        parts = leaf_name(path).split("/")
        ends = ("/".join(parts[i:]) for i in range(len(parts)))
        name = next((end for end in ends if shapes.get(end) == leaf.shape), None)
        return NamedSharding(mesh, partition(name, fsdp) if name else PartitionSpec())

    return jax.tree_util.tree_map_with_path(shard, tree)


def abstract_parameters(config: T5Config, mesh: Mesh, fsdp: bool = False) -> Any:
    """Returns the tree of parameters as shapes, dtypes and shardings; computes none."""
    return with_shardings(abstract_tree(config), mesh, fsdp)


def with_shardings(tree: Any, mesh: Mesh, fsdp: bool = False, parameters: Any = None) -> Any:
    """Returns a tree of shapes with the `shardings` of its parameters (None: the tree is theirs)."""
    placed = shardings(tree, tree if parameters is None else parameters, mesh, fsdp)
    return jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree, placed)


def partition(parameter: str, fsdp: bool = False) -> PartitionSpec:
    """Returns how a parameter is split: its wide axis over `model`; with `fsdp` its emb_dim axis over `data`."""
    above, last = parameter.split("/")[-2:]
    axes = LOGICAL_AXES.get(f"{above}/{last}") or LOGICAL_AXES[f"*/{last}"]
    rules = FSDP_RULES if fsdp else MODEL_RULES
    return PartitionSpec(*(rules.get(axis) for axis in axes))


def host_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Returns the rows of a batch that this host's devices hold, ascending."""
    return _host_rows(NamedSharding(mesh, PartitionSpec("data")), batch_size)


def _host_rows(sharding: NamedSharding, batch_size: int) -> np.ndarray:
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[part] for part in parts if part is not None]))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts a batch on the devices, its rows split over `data`; each host passes its `host_rows` alone."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


def on_one_cpu(params: Any) -> bool:
    """Returns whether these arrays are on one CPU device."""
    leaf = jax.tree.leaves(params)[0]
    return are_one_cpu(leaf.devices() if isinstance(leaf, jax.Array) else jax.devices()[:1])  # where NumPy arrays go


def are_one_cpu(devices: Iterable[Any]) -> bool:
    """Returns whether these devices are a single CPU device."""
    return [device.platform for device in devices] == ["cpu"]


def data_parallelism(params: Any) -> int:
    """Returns how many parts of a batch the devices of the parameters hold."""
    sharding = getattr(jax.tree.leaves(params)[0], "sharding", None)  # None for NumPy arrays
    return sharding.mesh.shape["data"] if isinstance(sharding, NamedSharding) else 1


def put_rows_like(params: Any, rows: np.ndarray) -> jax.Array:
    """Puts rows on the devices of the parameters: split over `data` if their number divides, else replicated.

    Every host passes all rows; its devices get their part.
    """
    sharding = getattr(jax.tree.leaves(params)[0], "sharding", None)  # None for NumPy arrays
    if not isinstance(sharding, NamedSharding):
        return jax.device_put(rows, sharding)
    divides = len(rows) % sharding.mesh.shape["data"] == 0
    sharding = NamedSharding(sharding.mesh, PartitionSpec("data" if divides else None))
    return jax.make_array_from_process_local_data(sharding, rows[_host_rows(sharding, len(rows))], rows.shape)
