"""Whether a recipe can fit the memory of a machine at all, before anything is traced or allocated.

A lower bound: parameters, optimizer state and the arrays of one batch. `explainft plan` compiles the rest.
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp

from explainft.core.errors import UserError
from explainft.model.config import T5Config
from explainft.model.t5 import T5
from explainft.training.config import TrainConfig

GIB = 2**30
MAX_DEVICE_MEMORY = 1024 * GIB  # of devices whose memory is not known


def check_training(config: TrainConfig) -> None:
    """Refuses a run that cannot fit this machine. Starts JAX's devices. Raises UserError."""
    mesh, count = config.mesh, jax.device_count()
    _check_state(config, count if mesh.fsdp else min(mesh.model_parallelism, count), device_memory())
    check_batches(config)


def check_plan(config: TrainConfig, num_devices: int, memory: float | None) -> None:
    """Refuses a run that fits no such devices, however it is sharded; `memory` in bytes of each. Raises UserError."""
    _check_state(config, num_devices, MAX_DEVICE_MEMORY if memory is None else memory)
    check_batches(config)


def check_batches(config: TrainConfig) -> None:
    """Refuses batches whose token ids alone do not fit the memory of this machine. Raises UserError."""
    dataset = config.dataset
    lengths = dataset.task_feature_lengths or {}  # to be chosen from the data
    # int32 tokens, positions and segment ids of both sides, and the decoder's inputs beside its targets.
    row = 4 * (3 * lengths.get("inputs", 0) + 4 * lengths.get("targets", 0))
    for name, rows in (("BATCH_SIZE", dataset.batch_size), ("EVAL_BATCH_SIZE", config.evaluation.batch_size)):
        needed, available = row * rows / jax.process_count(), host_memory()
        if needed > available:
            fit = int(available // row) * jax.process_count()
            raise UserError(
                f"{name}={rows:,} needs {_gib(needed)} for the tokens of one batch, and this machine has "
                f"{_gib(available)}; at most {fit:,} rows fit"
            )


def check_inference(model: T5, model_parallelism: int = 1) -> None:
    """Refuses a model whose parameters cannot fit. Starts JAX's devices. Raises UserError."""
    _check_parameters(model.config, min(model_parallelism, jax.device_count()), 1, "", device_memory())


def _check_state(config: TrainConfig, shards: int, available: float) -> None:
    model = config.model.config
    kernel = jax.ShapeDtypeStruct((max(model.emb_dim, 128), max(model.mlp_dim, 128)), jnp.float32)
    slots = jax.eval_shape(config.optimization.optimizer(lambda step: 0.0).init, kernel)
    slots_per_parameter = sum(x.size for x in jax.tree.leaves(slots)) / math.prod(kernel.shape)
    _check_parameters(model, shards, 1 + slots_per_parameter, " and their optimizer state", available)


def _check_parameters(model: T5Config, shards: int, arrays: float, what: str, available: float) -> None:
    """`arrays`: float32 arrays of each parameter's size; `shards`: devices that share them; `available`: bytes each."""
    count = count_kernels(model)
    needed = 4 * count * arrays / max(1, shards)
    if needed > available:
        raise UserError(
            f"{count:,} parameters{what} need {_gib(needed)} on each device, which has at most "
            f"{_gib(available)}; "
            "choose a smaller model, or more devices and MODEL_PARALLELISM"
        )


def count_kernels(model: T5Config) -> int:
    """Returns the parameters of a model without layer norms and position biases, which are less than 1%."""
    attention = 4 * model.emb_dim * model.num_heads * model.head_dim
    mlp = (len(model.mlp_activations) + 1) * model.emb_dim * model.mlp_dim
    embeddings = (1 if model.logits_via_embedding else 2) * model.vocab_size * model.emb_dim
    return embeddings + model.num_encoder_layers * (attention + mlp) + model.num_decoder_layers * (2 * attention + mlp)


def device_memory() -> float:
    """Returns the bytes of one device: an accelerator's own, or a CPU device's part of the machine's."""
    stats = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return stats["bytes_limit"] if stats else host_memory() / jax.local_device_count()


def host_memory() -> float:
    """Returns the bytes of memory of this machine, or infinity where the system does not report them."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemTotal")), math.inf)


def _gib(n: float) -> str:
    return f"{n / GIB:,.1f} GiB"
