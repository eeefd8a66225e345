"""How a model executes: kernels, precision, rematerialization. None of it changes parameters or checkpoints."""

import dataclasses

import jax

from explainft.core.errors import UserError, nearest, require_positive
from explainft.model.layers import ATTENTION_KERNELS, MATMUL

MAX_LOGITS = 2**24  # 64 MiB of float32
MATMUL_PRECISIONS = ("float32", "bfloat16")
REMAT_POLICIES = {
    "none": None,
    "minimal": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable, jax.checkpoint_policies.save_only_these_names(MATMUL)
    ),
    "full": jax.checkpoint_policies.nothing_saveable,
}


@dataclasses.dataclass(frozen=True)
class ExecutionConfig:
    """Chooses how the layers of a T5 are compiled; sharding.resolve_execution fits it to the devices.

    `attention_kernel`: "plain", "per_head" or "cudnn", see layers.Attention.
    `remat_policy`, as in T5X: what of the forward pass is kept for the backward pass. "none" keeps all activations,
    "minimal" the matmuls, "full" the inputs of the layers; the rest is rematerialized.
    `scan_layers`: compiles one layer and loops over it.
    `matmul_precision`, as in JAX: "bfloat16" multiplies activations and kernels in bfloat16 with float32 accumulation,
    forward and backward, and keeps both in the activations' dtype (see layers.bfloat16_matmul).
    `max_logits`: the approximate number of logits of a loss that a device holds at once.
    """

    attention_kernel: str = "plain"
    remat_policy: str = "none"
    scan_layers: bool = False
    matmul_precision: str = "float32"
    max_logits: int = MAX_LOGITS

    def __post_init__(self):
        if self.attention_kernel not in ATTENTION_KERNELS:
            raise UserError(f"attention_kernel={self.attention_kernel!r} must be one of {', '.join(ATTENTION_KERNELS)}")
        if self.remat_policy not in REMAT_POLICIES:
            raise UserError(
                f"REMAT_POLICY={self.remat_policy!r} is unknown{nearest(self.remat_policy, REMAT_POLICIES)}"
            )
        if self.matmul_precision not in MATMUL_PRECISIONS:
            raise UserError(f"MATMUL_PRECISION={self.matmul_precision!r} must be one of {', '.join(MATMUL_PRECISIONS)}")
        require_positive(max_logits=self.max_logits)

    def for_inference(self) -> "ExecutionConfig":
        """Returns this config in full precision, without rematerialization, which a forward pass has no use for."""
        return dataclasses.replace(self, remat_policy="none", matmul_precision="float32")
