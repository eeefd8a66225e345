"""The sizes of a T5."""

import dataclasses

from explainft.core.errors import UserError, require_positive
from explainft.model.layers import ACTIVATIONS, RELPOS_BUCKETS, RELPOS_MAX_DISTANCE

ACTIVATION_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Sizes of one T5. `mlp_activations` are ("relu",) in 1.0 and ("gelu", "linear") in 1.1; `dtype`: activations.

    Distances from `relative_attention_max_distance` tokens on share one position bias. Pre-trained networks have 128;
    one trained from scratch on short texts never learns the biases of distances that it has not seen. With
    `encoder_local_radius` a token of the input attends to those at most so far away (the local attention of LongT5, Guo
    et al. 2022, https://arxiv.org/abs/2112.07916): what it sees does not change with the length of the text.

    How the model executes is chosen apart, by an ExecutionConfig.
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
        sizes = ("vocab_size", "emb_dim", "num_heads", "num_encoder_layers", "num_decoder_layers", "head_dim")
        require_positive(**{name: getattr(self, name) for name in (*sizes, "mlp_dim")})
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
