"""Whether a training recipe can fit the memory of this machine at all, before anything is allocated.

A lower bound: parameters, optimizer state and the arrays of one batch. `explainft plan` compiles the rest.
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp

from explainft.core.errors import UserError
from explainft.model.config import T5Config
from explainft.training.config import TrainConfig

GIB = 2**30


def check_memory(config: TrainConfig) -> None:
    """Refuses a run that cannot fit. Starts JAX's devices. Raises UserError."""
    model, dataset, devices = config.model.config, config.dataset, jax.device_count()
    shards = devices if config.mesh.fsdp else min(config.mesh.model_parallelism, devices)
    count = count_kernels(model)
    kernel = jax.ShapeDtypeStruct((max(model.emb_dim, 128), max(model.mlp_dim, 128)), jnp.float32)
    slots = jax.eval_shape(config.optimization.optimizer(lambda step: 0.0).init, kernel)
    slot_share = sum(x.size for x in jax.tree.leaves(slots)) / math.prod(kernel.shape)
    needed, available = 4 * count * (1 + slot_share) / shards, device_memory()
    if needed > available:
        raise UserError(
            f"{count:,} parameters and their optimizer state need {_gib(needed)} on each device, which has "
            f"{_gib(available)}; choose a smaller model, a larger MODEL_PARALLELISM or FSDP=True"
        )
    lengths = dataset.task_feature_lengths
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
