"""Layers: position biases, attention kernels, matmuls in both precisions."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from explainft.core import jax_setup
from explainft.core.errors import UserError
from explainft.model import layers
from explainft.model.execution import ExecutionConfig
from explainft.model.flops import matmul_flops
from explainft.model.layers import relative_position_bucket
from explainft.model.t5 import T5
from tests.model.t5_test import SMALL, V1_0, V1_1, params_of, shift


def test_relative_position_buckets_by_hand():
    # Raffel et al. 2020: 32 buckets; here the first half is exact, and 128 and beyond share the last.
    keys_before = relative_position_bucket(-np.array([0, 1, 15, 16, 127, 128, 5000]), bidirectional=False)
    assert keys_before.tolist() == [0, 1, 15, 16, 31, 31, 31]
    assert relative_position_bucket(np.array([1, 300]), bidirectional=False).tolist() == [0, 0]
    both = relative_position_bucket(np.array([-7, -8, -200, 0, 7, 8, 200]), bidirectional=True)
    assert both.tolist() == [7, 8, 15, 0, 16 + 7, 16 + 8, 16 + 15]
    near = relative_position_bucket(-np.array([15, 16, 31, 32, 500]), bidirectional=False, max_distance=32)
    assert near.tolist() == [15, 16, 31, 31, 31]


def test_position_biases_and_gradients_equal_a_lookup():
    rng = np.random.default_rng(0)
    biases_HN, weights_HTS = rng.standard_normal((2, 4 + 6 - 1)), rng.standard_normal((2, 4, 6))
    places_TS = np.arange(6) - np.arange(4)[:, None] + 3  # of the distance of key and query among 1 - 4 to 6 - 1

    def weighed(of):
        return jax.value_and_grad(lambda biases: jnp.sum(of(biases) * weights_HTS))(biases_HN)

    found = weighed(lambda biases: layers.position_bias_matrix(biases, 4))
    for one, other in zip(found, weighed(lambda biases: biases[:, places_TS]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("dropout_rate", [0.0, 0.3])
def test_per_head_attention_equals_plain(monkeypatch, dropout_rate):
    monkeypatch.setattr(layers, "PER_HEAD_MIN_SCORES", 7 * 9)  # not of the decoder's self-attention
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(2, 40, (3, 10)), rng.integers(2, 40, (3, 7))
    inputs[0, 6:] = 0
    weights = rng.standard_normal((3, 7, 40))

    def loss(params, kernel):
        model = T5(dataclasses.replace(SMALL, dropout_rate=dropout_rate), ExecutionConfig(kernel))
        rngs = {"dropout": jax.random.key(5)}
        logits = model.apply(params, inputs, shift(targets), targets, deterministic=False, rngs=rngs)
        return (logits * weights).sum()

    by_head, together = (
        jax.jit(jax.value_and_grad(loss), static_argnums=1)(params_of(SMALL), x) for x in ("per_head", "plain")
    )
    for one, other in zip(jax.tree.leaves(by_head), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    text = str(jax.make_jaxpr(loss, static_argnums=1)(params_of(SMALL), "per_head"))
    assert text.count(" scan[") == SMALL.num_encoder_layers + SMALL.num_decoder_layers


def rounded(x):
    return np.asarray(x, jnp.bfloat16).astype(np.float64)


@pytest.mark.parametrize("instructions", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 5), (4, 33)])
def test_bfloat16_matmul_and_its_gradients(monkeypatch, instructions, transposed, shape):
    monkeypatch.setattr(jax_setup, "has_bfloat16_matmul", lambda: instructions)
    rng = np.random.default_rng(0)
    x, d_y = (rng.standard_normal((*shape, n)).astype(np.float32) for n in (24, 7))
    kernel = rng.standard_normal((7, 24) if transposed else (24, 7)).astype(np.float32)

    @jax.jit
    def matmul_and_gradients(x, kernel, d_y):
        y, pull = jax.vjp(lambda x, kernel: layers.bfloat16_matmul(x, kernel, transposed), x, kernel)
        return y, *pull(d_y)

    y, d_x, d_kernel = matmul_and_gradients(x, kernel, d_y)
    kernel_DF = rounded(kernel).T if transposed else rounded(kernel)
    d_kernel_DF = rounded(x).reshape(-1, 24).T @ rounded(d_y).reshape(-1, 7)
    np.testing.assert_allclose(y, rounded(x) @ kernel_DF, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_x, rounded(d_y) @ kernel_DF.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_kernel, d_kernel_DF.T if transposed else d_kernel_DF, rtol=1e-5, atol=1e-5)
    assert y.dtype == d_x.dtype == d_kernel.dtype == jnp.float32


def compiled_gradients_of_bfloat16_matmuls(transposed):
    def loss(x, kernel):
        return jnp.sum(jnp.square(layers.bfloat16_matmul(x, kernel, transposed)))

    x, kernel = jnp.ones((64, 32)), jnp.ones((48, 32) if transposed else (32, 48))
    return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, kernel).compile().as_text()


@pytest.mark.skipif(not jax_setup.has_bfloat16_matmul(), reason="the processor has no bfloat16 instructions")
@pytest.mark.parametrize("transposed", [False, True])
def test_xla_converts_no_operand_to_float32(transposed):
    text = compiled_gradients_of_bfloat16_matmuls(transposed)
    assert " = bf16[" in text and not re.search(r" = f32\[\S* convert\(", text)


@pytest.mark.parametrize("transposed", [False, True])
def test_operands_stay_float32_without_bfloat16_instructions(monkeypatch, transposed):
    monkeypatch.setattr(jax_setup, "has_bfloat16_matmul", lambda: False)
    text = compiled_gradients_of_bfloat16_matmuls(transposed)
    assert " dot(" in text and "reduce-precision" in text and "bf16" not in text


@pytest.mark.parametrize(
    ("features", "multiplies"),
    [("flags : avx2 amx_bf16 sse", True), ("flags : avx512_bf16", True), ("flags : avx2 bf16x", False), ("", False)],
)
def test_processors_with_bfloat16_matmuls(monkeypatch, features, multiplies):
    monkeypatch.setattr(jax_setup, "processor_features", lambda: features)
    assert jax_setup.has_bfloat16_matmul() is multiplies


def test_float32_matmul_gradients_copy_nothing():
    def loss(x, kernel_DF, kernel_FD):
        h = jnp.maximum(layers.matmul(x, kernel_DF, "float32"), 0)
        return jnp.sum(jnp.square(layers.matmul(h, kernel_FD, "float32")))

    operands = jnp.ones((4, 16, 32)), jnp.ones((32, 48)), jnp.ones((48, 32))
    text = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*operands).compile().as_text()
    assert " dot(" in text and not re.search(r"%\S*(copy|transpose)", text)


@pytest.mark.parametrize("policy", ["minimal", "full"])
def test_remat_policies_save_the_same_matmuls_in_bfloat16(policy):
    tokens = (jnp.ones((2, 6), jnp.int32), jnp.ones((2, 4), jnp.int32), jnp.ones((2, 4), jnp.int32))

    def flops_of_gradients(**execution):
        model = T5(SMALL, ExecutionConfig(**execution))
        return matmul_flops(jax.grad(lambda params: jnp.sum(model.apply(params, *tokens))), params_of(SMALL))

    saved = flops_of_gradients()
    rematerialized = flops_of_gradients(remat_policy=policy)
    assert saved < rematerialized == flops_of_gradients(remat_policy=policy, matmul_precision="bfloat16")


@pytest.mark.parametrize("config", [V1_0, V1_1], ids=["1.0", "1.1"])
def test_matmul_precision_reaches_every_kernel(config):
    """What a kernel has beyond bfloat16 changes the output in float32 alone."""
    tokens = (jnp.arange(2, 14).reshape(2, 6), jnp.arange(8).reshape(2, 4), jnp.arange(3, 11).reshape(2, 4))
    models = [T5(config, ExecutionConfig(matmul_precision=precision)) for precision in ("float32", "bfloat16")]
    applied = [jax.jit(model.apply) for model in models]
    params = params_of(config)
    before = [apply(params, *tokens) for apply in applied]
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    for i, (path, leaf) in enumerate(paths):
        if "kernel" in str(path[-1]):
            leaves = [other for _, other in paths]
            leaves[i] = rounded(leaf).astype(np.float32)
            plain, lower = (apply(jax.tree.unflatten(tree, leaves), *tokens) for apply in applied)
            assert (plain != before[0]).any() and (lower == before[1]).all(), path
    if config.logits_via_embedding:
        embedding, states = params["params"]["token_embedder"]["embedding"], jnp.ones((1, 1, config.emb_dim))
        rounded_params = {"token_embedder": {"embedding": jnp.asarray(rounded(embedding), jnp.float32)}}
        plain, lower = (
            model.apply({"params": {"token_embedder": {"embedding": embedding}}}, states, method=T5.logits)
            == model.apply({"params": rounded_params}, states, method=T5.logits)
            for model in models
        )
        assert not plain.all() and lower.all()


def test_unknown_matmul_precision_is_refused():
    with pytest.raises(UserError, match="MATMUL_PRECISION='int4' must be one of float32, bfloat16"):
        ExecutionConfig(matmul_precision="int4")
