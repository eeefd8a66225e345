"""The parts of T5's layers: projections, norms, attention, position biases. Kernels are 2-D, names are T5X's.

Dimensions in names: B batch, S source length, T target length, D model, H heads, K head size, F feed-forward.
"""

import functools
import math
from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint

from explainft.core import jax_setup

RELPOS_BUCKETS = 32
RELPOS_MAX_DISTANCE = 128  # of every pre-trained T5
ATTENTION_KERNELS = ("plain", "per_head", "cudnn")
PER_HEAD_MIN_SCORES = 2**17  # of a head: half a MiB in float32
MATMUL = "matmul"  # the name by which a remat_policy saves the outputs of bfloat16_matmul
KERNEL_FIRST_MAX_ROWS = 64  # of a matmul that is faster with the kernel as its left operand; half as many in int8


def relative_position_bucket(
    relative_position: np.ndarray, *, bidirectional: bool, max_distance: int = RELPOS_MAX_DISTANCE
) -> np.ndarray:
    """Returns the bucket of each distance `key position - query position`: exact, then logarithmic, then one."""
    buckets = RELPOS_BUCKETS
    side = np.zeros_like(relative_position)
    if bidirectional:
        buckets //= 2
        side = (relative_position > 0) * buckets
        distance = np.abs(relative_position)
    else:
        distance = np.maximum(-relative_position, 0)
    exact = buckets // 2
    # float32 and eps as in T5X: a distance on the edge of two buckets must fall on the side it had in pre-training.
    log_ratio = np.log(distance.astype(np.float32) / exact + np.finfo(np.float32).eps) / np.log(max_distance / exact)
    far = np.minimum(exact + (log_ratio * (buckets - exact)).astype(np.int32), buckets - 1)
    return side + np.where(distance < exact, distance, far)


class Dense(nn.Module):
    """A bias-free projection with a 2-D kernel, so that Adafactor factors it as T5X's does."""

    features: int
    dtype: str
    matmul_precision: str = "float32"
    init_scale: float = 1.0
    distribution: Literal["truncated_normal", "normal"] = "truncated_normal"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.has_variable("params", "kernel_FD"):
            return decode_matmul(x, self.variables["params"], self.dtype, self.matmul_precision)
        init = nn.initializers.variance_scaling(self.init_scale, "fan_in", self.distribution)
        kernel_DF = self.param("kernel", init, (x.shape[-1], self.features), jnp.float32)
        return matmul(x, kernel_DF, self.dtype, self.matmul_precision)


def matmul(x: jax.Array, kernel_DF: jax.Array, dtype: str, matmul_precision: str = "float32") -> jax.Array:
    """Returns x @ kernel_DF in `dtype`."""
    if matmul_precision == "bfloat16":
        # A policy of jax.checkpoint does not look into a custom_vjp.
        return jnp.asarray(checkpoint_name(bfloat16_matmul(x, kernel_DF), MATMUL), dtype)
    # All rows in one dimension: with two, XLA would transpose the gradient of y before the matmul by x, a seventh of a
    # train step on a CPU.
    y_NF = x.reshape(-1, x.shape[-1]) @ kernel_DF.astype(dtype)
    return y_NF.reshape(*x.shape[:-1], -1)


def decode_matmul(x: jax.Array, kernel: Mapping[str, jax.Array], dtype: str, matmul_precision: str) -> jax.Array:
    """Returns x @ kernel_FD.T in `dtype`, multiplied in the dtype of the kernel, which is one of quantization.py.

    `kernel` holds `kernel_FD`, and of int8 `scale_F`, the quantization step of each output.
    """
    kernel_FD = kernel["kernel_FD"]
    if "scale_F" in kernel:
        x = x.astype(jnp.float32)
        step = jnp.maximum(jnp.max(jnp.abs(x), axis=-1, keepdims=True), np.finfo(np.float32).tiny) / 127.0
        levels = jnp.round(x / step).astype(jnp.int8)
        sums = _matmul_by(kernel_FD, levels, jnp.int32)
        return (sums.astype(jnp.float32) * step * kernel["scale_F"]).astype(dtype)
    if "bfloat16" in (kernel_FD.dtype.name, matmul_precision):
        return _matmul_by(kernel_FD.astype(jnp.bfloat16), x.astype(jnp.bfloat16), jnp.float32).astype(dtype)
    return jax.lax.platform_dependent(
        x,
        kernel_FD,
        # A program decodes one token: it would round the kernel each time, for matmuls that do not get faster on a CPU.
        cpu=lambda x, kernel_FD: _matmul_by(kernel_FD, x.astype(kernel_FD.dtype), kernel_FD.dtype).astype(dtype),
        default=lambda x, kernel_FD: _matmul_by(kernel_FD.astype(dtype), x, dtype),
    )


def _matmul_by(kernel_FD: jax.Array, x: jax.Array, sum_dtype: jax.typing.DTypeLike) -> jax.Array:
    """Returns x @ kernel_FD.T. XLA packs the right operand: for few rows kernel_FD @ x.T is faster on a CPU."""
    max_rows = KERNEL_FIRST_MAX_ROWS // 2 if x.dtype == jnp.int8 else KERNEL_FIRST_MAX_ROWS
    if x.size <= max_rows * x.shape[-1]:
        y = jnp.einsum("FD,...D->F...", kernel_FD, x, preferred_element_type=sum_dtype)
        return jnp.moveaxis(y, 0, -1)
    return jnp.einsum("...D,FD->...F", x, kernel_FD, preferred_element_type=sum_dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def bfloat16_matmul(x: jax.Array, kernel: jax.Array, transposed: bool = False) -> jax.Array:
    """Returns x @ kernel, or x @ kernel.T, as a bfloat16 matmul with float32 accumulation; so are its gradients.

    A TPU multiplies float32 arrays so by default.
    """
    return _contract(x, kernel, x.ndim - 1, 1 if transposed else 0)


def _bfloat16_forward(x: jax.Array, kernel: jax.Array, transposed: bool):
    return bfloat16_matmul(x, kernel, transposed), (x, kernel)


def _bfloat16_backward(transposed: bool, residuals: tuple[jax.Array, jax.Array], d_y: jax.Array):
    x, kernel = residuals
    x_ND, d_y_NF = (v.reshape(-1, v.shape[-1]) for v in (x, d_y))
    left, right = (d_y_NF, x_ND) if transposed else (x_ND, d_y_NF)
    d_x = _contract(d_y, kernel, d_y.ndim - 1, 0 if transposed else 1)
    return d_x.astype(x.dtype), _contract(left, right, 0, 0).astype(kernel.dtype)


bfloat16_matmul.defvjp(_bfloat16_forward, _bfloat16_backward)


def _contract(left: jax.Array, right: jax.Array, left_dim: int, right_dim: int) -> jax.Array:
    """Contracts these dimensions of both operands, rounded to bfloat16, with float32 accumulation."""

    def dot(left: jax.Array, right: jax.Array, left_dim: int = left_dim) -> jax.Array:
        dims = (((left_dim,), (right_dim,)), ((), ()))
        return jax.lax.dot_general(left, right, dims, preferred_element_type=jnp.float32)

    def rounded(left: jax.Array, right: jax.Array) -> jax.Array:
        return dot(left.astype(jnp.bfloat16), right.astype(jnp.bfloat16))

    def on_cpu(left: jax.Array, right: jax.Array) -> jax.Array:
        if not jax_setup.has_bfloat16_matmul():
            # Rounded, but kept in float32, to which XLA would convert bfloat16 operands in each matmul.
            left, right = (jax.lax.reduce_precision(v.astype(jnp.float32), 8, 7) for v in (left, right))
            return dot(left, right)
        if left_dim == 0:
            # XLA uses a CPU's bfloat16 instructions only for float32 accumulation of operands in row-major layout: a
            # transpose that it folds into the matmul would take the slow path.
            transposed = with_layout_constraint(left.astype(jnp.bfloat16).T, Layout(major_to_minor=(0, 1)))
            return dot(transposed, right.astype(jnp.bfloat16), left_dim=1)
        return rounded(left, right)

    return jax.lax.platform_dependent(left, right, cpu=on_cpu, default=rounded)


class RMSNorm(nn.Module):
    """T5's layer norm: a scale, no mean subtraction, no bias. Statistics in float32."""

    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        x = x.astype(jnp.float32)
        normed = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)
        return normed.astype(self.dtype) * scale.astype(self.dtype)


class Dropout(nn.Module):
    """Drops with one mask for all positions of a row, as in T5X: few random bits, the same expectation.

    `broadcast_dim`: the dimension that shares a mask, by default the positions.
    """

    rate: float
    broadcast_dim: int = -2

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        return nn.Dropout(self.rate, broadcast_dims=(self.broadcast_dim,))(x, deterministic=deterministic)


class RelativePositionBiases(nn.Module):
    """A learned bias for each head and distance bucket, shared by all layers of a stack."""

    num_heads: int
    bidirectional: bool
    max_distance: int
    dtype: str

    @nn.compact
    def __call__(self, relative_position: np.ndarray) -> jax.Array:
        """Returns biases [H, N] of N distances."""
        init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        table = self.param("rel_embedding", init, (self.num_heads, RELPOS_BUCKETS), jnp.float32)
        buckets = relative_position_bucket(
            relative_position, bidirectional=self.bidirectional, max_distance=self.max_distance
        )
        # Not table[:, buckets]: a GPU accumulates the gradient of a lookup serially.
        is_bucket_RN = np.arange(RELPOS_BUCKETS)[:, None] == buckets
        return jnp.sum(jnp.where(is_bucket_RN, table[:, :, None], 0.0), axis=1).astype(self.dtype)


def position_bias_matrix(biases_HN: jax.Array, T: int) -> jax.Array:
    """Returns [H, T, S] for T queries and S keys, from the biases of the distances 1 - T to S - 1 of key from query.

    Each row is the one above it, shifted by one: copies of all biases and a zero, reshaped to rows that are one
    shorter. So the gradient sums along the diagonals without a lookup.
    """
    H, N = biases_HN.shape
    copies = jnp.broadcast_to(jnp.pad(biases_HN, ((0, 0), (0, 1)))[:, None], (H, T, N + 1)).reshape(H, T * (N + 1))
    return copies[:, : T * N].reshape(H, T, N)[:, :, T - 1 :]


class Attention(nn.Module):
    """Multi-head attention; keys and values are projected separately, so that a cache can keep them.

    A head's positions are contiguous, as the matmuls of decoding read them and its steps write them.

    `attention_kernel`: "plain" keeps all scores for the backward pass. "per_head" loops over the heads of all rows if a
    head has at least PER_HEAD_MIN_SCORES scores: they stay in the CPU's cache and are rematerialized in the backward
    pass. "cudnn" is cuDNN's fused kernel for 16-bit activations, which never writes the scores to memory.
    """

    emb_dim: int
    num_heads: int
    head_dim: int
    dropout_rate: float
    dtype: str
    matmul_precision: str = "float32"
    attention_kernel: str = "plain"

    def setup(self):
        precision = (self.dtype, self.matmul_precision)
        project = functools.partial(Dense, self.num_heads * self.head_dim, *precision, distribution="normal")
        # No 1/sqrt(K) on the scores: T5 folds it into the query's initialiser, and released checkpoints depend on it.
        self.query = project(init_scale=1.0 / self.head_dim)
        self.key = project()
        self.value = project()
        self.out = Dense(self.emb_dim, *precision, distribution="normal")
        self.weights_dropout = Dropout(self.dropout_rate, broadcast_dim=-1)

    def _heads(self, x_BTD: jax.Array) -> jax.Array:
        return x_BTD.reshape(*x_BTD.shape[:-1], self.num_heads, self.head_dim)

    def keys_values(self, x_BSD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns k_BHSK and v_BHSK."""
        return self._heads(self.key(x_BSD)).swapaxes(1, 2), self._heads(self.value(x_BSD)).swapaxes(1, 2)

    def __call__(self, x_BTD, k_BHSK, v_BHSK, bias_BHTS, deterministic: bool) -> jax.Array:
        """Returns y_BTD. `bias_BHTS` is added to the scores; for "cudnn" it may be a bool mask."""
        q_BTHK = self._heads(self.query(x_BTD))
        # All queries share the mask of a weight: to drop values is to drop weights.
        v_BHSK = self.weights_dropout(v_BHSK, deterministic)
        attend = _attend
        if self.attention_kernel == "cudnn":
            attend = _attend_cudnn
        elif self.attention_kernel == "per_head" and math.prod(bias_BHTS.shape[-2:]) >= PER_HEAD_MIN_SCORES:
            attend = _attend_per_head
        y_BTHK = attend(q_BTHK, k_BHSK, v_BHSK, bias_BHTS)
        return self.out(y_BTHK.reshape(*y_BTHK.shape[:-2], -1))


def _attend(q_BTHK: jax.Array, k_BHSK: jax.Array, v_BHSK: jax.Array, bias_BHTS: jax.Array) -> jax.Array:
    weights_BHTS = _weights(jnp.einsum("BTHK,BHSK->BHTS", q_BTHK, k_BHSK) + bias_BHTS)
    return jnp.einsum("BHTS,BHSK->BTHK", weights_BHTS, v_BHSK)


def _attend_per_head(q_BTHK: jax.Array, k_BHSK: jax.Array, v_BHSK: jax.Array, bias_BHTS: jax.Array) -> jax.Array:
    B, T, H, K = q_BTHK.shape
    S = k_BHSK.shape[2]
    q_NTK = q_BTHK.swapaxes(1, 2).reshape(B * H, T, K)
    k_NSK, v_NSK = k_BHSK.reshape(B * H, S, K), v_BHSK.reshape(B * H, S, K)
    bias_NTS = jnp.broadcast_to(bias_BHTS, (B, H, T, S)).reshape(B * H, T, S)

    @jax.checkpoint
    def attend_head(head):
        q_TK, k_SK, v_SK, bias_TS = head
        return _weights(q_TK @ k_SK.T + bias_TS) @ v_SK  # 2-D matmuls: XLA's batched ones are slower for one head

    y_NTK = jax.lax.map(attend_head, (q_NTK, k_NSK, v_NSK, bias_NTS))
    return y_NTK.reshape(B, H, T, K).swapaxes(1, 2)


def _attend_cudnn(q_BTHK: jax.Array, k_BHSK: jax.Array, v_BHSK: jax.Array, bias_BHTS: jax.Array) -> jax.Array:
    # A mask is passed as one: of a bias cuDNN always computes the gradient.
    bias, mask = (None, bias_BHTS) if bias_BHTS.dtype == bool else (bias_BHTS, None)
    k_BSHK, v_BSHK = k_BHSK.swapaxes(1, 2), v_BHSK.swapaxes(1, 2)
    return jax.nn.dot_product_attention(q_BTHK, k_BSHK, v_BSHK, bias, mask, scale=1.0, implementation="cudnn")


def _weights(scores: jax.Array) -> jax.Array:
    return jax.nn.softmax(scores.astype(jnp.float32)).astype(scores.dtype)


# By the names that T5X takes from Flax.
ACTIVATIONS = {"linear": lambda h: h, "relu": nn.relu, "gelu": nn.gelu, "silu": nn.silu, "swish": nn.swish}


class MLP(nn.Module):
    """Feed-forward block; two activations gate each other by their product (1.1)."""

    emb_dim: int
    mlp_dim: int
    activations: tuple[str, ...]
    dropout_rate: float
    dtype: str
    matmul_precision: str = "float32"

    @nn.compact
    def __call__(self, x_BTD: jax.Array, deterministic: bool) -> jax.Array:
        precision = (self.dtype, self.matmul_precision)
        branches = []
        for i, activation in enumerate(self.activations):
            name = "wi" if len(self.activations) == 1 else f"wi_{i}"
            h_BTF = Dense(self.mlp_dim, *precision, name=name)(x_BTD)
            branches.append(ACTIVATIONS[activation](h_BTF))
        h_BTF = functools.reduce(jnp.multiply, branches)
        h_BTF = Dropout(self.dropout_rate)(h_BTF, deterministic)
        return Dense(self.emb_dim, *precision, name="wo")(h_BTF)
