"""The sizes of a T5."""

import dataclasses

from explainft.core.errors import UserError, require_positive
from explainft.model.layers import ACTIVATIONS, RELPOS_BUCKETS, RELPOS_MAX_DISTANCE

ACTIVATION_DTYPES = ("float32", "bfloat16")
MAX_SIZE = 2**31 - 1  # of an axis: JAX's indices are int32
MAX_LAYERS = 1_000  # of a stack: each layer is traced, in milliseconds


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Defines the sizes of a T5; an ExecutionConfig defines how it executes.

    `mlp_activations`: ("relu",) in 1.0, ("gelu", "linear") in 1.1. `dtype`: that of the activations.
    `relative_attention_max_distance`: distances from it on share one position bias. Pre-trained models have 128. A
    model trained from scratch on short sequences never learns the biases of longer distances.
    `encoder_local_radius`: how far a token of the input attends (the local attention of LongT5, Guo et al. 2022,
    https://arxiv.org/abs/2112.07916), so that attention does not change with the input's length. None: everywhere.
    """

    vocab_size: int
    emb_dim: int
    num_heads: int
    num_encoder_layers: int
    num_decoder_layers: int
    head_dim: int
    mlp_dim: int
    mlp_activations: tuple[str, ...] = ("relu",)
    dropout_rate: float = 0.0
    logits_via_embedding: bool = True
    dtype: str = "float32"
    relative_attention_max_distance: int = RELPOS_MAX_DISTANCE
    encoder_local_radius: int | None = None

    def __post_init__(self):
        limits = dict.fromkeys(("vocab_size", "emb_dim", "num_heads", "head_dim", "mlp_dim"), MAX_SIZE)
        limits |= dict.fromkeys(("num_encoder_layers", "num_decoder_layers"), MAX_LAYERS)
        for name, limit in limits.items():
            size = getattr(self, name)
            require_positive(**{name: size})
            if size > limit:
                raise UserError(f"{name}={size:,} must be at most {limit:,}")
        activations = self.mlp_activations
        if not isinstance(activations, tuple) or not activations or not ACTIVATIONS.keys() >= set(activations):
            raise UserError(
                f"mlp_activations={activations!r} must be a tuple like ('gelu', 'linear'), of {', '.join(ACTIVATIONS)}"
            )
        if self.dtype not in ACTIVATION_DTYPES:
            raise UserError(f"ACTIVATION_DTYPE={self.dtype!r} must be one of {', '.join(ACTIVATION_DTYPES)}")
        if not 0.0 <= self.dropout_rate < 1.0:
            raise UserError(f"DROPOUT_RATE={self.dropout_rate} must be at least 0 and below 1")
        farthest = self.relative_attention_max_distance
        if farthest <= RELPOS_BUCKETS // 2:
            raise UserError(
                f"relative_attention_max_distance={farthest} must be above {RELPOS_BUCKETS // 2}: so many distances of "
                "the decoder have a bucket of their own"
            )
        if self.encoder_local_radius is not None:
            require_positive(encoder_local_radius=self.encoder_local_radius)
