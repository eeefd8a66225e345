"""The T5 encoder-decoder in Flax Linen, with the parameter names of T5X.

Covers the 1.0 family (relu, output layer tied to the embedding) and the 1.1 family (gated-gelu, separate output layer).
Raffel et al. 2020, https://arxiv.org/abs/1910.10683; for the gates Shazeer 2020, https://arxiv.org/abs/2002.05202.

Dimensions in names: B batch, S source length, T target length, L cache length, D model, H heads, K head size,
F feed-forward, V vocabulary.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.errors import UserError, nearest, require_positive
from explainft.model.layers import (
    ACTIVATIONS,
    MLP,
    PRODUCT,
    RELPOS_BUCKETS,
    RELPOS_MAX_DISTANCE,
    Attention,
    Dense,
    Dropout,
    RelativePositionBiases,
    RMSNorm,
    bfloat16_product,
    bias_of_positions,
    decoding_product,
    product,
)

NEG_INF = -1e10  # what T5X adds to a masked score: exp() of it is zero, and a row of them alone stays finite

LOGITS_AT_ONCE = 2**24  # 64 MiB of float32
ACTIVATION_DTYPES = MATMUL_PRECISIONS = ("float32", "bfloat16")
REMAT_POLICIES = {
    "none": None,
    "minimal": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable, jax.checkpoint_policies.save_only_these_names(PRODUCT)
    ),
    "full": jax.checkpoint_policies.nothing_saveable,
}

Cache = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Sizes of one T5. `mlp_activations` are ("relu",) in 1.0 and ("gelu", "linear") in 1.1; `dtype`: activations.

    Distances from `relative_attention_max_distance` tokens on share one position bias. Pre-trained networks have 128;
    one trained from scratch on short texts never learns the biases of distances that it has not seen. With
    `encoder_local_radius` a token of the input attends to those at most so far away (the local attention of LongT5, Guo
    et al. 2022, https://arxiv.org/abs/2112.07916): what it sees does not change with the length of the text.

    `matmul_precision`, in JAX's words: "bfloat16" multiplies states and kernels as bfloat16 numbers, forward and
    backward, and sums up in float32, while everything is kept in `dtype` as ever (see layers.bfloat16_product).

    The last four choose how the layers are compiled and change neither parameters nor results. `remat_policy`, in
    T5X's words: "none" keeps all activations for the backward pass, "minimal" the matrix products, "full" each layer's
    input alone and computes the rest again. `scan_layers` compiles one layer and loops over it. `attention`, explained
    at Attention, and `logits_at_once`, about as many as a device holds of those of a loss, are sharding.suited's
    choice.
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
    matmul_precision: str = "float32"
    remat_policy: str = "none"
    scan_layers: bool = False
    attention: str = "plain"
    logits_at_once: int = LOGITS_AT_ONCE

    def __post_init__(self):
        sizes = ("vocab_size", "emb_dim", "num_heads", "num_encoder_layers", "num_decoder_layers", "head_dim")
        require_positive(**{name: getattr(self, name) for name in (*sizes, "mlp_dim")})
        activations = self.mlp_activations
        if not isinstance(activations, tuple) or not activations or not ACTIVATIONS.keys() >= set(activations):
            raise UserError(
                f"mlp_activations={activations!r} must be a tuple like ('gelu', 'linear'), of {', '.join(ACTIVATIONS)}"
            )
        if self.remat_policy not in REMAT_POLICIES:
            raise UserError(
                f"REMAT_POLICY={self.remat_policy!r} is unknown{nearest(self.remat_policy, REMAT_POLICIES)}"
            )
        if self.dtype not in ACTIVATION_DTYPES:
            raise UserError(f"ACTIVATION_DTYPE={self.dtype!r} must be one of {', '.join(ACTIVATION_DTYPES)}")
        if self.matmul_precision not in MATMUL_PRECISIONS:
            raise UserError(f"MATMUL_PRECISION={self.matmul_precision!r} must be one of {', '.join(MATMUL_PRECISIONS)}")
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


def attention(config: T5Config, **module: Any) -> Attention:
    sizes = (config.emb_dim, config.num_heads, config.head_dim, config.dropout_rate)
    return Attention(*sizes, config.dtype, config.matmul_precision, config.attention, **module)


def position_biases(config: T5Config, *, bidirectional: bool) -> RelativePositionBiases:
    return RelativePositionBiases(config.num_heads, bidirectional, config.relative_attention_max_distance, config.dtype)


def mlp(config: T5Config, **module: Any) -> MLP:
    sizes = (config.emb_dim, config.mlp_dim, config.mlp_activations, config.dropout_rate)
    return MLP(*sizes, config.dtype, config.matmul_precision, **module)


class EncoderLayer(nn.Module):
    config: T5Config

    @nn.compact
    def __call__(self, x_BSD: jax.Array, bias_BHSS: jax.Array, deterministic: bool) -> jax.Array:
        cfg = self.config
        own = attention(cfg, name="attention")
        dropout = Dropout(cfg.dropout_rate)
        h_BSD = RMSNorm(cfg.dtype, name="pre_attention_layer_norm")(x_BSD)
        x_BSD += dropout(own(h_BSD, *own.keys_values(h_BSD), bias_BHSS, deterministic), deterministic)
        h_BSD = RMSNorm(cfg.dtype, name="pre_mlp_layer_norm")(x_BSD)
        return x_BSD + dropout(mlp(cfg, name="mlp")(h_BSD, deterministic), deterministic)


class DecoderLayer(nn.Module):
    config: T5Config

    def setup(self):
        cfg = self.config
        self.pre_self_attention_layer_norm = RMSNorm(cfg.dtype)
        self.self_attention = attention(cfg)
        self.pre_cross_attention_layer_norm = RMSNorm(cfg.dtype)
        self.encoder_decoder_attention = attention(cfg)
        self.pre_mlp_layer_norm = RMSNorm(cfg.dtype)
        self.mlp = mlp(cfg)
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
        """Returns the new y_BTD and its keys and values, written into the cache of `past`, (cache, position)."""
        h_BTD = self.pre_self_attention_layer_norm(y_BTD)
        k, v = self.self_attention.keys_values(h_BTD)
        if past is not None:
            cache, position = past
            k = jax.lax.dynamic_update_slice_in_dim(cache["key"], k, position, axis=2)
            v = jax.lax.dynamic_update_slice_in_dim(cache["value"], v, position, axis=2)
        y_BTD += self.dropout(self.self_attention(h_BTD, k, v, self_bias_BHTT, deterministic), deterministic)
        h_BTD = self.pre_cross_attention_layer_norm(y_BTD)
        # Rows that are decoded from the same input stand where positions do: they attend to one copy of its keys.
        shared_BTD = h_BTD.reshape(cross_kv[0].shape[0], -1, h_BTD.shape[-1])
        cross_BTD = self.encoder_decoder_attention(shared_BTD, *cross_kv, cross_bias_B1TS, deterministic)
        y_BTD += self.dropout(cross_BTD.reshape(y_BTD.shape), deterministic)
        h_BTD = self.pre_mlp_layer_norm(y_BTD)
        return y_BTD + self.dropout(self.mlp(h_BTD, deterministic), deterministic), {"key": k, "value": v}


def apply_layers(
    stack: nn.Module,
    layers: Sequence[nn.Module],
    x_BLD: jax.Array,
    arguments: tuple[jax.Array, ...],
    deterministic: bool,
) -> jax.Array:
    """x_BLD after the layers of a stack, alike but for their parameters, each called with the same further arguments.

    Each layer draws its dropout from a key of its own number, so that a loop and a scan draw the same.
    """
    config = stack.config  # pyright: ignore[reportAttributeAccessIssue]
    if stack.is_initializing():
        for layer in layers:
            x_BLD = layer(x_BLD, *arguments, deterministic)  # pyright: ignore[reportCallIssue]
        return x_BLD
    dropout = not deterministic and config.dropout_rate > 0
    key = stack.make_rng("dropout") if dropout else jax.random.key(0)
    layer = type(layers[0])(config, parent=None)  # pyright: ignore[reportCallIssue]

    def apply(x_BLD: jax.Array, params: Any, i: jax.typing.ArrayLike) -> jax.Array:
        rngs = {"dropout": jax.random.fold_in(key, i)} if dropout else None
        y_BLD = layer.apply({"params": params}, x_BLD, *arguments, deterministic, rngs=rngs)
        assert isinstance(y_BLD, jax.Array)
        return over_data(y_BLD)

    if config.remat_policy != "none":
        # Without prevent_cse a compiler may merge what is computed again with what was; a scan keeps them apart anyway.
        policy = REMAT_POLICIES[config.remat_policy]
        apply = jax.checkpoint(apply, policy=policy, prevent_cse=not config.scan_layers)
    params = [layer.variables["params"] for layer in layers]
    if not config.scan_layers:
        for i, layer_params in enumerate(params):
            x_BLD = apply(x_BLD, layer_params, i)
        return x_BLD

    def stack_of(path: jax.tree_util.KeyPath, *leaves: jax.Array) -> jax.Array:
        # In the type that they are multiplied in: the stack is a copy, and may as well be the smaller one. Kernels of
        # quantization.py have theirs.
        trained = path[-1] in (jax.tree_util.DictKey("kernel"), jax.tree_util.DictKey("scale"))
        return jnp.stack([leaf.astype(config.dtype) for leaf in leaves] if trained else leaves)

    stacked = jax.tree_util.tree_map_with_path(stack_of, *params)
    numbers = jnp.arange(len(params))
    return jax.lax.scan(lambda x, layer: (apply(x, *layer), None), x_BLD, (stacked, numbers))[0]


def over_data(x: jax.Array) -> jax.Array:
    """Keeps the rows of a batch apart over the mesh axis `data`, where jax.set_mesh has set a mesh that has it."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.lax.with_sharding_constraint(x, jax.P("data")) if "data" in mesh.axis_names else x


class Encoder(nn.Module):
    config: T5Config

    def setup(self):
        cfg = self.config
        self.relpos_bias = position_biases(cfg, bidirectional=True)
        self.layers = [EncoderLayer(cfg) for _ in range(cfg.num_encoder_layers)]
        self.encoder_norm = RMSNorm(cfg.dtype)
        self.dropout = Dropout(cfg.dropout_rate)

    def __call__(self, x_BSD: jax.Array, mask_BSS: jax.Array, deterministic: bool) -> jax.Array:
        S = x_BSD.shape[1]
        if (radius := self.config.encoder_local_radius) is not None:
            mask_BSS &= np.abs(np.arange(S) - np.arange(S)[:, None]) <= radius
        bias_HSS = bias_of_positions(self.relpos_bias(np.arange(1 - S, S)), S)
        bias_BHSS = bias_HSS + mask_bias(mask_BSS, self.config.dtype)
        x_BSD = self.dropout(over_data(x_BSD), deterministic)
        x_BSD = apply_layers(self, self.layers, x_BSD, (bias_BHSS,), deterministic)
        return self.dropout(self.encoder_norm(x_BSD), deterministic)


class Decoder(nn.Module):
    config: T5Config

    def setup(self):
        cfg = self.config
        self.relpos_bias = position_biases(cfg, bidirectional=False)
        self.layers = [DecoderLayer(cfg) for _ in range(cfg.num_decoder_layers)]
        self.decoder_norm = RMSNorm(cfg.dtype)
        self.dropout = Dropout(cfg.dropout_rate)
        if not cfg.logits_via_embedding:
            # float32, tied or not: the softmax over the vocabulary loses accuracy in bfloat16.
            self.logits_dense = Dense(cfg.vocab_size, "float32", _output_precision(cfg))

    def __call__(self, y_BTD, encoded_BSD, self_mask_BTT, cross_mask_BTS, deterministic: bool) -> jax.Array:
        cfg = self.config
        T = y_BTD.shape[1]
        bias_HTT = bias_of_positions(self.relpos_bias(np.arange(1 - T, T)), T)
        self_bias_BHTT = bias_HTT + mask_bias(self_mask_BTT, cfg.dtype)
        cross_bias_B1TS = cross_mask_BTS[:, None] if cfg.attention == "cudnn" else mask_bias(cross_mask_BTS, cfg.dtype)
        y_BTD = self.dropout(over_data(y_BTD), deterministic)
        arguments = (self_bias_BHTT, encoded_BSD, cross_bias_B1TS)
        y_BTD = apply_layers(self, self.layers, y_BTD, arguments, deterministic)
        return self.dropout(self.decoder_norm(y_BTD), deterministic)

    def init_cache(
        self, encoded_BSD: jax.Array, source_mask_BS: jax.Array, length: int, copies: int, window: int
    ) -> Cache:
        cfg = self.config
        # The bias row of step t is a part of this vector: entry j belongs to distance length-1-j, and what lies beyond
        # is the masked future.
        past_HL = self.relpos_bias(np.arange(length) - (length - 1))
        shape = (encoded_BSD.shape[0] * copies, cfg.num_heads, window, cfg.head_dim)
        zeros = [{"key": jnp.zeros(shape, cfg.dtype), "value": jnp.zeros(shape, cfg.dtype)} for _ in self.layers]
        return {
            "self": zeros,
            "cross": [layer.cross_keys_values(encoded_BSD) for layer in self.layers],
            "cross_bias": mask_bias(source_mask_BS[:, None, :], cfg.dtype),
            "relpos": jnp.pad(past_HL, ((0, 0), (0, length)), constant_values=NEG_INF),
        }

    def step(self, y_B1D: jax.Array, cache: Cache, position: jax.Array) -> tuple[jax.Array, Cache]:
        length, window = cache["relpos"].shape[-1] // 2, cache_length(cache)
        self_bias_H1L = jax.lax.dynamic_slice_in_dim(cache["relpos"], length - 1 - position, window, axis=1)[:, None, :]
        new = []
        for layer, own, cross_kv in zip(self.layers, cache["self"], cache["cross"], strict=True):
            y_B1D, own = layer.step(y_B1D, self_bias_H1L, cross_kv, cache["cross_bias"], True, (own, position))
            new.append(own)
        return self.decoder_norm(y_B1D), {**cache, "self": new}


class T5(nn.Module):
    """The whole network. Token 0 is padding and also the decoder's first input."""

    config: T5Config

    def setup(self):
        cfg = self.config
        self.token_embedder = nn.Embed(cfg.vocab_size, cfg.emb_dim, embedding_init=nn.initializers.normal(1.0))
        self.encoder = Encoder(cfg)
        self.decoder = Decoder(cfg)

    def __call__(self, *tokens: jax.Array, **options: Any) -> jax.Array:
        """Teacher forcing: logits_BTV in float32, of the arguments of `states`."""
        return self.logits(self.states(*tokens, **options))

    def states(
        self,
        encoder_input_tokens: jax.Array,
        decoder_input_tokens: jax.Array,
        decoder_target_tokens: jax.Array,
        encoder_segment_ids: jax.Array | None = None,
        decoder_segment_ids: jax.Array | None = None,
        *,
        deterministic: bool = True,
    ) -> jax.Array:
        """Teacher forcing as far as the decoder's last states, from which `logits` are made.

        Tokens are int32, encoder [B, S] and decoder [B, T]. Without segment ids every row holds one example. A segment
        sees itself alone, and padding (segment 0) padding alone. Of a row without padding in its inputs that of the
        targets sees nothing: of scores that are all NEG_INF, the weights are equal, and no loss counts what they give.
        """
        if encoder_segment_ids is None:
            encoder_segment_ids = (encoder_input_tokens > 0).astype(jnp.int32)
        if decoder_segment_ids is None:
            decoder_segment_ids = (decoder_target_tokens > 0).astype(jnp.int32)
        encoded_BSD = self.encode(encoder_input_tokens, encoder_segment_ids, deterministic=deterministic)
        causal_TT = np.tri(decoder_input_tokens.shape[1], dtype=bool)
        return self.decoder(
            self.embed(decoder_input_tokens),
            encoded_BSD,
            same_segment(decoder_segment_ids, decoder_segment_ids) & causal_TT,
            same_segment(decoder_segment_ids, encoder_segment_ids),
            deterministic,
        )

    def embed(self, tokens: jax.Array) -> jax.Array:
        # Rounded afterwards: the derivative of a token, thousands of times in a batch, is summed up in float32.
        return self.token_embedder(tokens).astype(self.config.dtype)

    def encode(self, encoder_input_tokens, encoder_segment_ids=None, *, deterministic: bool = True) -> jax.Array:
        """encoded_BSD of int32 tokens [B, S]."""
        if encoder_segment_ids is None:
            encoder_segment_ids = (encoder_input_tokens > 0).astype(jnp.int32)
        mask_BSS = same_segment(encoder_segment_ids, encoder_segment_ids)
        return self.encoder(self.embed(encoder_input_tokens), mask_BSS, deterministic)

    def logits(self, y_BTD: jax.Array) -> jax.Array:
        cfg = self.config
        y_BTD = y_BTD.astype(jnp.float32)
        if self.has_variable("params", "output"):  # see quantization.py
            output = self.get_variable("params", "output")
            if "kernel_FD" in output:
                return decoding_product(y_BTD, output, "float32", _output_precision(cfg))
            return product(y_BTD, output["kernel"], "float32", _output_precision(cfg))
        if not cfg.logits_via_embedding:
            return self.decoder.logits_dense(y_BTD)
        # The embedding has unit variance: without 1/sqrt(D) the tied logits would grow with the width. The states are
        # scaled, not the logits, which are many more.
        y_BTD /= np.sqrt(cfg.emb_dim)
        if _output_precision(cfg) == "bfloat16":
            return bfloat16_product(y_BTD, self.token_embedder.embedding, True)
        return product(y_BTD, self.token_embedder.embedding.T, "float32")

    def init_cache(
        self, encoder_input_tokens: jax.Array, length: int, copies: int = 1, window: int | None = None
    ) -> Cache:
        """Encodes the inputs [B, S] for decoding up to `length` tokens; cross keys and values are projected once.

        With `copies`, that many texts of each input are decoded, in neighbouring rows. The cache has room for `window`
        tokens, by default all; `longer_cache` makes more.
        """
        encoded_BSD = self.encode(encoder_input_tokens)
        return self.decoder.init_cache(encoded_BSD, encoder_input_tokens > 0, length, copies, window or length)

    def decode_step(self, tokens_B: jax.Array, cache: Cache, position: jax.Array) -> tuple[jax.Array, Cache]:
        """Feeds one token to each row at `position`, 0-based and the same for all; returns logits_BV and the cache."""
        y_B1D, cache = self.decoder.step(self.embed(tokens_B[:, None]), cache, position)
        return self.logits(y_B1D)[:, 0], cache


def _output_precision(config: T5Config) -> str:
    """That of the output layer's products, whose sums are float32: a TPU's own, and all that a bfloat16 state holds."""
    return "bfloat16" if config.dtype == "bfloat16" else config.matmul_precision


def cache_length(cache: Cache) -> int:
    """The tokens that a cache has room for."""
    return cache["self"][0]["key"].shape[2]


def longer_cache(cache: Cache, length: int) -> Cache:
    more = ((0, 0), (0, 0), (0, length - cache_length(cache)), (0, 0))
    return {**cache, "self": jax.tree.map(lambda leaf: jnp.pad(leaf, more), cache["self"])}


def cache_of_rows(cache: Cache, rows: jax.Array) -> Cache:
    """These rows of a cache alone; of copies as many of each input, which go on sharing its encoding."""
    alike = len(cache["cross_bias"]) == len(cache["self"][0]["key"])
    names = ("self", "cross", "cross_bias") if alike else ("self",)
    return {**cache, **{name: jax.tree.map(lambda leaf: rows_of(leaf, rows), cache[name]) for name in names}}


def rows_of(leaf: jax.Array, rows: jax.Array) -> jax.Array:
    """leaf[rows], without a check of each element on a CPU."""
    return leaf.at[rows].get(mode="promise_in_bounds")


def states(model: T5, params: Any, batch: dict[str, jax.Array], dropout_rng: jax.Array | None = None) -> jax.Array:
    """The decoder's last states [B, T, D] for a batch (see data.Batches); with dropout where a key for it is given."""
    rngs = None if dropout_rng is None else {"dropout": dropout_rng}
    found = model.apply({"params": params}, **batch, deterministic=dropout_rng is None, rngs=rngs, method=T5.states)  # pyright: ignore
    assert isinstance(found, jax.Array)
    return found


def output_parameters(config: T5Config, params: Any) -> Any:
    """Those of `params` that turn states into logits."""
    if config.logits_via_embedding:
        return {"token_embedder": params["token_embedder"]}
    return {"decoder": {"logits_dense": params["decoder"]["logits_dense"]}}


def columns(config: T5Config, output: Any, pieces: np.ndarray) -> Any:
    """The part of the `output_parameters` that makes the logits of these token ids, in their order."""
    if config.logits_via_embedding:
        kernel_DP = output["token_embedder"]["embedding"][pieces].T / np.sqrt(config.emb_dim)
    else:
        kernel_DP = output["decoder"]["logits_dense"]["kernel"][:, pieces]
    return {"output": {"kernel": kernel_DP}}


def logits(model: T5, output: Any, states_BTD: jax.Array) -> jax.Array:
    """logits_BTV of states, in float32, from the `output_parameters` alone."""
    found = model.apply({"params": output}, states_BTD, method=T5.logits)
    assert isinstance(found, jax.Array)
    return found


def forward(model: T5, params: Any, batch: dict[str, jax.Array], dropout_rng: jax.Array | None = None) -> jax.Array:
    """logits_BTV of a batch, all at once."""
    return logits(model, output_parameters(model.config, params), states(model, params, batch, dropout_rng))


def same_segment(query_segments_BT: jax.Array, key_segments_BS: jax.Array) -> jax.Array:
    return query_segments_BT[:, :, None] == key_segments_BS[:, None, :]


def mask_bias(mask_BTS: jax.Array, dtype: str) -> jax.Array:
    """An additive bias [B, 1, T, S]: 0 where the mask holds, NEG_INF elsewhere."""
    return jnp.where(mask_BTS, 0.0, NEG_INF).astype(dtype)[:, None]
