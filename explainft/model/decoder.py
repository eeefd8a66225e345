"""T5's decoder, with teacher forcing or one token at a time with a cache of keys and values.

Dimensions in names: B batch, S source length, T target length, L cache capacity, D model, H heads, R rows of a cache.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from explainft.model.config import T5Config
from explainft.model.execution import ExecutionConfig
from explainft.model.layer_stack import (
    NEG_INF,
    apply_layers,
    make_attention,
    make_mlp,
    make_position_biases,
    mask_bias,
    split_over_data,
)
from explainft.model.layers import Dense, Dropout, RMSNorm, position_bias_matrix

Cache = dict[str, Any]


class DecoderLayer(nn.Module):
    config: T5Config
    execution: ExecutionConfig

    def setup(self):
        cfg = self.config
        self.pre_self_attention_layer_norm = RMSNorm(cfg.dtype)
        self.self_attention = make_attention(cfg, self.execution)
        self.pre_cross_attention_layer_norm = RMSNorm(cfg.dtype)
        self.encoder_decoder_attention = make_attention(cfg, self.execution)
        self.pre_mlp_layer_norm = RMSNorm(cfg.dtype)
        self.mlp = make_mlp(cfg, self.execution)
        self.dropout = Dropout(cfg.dropout_rate)

    def cross_keys_values(self, encoded_BSD: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.encoder_decoder_attention.keys_values(encoded_BSD)

    def __call__(self, y_BTD, self_bias_BHTT, encoded_BSD, cross_bias_B1TS, deterministic: bool) -> jax.Array:
        cross_kv = self.cross_keys_values(encoded_BSD)
        return self.step(y_BTD, self_bias_BHTT, cross_kv, cross_bias_B1TS, deterministic)[0]

    def step(
        self,
        y_BTD: jax.Array,
        self_bias_BHTT: jax.Array,
        cross_kv: tuple[jax.Array, jax.Array],
        cross_bias_B1TS: jax.Array,
        deterministic: bool,
        past: tuple[Cache, jax.Array] | None = None,
    ) -> tuple[jax.Array, Cache]:
        """Returns the new y_BTD, and its keys and values, written into the cache of `past`, (cache, position)."""
        h_BTD = self.pre_self_attention_layer_norm(y_BTD)
        k, v = self.self_attention.keys_values(h_BTD)
        if past is not None:
            cache, position = past
            k, v = write_token(cache["key"], k, position), write_token(cache["value"], v, position)
        y_BTD += self.dropout(self.self_attention(h_BTD, k, v, self_bias_BHTT, deterministic), deterministic)
        h_BTD = self.pre_cross_attention_layer_norm(y_BTD)
        # The samples of an input take the place of positions: they attend to one copy of its keys.
        shared_BTD = h_BTD.reshape(cross_kv[0].shape[0], -1, h_BTD.shape[-1])
        cross_BTD = self.encoder_decoder_attention(shared_BTD, *cross_kv, cross_bias_B1TS, deterministic)
        y_BTD += self.dropout(cross_BTD.reshape(y_BTD.shape), deterministic)
        h_BTD = self.pre_mlp_layer_norm(y_BTD)
        return y_BTD + self.dropout(self.mlp(h_BTD, deterministic), deterministic), {"key": k, "value": v}


class Decoder(nn.Module):
    config: T5Config
    execution: ExecutionConfig

    def setup(self):
        cfg = self.config
        self.relpos_bias = make_position_biases(cfg, bidirectional=False)
        self.layers = [DecoderLayer(cfg, self.execution) for _ in range(cfg.num_decoder_layers)]
        self.decoder_norm = RMSNorm(cfg.dtype)
        self.dropout = Dropout(cfg.dropout_rate)
        if not cfg.logits_via_embedding:
            # float32, tied or not: the softmax over the vocabulary loses accuracy in bfloat16.
            self.logits_dense = Dense(cfg.vocab_size, "float32", output_precision(cfg, self.execution))

    def __call__(self, y_BTD, encoded_BSD, self_mask_BTT, cross_mask_BTS, deterministic: bool) -> jax.Array:
        cfg = self.config
        T = y_BTD.shape[1]
        bias_HTT = position_bias_matrix(self.relpos_bias(np.arange(1 - T, T)), T)
        self_bias_BHTT = bias_HTT + mask_bias(self_mask_BTT, cfg.dtype)
        cudnn = self.execution.attention_kernel == "cudnn"
        cross_bias_B1TS = cross_mask_BTS[:, None] if cudnn else mask_bias(cross_mask_BTS, cfg.dtype)
        y_BTD = self.dropout(split_over_data(y_BTD), deterministic)
        arguments = (self_bias_BHTT, encoded_BSD, cross_bias_B1TS)
        y_BTD = apply_layers(self, self.layers, y_BTD, arguments, deterministic)
        return self.dropout(self.decoder_norm(y_BTD), deterministic)

    def empty_cache(
        self, encoded_BSD: jax.Array, source_mask_BS: jax.Array, length: int, num_samples: int, capacity: int
    ) -> Cache:
        cfg = self.config
        # The bias row of step t is a part of this vector: entry j belongs to distance length-1-j, and what lies beyond
        # is the masked future.
        past_HL = self.relpos_bias(np.arange(length) - (length - 1))
        shape = (encoded_BSD.shape[0] * num_samples, cfg.num_heads, capacity, cfg.head_dim)
        zeros = [{"key": jnp.zeros(shape, cfg.dtype), "value": jnp.zeros(shape, cfg.dtype)} for _ in self.layers]
        return {
            "self": zeros,
            "cross": [layer.cross_keys_values(encoded_BSD) for layer in self.layers],
            "cross_bias": mask_bias(source_mask_BS[:, None, :], cfg.dtype),
            "relpos": jnp.pad(past_HL, ((0, 0), (0, length)), constant_values=NEG_INF),
        }

    def step(self, y_B1D: jax.Array, cache: Cache, position: jax.Array) -> tuple[jax.Array, Cache]:
        """Feeds one token to each row, at a position that all rows share, or [B] at one of its own each."""
        length, capacity = cache["relpos"].shape[-1] // 2, cache_capacity(cache)

        def self_bias(position: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(cache["relpos"], length - 1 - position, capacity, axis=1)[:, None]

        self_bias_BH1L = self_bias(position) if jnp.ndim(position) == 0 else jax.vmap(self_bias)(position)
        updated = []
        for layer, self_kv, cross_kv in zip(self.layers, cache["self"], cache["cross"], strict=True):
            y_B1D, self_kv = layer.step(y_B1D, self_bias_BH1L, cross_kv, cache["cross_bias"], True, (self_kv, position))
            updated.append(self_kv)
        return self.decoder_norm(y_B1D), {**cache, "self": updated}


def output_precision(config: T5Config, execution: ExecutionConfig) -> str:
    """Returns the precision of the output layer's matmul, whose sums are float32.

    bfloat16 is a TPU's own, and all that a bfloat16 hidden state holds.
    """
    return "bfloat16" if config.dtype == "bfloat16" else execution.matmul_precision


def write_token(cache_RHLK: jax.Array, new_RH1K: jax.Array, position: jax.Array) -> jax.Array:
    """Writes one token of each row at a position that all rows share, or [R] at one of its own each."""
    if jnp.ndim(position) == 0:
        return jax.lax.dynamic_update_slice_in_dim(cache_RHLK, new_RH1K, position, axis=2)
    write = jax.vmap(lambda row, new, at: jax.lax.dynamic_update_slice_in_dim(row, new, at, axis=1))
    return write(cache_RHLK, new_RH1K, position)


def cache_capacity(cache: Cache) -> int:
    """Returns how many tokens a cache has room for."""
    return cache["self"][0]["key"].shape[2]


def grow_cache(cache: Cache, capacity: int) -> Cache:
    """Returns the cache with room for `capacity` tokens."""
    more = ((0, 0), (0, 0), (0, capacity - cache_capacity(cache)), (0, 0))
    return {**cache, "self": jax.tree.map(lambda leaf: jnp.pad(leaf, more), cache["self"])}


def take_cache_rows(cache: Cache, rows_R: jax.Array) -> Cache:
    """Returns these rows of a cache; of several samples of each input as many each, which share its encoding."""
    one_sample = len(cache["cross_bias"]) == len(cache["self"][0]["key"])
    names = ("self", "cross", "cross_bias") if one_sample else ("self",)
    return {**cache, **{name: jax.tree.map(lambda leaf: take_rows(leaf, rows_R), cache[name]) for name in names}}


def take_rows(leaf: jax.Array, rows_R: jax.Array) -> jax.Array:
    """Returns leaf[rows_R], without a bounds check of each element on a CPU."""
    return leaf.at[rows_R].get(mode="promise_in_bounds")
