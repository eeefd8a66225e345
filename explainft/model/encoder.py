"""T5's encoder. Dimensions in names: B batch, S source length, D model, H heads."""

import flax.linen as nn
import jax
import numpy as np

from explainft.model.config import T5Config
from explainft.model.execution import ExecutionConfig
from explainft.model.layer_stack import (
    apply_layers,
    make_attention,
    make_mlp,
    make_position_biases,
    mask_bias,
    split_over_data,
)
from explainft.model.layers import Dropout, RMSNorm, position_bias_matrix


class EncoderLayer(nn.Module):
    config: T5Config
    execution: ExecutionConfig

    @nn.compact
    def __call__(self, x_BSD: jax.Array, bias_BHSS: jax.Array, deterministic: bool) -> jax.Array:
        cfg = self.config
        attention = make_attention(cfg, self.execution, name="attention")
        dropout = Dropout(cfg.dropout_rate)
        h_BSD = RMSNorm(cfg.dtype, name="pre_attention_layer_norm")(x_BSD)
        x_BSD += dropout(attention(h_BSD, *attention.keys_values(h_BSD), bias_BHSS, deterministic), deterministic)
        h_BSD = RMSNorm(cfg.dtype, name="pre_mlp_layer_norm")(x_BSD)
        return x_BSD + dropout(make_mlp(cfg, self.execution, name="mlp")(h_BSD, deterministic), deterministic)


class Encoder(nn.Module):
    config: T5Config
    execution: ExecutionConfig

    def setup(self):
        cfg = self.config
        self.relpos_bias = make_position_biases(cfg, bidirectional=True)
        self.layers = [EncoderLayer(cfg, self.execution) for _ in range(cfg.num_encoder_layers)]
        self.encoder_norm = RMSNorm(cfg.dtype)
        self.dropout = Dropout(cfg.dropout_rate)

    def __call__(self, x_BSD: jax.Array, mask_BSS: jax.Array, deterministic: bool) -> jax.Array:
        S = x_BSD.shape[1]
        if (radius := self.config.encoder_local_radius) is not None:
            mask_BSS &= np.abs(np.arange(S) - np.arange(S)[:, None]) <= radius
        bias_HSS = position_bias_matrix(self.relpos_bias(np.arange(1 - S, S)), S)
        bias_BHSS = bias_HSS + mask_bias(mask_BSS, self.config.dtype)
        x_BSD = self.dropout(split_over_data(x_BSD), deterministic)
        x_BSD = apply_layers(self, self.layers, x_BSD, (bias_BHSS,), deterministic)
        return self.dropout(self.encoder_norm(x_BSD), deterministic)
