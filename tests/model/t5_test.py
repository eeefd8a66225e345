"""The network: its names, its masks, its cache."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from explainft.core import jax_setup
from explainft.core.errors import UserError
from explainft.model import layers
from explainft.model.config import T5Config
from explainft.model.execution import ExecutionConfig
from explainft.model.flops import matmul_flops
from explainft.model.layers import relative_position_bucket
from explainft.model.t5 import T5, same_segment
from explainft.parallel.sharding import resolve_execution

SMALL = T5Config(
    vocab_size=40, emb_dim=16, num_heads=2, num_encoder_layers=2, num_decoder_layers=2, head_dim=8, mlp_dim=32
)
V1_0 = SMALL
V1_1 = T5Config(40, 16, 2, 2, 2, 8, 32, mlp_activations=("gelu", "linear"), logits_via_embedding=False)

# T5X's tree, layer 0 of each stack; `i` are the sizes of SMALL.
NAMES_1_0 = {
    "decoder/decoder_norm/scale": (16,),
    "decoder/layers_0/encoder_decoder_attention/key/kernel": (16, 16),
    "decoder/layers_0/encoder_decoder_attention/out/kernel": (16, 16),
    "decoder/layers_0/encoder_decoder_attention/query/kernel": (16, 16),
    "decoder/layers_0/encoder_decoder_attention/value/kernel": (16, 16),
    "decoder/layers_0/mlp/wi/kernel": (16, 32),
    "decoder/layers_0/mlp/wo/kernel": (32, 16),
    "decoder/layers_0/pre_cross_attention_layer_norm/scale": (16,),
    "decoder/layers_0/pre_mlp_layer_norm/scale": (16,),
    "decoder/layers_0/pre_self_attention_layer_norm/scale": (16,),
    "decoder/layers_0/self_attention/key/kernel": (16, 16),
    "decoder/layers_0/self_attention/out/kernel": (16, 16),
    "decoder/layers_0/self_attention/query/kernel": (16, 16),
    "decoder/layers_0/self_attention/value/kernel": (16, 16),
    "decoder/relpos_bias/rel_embedding": (2, 32),
    "encoder/encoder_norm/scale": (16,),
    "encoder/layers_0/attention/key/kernel": (16, 16),
    "encoder/layers_0/attention/out/kernel": (16, 16),
    "encoder/layers_0/attention/query/kernel": (16, 16),
    "encoder/layers_0/attention/value/kernel": (16, 16),
    "encoder/layers_0/mlp/wi/kernel": (16, 32),
    "encoder/layers_0/mlp/wo/kernel": (32, 16),
    "encoder/layers_0/pre_attention_layer_norm/scale": (16,),
    "encoder/layers_0/pre_mlp_layer_norm/scale": (16,),
    "encoder/relpos_bias/rel_embedding": (2, 32),
    "token_embedder/embedding": (40, 16),
}


@functools.cache
def params_of(config, seed=0):
    tokens = jnp.ones((1, 1), jnp.int32)
    params = jax.jit(T5(config).init)(jax.random.key(seed), tokens, tokens, tokens)
    # Norm scales start at 1 and would hide one norm taken for another.
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [x + 0.1 * rng.standard_normal(x.shape).astype(np.float32) for x in leaves])


def names_and_shapes(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


def shift(targets):
    return np.pad(targets, ((0, 0), (1, 0)))[:, :-1]


def forward(config, inputs, targets, input_segments=None, target_segments=None):
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    return np.asarray(
        T5(config).apply(params_of(config), inputs, shift(targets), targets, input_segments, target_segments)
    )


def test_parameter_names_and_shapes_are_those_of_t5x():
    found = names_and_shapes(params_of(V1_0))
    assert {name: shape for name, shape in found.items() if "layers_1" not in name} == NAMES_1_0
    assert {n.replace("layers_1", "layers_0") for n in found if "layers_1" in n} == {
        n for n in NAMES_1_0 if "layers_0" in n
    }


def test_version_1_1_gates_its_mlp_and_has_its_own_output_layer():
    found = names_and_shapes(params_of(V1_1))
    new = set(found) - set(names_and_shapes(params_of(V1_0)))
    assert {name.replace("layers_1", "layers_0") for name in new} == {
        "decoder/logits_dense/kernel",
        *(f"{stack}/layers_0/mlp/{wi}/kernel" for stack in ("encoder", "decoder") for wi in ("wi_0", "wi_1")),
    }


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ((512, 8, 6, 6, 64, 2048), 60_506_624),
        ((768, 12, 12, 12, 64, 3072), 222_903_552),
        ((1024, 16, 24, 24, 64, 4096), 737_668_096),
        ((1024, 32, 24, 24, 128, 16384), 2_851_598_336),
    ],
    ids=["small", "base", "large", "3b"],
)
def test_the_1_0_family_has_the_published_parameter_counts(sizes, parameters):
    tokens = jnp.ones((1, 1), jnp.int32)
    shapes = jax.eval_shape(T5(T5Config(32128, *sizes)).init, jax.random.key(0), tokens, tokens, tokens)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == parameters


def test_relative_position_buckets_by_hand():
    # Raffel et al. 2020: 32 buckets; here the first half is exact, and 128 and beyond share the last.
    keys_before = relative_position_bucket(-np.array([0, 1, 15, 16, 127, 128, 5000]), bidirectional=False)
    assert keys_before.tolist() == [0, 1, 15, 16, 31, 31, 31]
    assert relative_position_bucket(np.array([1, 300]), bidirectional=False).tolist() == [0, 0]
    both = relative_position_bucket(np.array([-7, -8, -200, 0, 7, 8, 200]), bidirectional=True)
    assert both.tolist() == [7, 8, 15, 0, 16 + 7, 16 + 8, 16 + 15]
    near = relative_position_bucket(-np.array([15, 16, 31, 32, 500]), bidirectional=False, max_distance=32)
    assert near.tolist() == [15, 16, 31, 31, 31]


def test_biases_of_positions_and_their_derivative_are_those_of_a_look_up():
    rng = np.random.default_rng(0)
    biases_HN, weights_HTS = rng.standard_normal((2, 4 + 6 - 1)), rng.standard_normal((2, 4, 6))
    places_TS = np.arange(6) - np.arange(4)[:, None] + 3  # of the distance of key and query among 1 - 4 to 6 - 1

    def weighed(of):
        return jax.value_and_grad(lambda biases: jnp.sum(of(biases) * weights_HTS))(biases_HN)

    found = weighed(lambda biases: layers.position_bias_matrix(biases, 4))
    for one, other in zip(found, weighed(lambda biases: biases[:, places_TS]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_derivative_of_a_frequent_token_is_summed_in_float32():
    config = dataclasses.replace(SMALL, dtype="bfloat16")
    tokens = jnp.full((4, 250), 5)

    def summed(params):
        return jnp.sum(T5(config).apply({"params": params}, tokens, method=T5.embed).astype(jnp.float32))

    derivative = jax.grad(summed)(params_of(SMALL)["params"])["token_embedder"]["embedding"]
    np.testing.assert_array_equal(derivative[5], 1000.0)  # a bfloat16 sum of ones ends at 256


def test_a_network_s_position_biases_reach_as_far_as_its_config_says():
    near = dataclasses.replace(SMALL, relative_attention_max_distance=32)
    tokens = jnp.asarray(np.random.default_rng(0).integers(1, 40, (1, 60)))
    params = T5(SMALL).init(jax.random.key(0), tokens, tokens, tokens)["params"]

    def logits(config, length):
        return T5(config).apply({"params": params}, *[tokens[:, :length]] * 3)

    np.testing.assert_array_equal(logits(SMALL, 8), logits(near, 8))
    assert jnp.abs(logits(SMALL, 60) - logits(near, 60)).max() > 1e-4


def test_a_local_encoder_sees_no_farther_than_its_layers_radii():
    local = dataclasses.replace(SMALL, encoder_local_radius=3)
    params, mask = params_of(local), np.ones((1, 30, 30), bool)
    x_BSD = np.random.default_rng(0).normal(size=(1, 30, 16)).astype(np.float32)

    def at_20(x_BSD):
        return T5(local).apply(params, x_BSD, mask, True, method=lambda model, *args: model.encoder(*args))[0, 20, 3]

    seen = np.abs(jax.jit(jax.grad(at_20))(x_BSD))[0].max(-1) > 0
    assert seen.nonzero()[0].tolist() == list(range(14, 27))  # two layers, three tokens each


@pytest.mark.parametrize("config", [V1_0, V1_1], ids=["1.0", "1.1"])
def test_a_target_position_sees_its_past_and_the_whole_input_only(config):
    rng = np.random.default_rng(0)
    x_BSD, y_BTD = rng.normal(size=(1, 6, 16)).astype(np.float32), rng.normal(size=(1, 5, 16)).astype(np.float32)
    real = np.array([[1, 1, 1, 1, 0, 0]])  # the last two places of the input are padding

    def logits(model, x_BSD, y_BTD):
        encoded_BSD = model.encoder(x_BSD, same_segment(real, real), True)
        causal_BTT, cross_BTS = np.tri(5, dtype=bool)[None], same_segment(np.ones((1, 5), int), real)
        return model.logits(model.decoder(y_BTD, encoded_BSD, causal_BTT, cross_BTS, True))

    params = params_of(config)  # outside of the trace: it is kept for other tests

    def logit_at(t, x_BSD, y_BTD):
        return T5(config).apply(params, x_BSD, y_BTD, method=logits)[0, t, 3]

    gradients = jax.jit(jax.vmap(jax.grad(logit_at, argnums=(1, 2)), in_axes=(0, None, None)))
    by_x_TBSD, by_y_TBTD = gradients(np.arange(5), x_BSD, y_BTD)
    sees_target = np.abs(by_y_TBTD[:, 0]).max(-1) > 0
    sees_input = np.abs(by_x_TBSD[:, 0]).max(-1) > 0
    assert (sees_target == np.tri(5, dtype=bool)).all()
    assert (sees_input == (real > 0)).all()


@pytest.mark.parametrize("config", [V1_0, V1_1], ids=["1.0", "1.1"])
def test_padding_changes_nothing(config):
    tight = forward(config, [[5, 6, 7, 1]], [[8, 9, 1]])
    loose = forward(config, [[5, 6, 7, 1, 0, 0, 0]], [[8, 9, 1, 0, 0]])
    np.testing.assert_allclose(loose[:, :3], tight, atol=1e-5)


def test_an_input_position_sees_no_padding():
    a = forward(V1_0, [[5, 6, 7, 1, 0, 0]], [[8, 9, 1]])
    b = forward(V1_0, [[5, 6, 7, 1, 9, 9]], [[8, 9, 1]], input_segments=np.array([[1, 1, 1, 1, 0, 0]]))
    np.testing.assert_allclose(a, b, atol=1e-5)
    seen = forward(V1_0, [[5, 6, 7, 1, 9, 9]], [[8, 9, 1]])
    assert np.abs(seen - a).max() > 1e-3


def test_packing_changes_nothing():
    alone = [forward(V1_0, [[5, 6, 7, 1]], [[8, 9, 1]]), forward(V1_0, [[11, 12, 1]], [[13, 14, 15, 1]])]
    inputs, targets = np.array([[5, 6, 7, 1, 11, 12, 1, 0]]), np.array([[8, 9, 1, 13, 14, 15, 1, 0, 0]])
    decoder_inputs = np.array([[0, 8, 9, 0, 13, 14, 15, 0, 0]])
    input_segments, target_segments = np.array([[1, 1, 1, 1, 2, 2, 2, 0]]), np.array([[1, 1, 1, 2, 2, 2, 2, 0, 0]])
    arguments = (inputs, decoder_inputs, targets, input_segments, target_segments)
    packed = np.asarray(T5(V1_0).apply(params_of(V1_0), *arguments))
    np.testing.assert_allclose(packed[:, :3], alone[0], atol=1e-5)
    np.testing.assert_allclose(packed[:, 3:7], alone[1], atol=1e-5)


@pytest.mark.parametrize("config", [V1_0, V1_1], ids=["1.0", "1.1"])
def test_cached_decoding_equals_the_full_forward(config):
    inputs = np.array([[5, 6, 7, 1, 0], [11, 12, 13, 14, 1]])
    targets = np.random.default_rng(0).integers(2, 40, (2, 140))  # past 128, where the last bucket begins
    full = forward(config, inputs, targets)
    model, params = T5(config), params_of(config)
    cache = model.apply(params, inputs, 150, method=T5.init_cache)
    step = jax.jit(functools.partial(model.apply, method=T5.decode_step))
    for t, tokens_B in enumerate(shift(targets).T):
        logits_BV, cache = step(params, tokens_B, cache, jnp.int32(t))
        np.testing.assert_allclose(logits_BV, full[:, t], atol=2e-5)


def test_dropout_acts_in_training_only():
    config = T5Config(**{**vars(SMALL), "dropout_rate": 0.5})
    tokens = np.array([[5, 6, 7, 1]])
    apply = functools.partial(T5(config).apply, params_of(SMALL), tokens, shift(tokens), tokens)
    train = [apply(deterministic=False, rngs={"dropout": jax.random.key(seed)}) for seed in (0, 0, 1)]
    assert (train[0] == train[1]).all()
    assert np.abs(train[0] - train[2]).max() > 1e-2
    np.testing.assert_array_equal(apply(), forward(SMALL, tokens, tokens))


def test_dropout_leaves_out_an_attention_weight_for_all_queries():
    """A dropped value is a dropped weight: the outcome is what masks of the weights [B, H, 1, S] give."""
    attention = layers.Attention(emb_dim=8, num_heads=2, head_dim=4, dropout_rate=0.5, dtype="float32")
    rng = np.random.default_rng(0)
    x_BTD, bias_BHTS = rng.standard_normal((3, 5, 8), np.float32), rng.standard_normal((3, 2, 5, 7), np.float32)
    k_BHSK, v_BHSK = rng.standard_normal((2, 3, 2, 7, 4), np.float32)
    params = attention.init(jax.random.key(0), x_BTD, k_BHSK, v_BHSK, bias_BHTS, True)
    found = attention.apply(params, x_BTD, k_BHSK, v_BHSK, bias_BHTS, False, rngs={"dropout": jax.random.key(1)})
    q_BTHK = (x_BTD @ params["params"]["query"]["kernel"]).reshape(3, 5, 2, 4)
    weights_BHTS = jax.nn.softmax(np.einsum("bthk,bhsk->bhts", q_BTHK, k_BHSK) + bias_BHTS)

    masks = (np.arange(2**14)[:, None] >> np.arange(14) & 1).reshape(-1, 2, 7)  # all there are, 7 positions of 2 heads
    for row in range(3):
        heads = [np.einsum("ts,ns,sk->ntk", 2 * weights_BHTS[row, h], masks[:, h], v_BHSK[row, h]) for h in (0, 1)]
        y = np.concatenate(heads, -1) @ params["params"]["out"]["kernel"]
        assert np.abs(y - found[row]).max((1, 2)).min() < 1e-5


@pytest.mark.parametrize("dropout_rate", [0.0, 0.3])
def test_attention_a_head_at_a_time_is_attention(monkeypatch, dropout_rate):
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


class Tpu:
    platform = "tpu"
    device_kind = "TPU v4"


class Gpu:
    platform = "gpu"
    device_kind = "NVIDIA H100 80GB HBM3"
    compute_capability = "9.0"


def mesh(device):
    return jax.sharding.Mesh(np.array([[device]]), ("data", "model"))


def resolved(config, mesh, lengths):
    return resolve_execution(ExecutionConfig(), config, mesh, lengths)


def test_one_cpu_attends_to_long_rows_a_head_at_a_time():
    cpu, tpu = mesh(jax.devices("cpu")[0]), mesh(Tpu())
    assert resolved(SMALL, cpu, (128, 512)).attention_kernel == "per_head"
    assert resolved(SMALL, cpu, (128, 256)).attention_kernel == "plain"
    assert resolved(SMALL, tpu, (512, 512)).attention_kernel == "plain"


def test_a_gpu_attends_to_bfloat16_numbers_in_one_kernel():
    gpu = mesh(Gpu())
    bfloat16 = dataclasses.replace(SMALL, dtype="bfloat16")
    assert resolved(bfloat16, gpu, (512, 512)).attention_kernel == "cudnn"
    assert resolved(SMALL, gpu, (512, 512)).attention_kernel == "plain"
    assert resolved(bfloat16, gpu, (512, 511)).attention_kernel == "plain"
    assert resolved(dataclasses.replace(bfloat16, head_dim=4), gpu, (512, 512)).attention_kernel == "plain"


def test_one_cpu_sums_bfloat16_activations_in_float32():
    cpu, tpu = mesh(jax.devices("cpu")[0]), mesh(Tpu())
    bfloat16 = dataclasses.replace(SMALL, dtype="bfloat16")
    assert resolved(bfloat16, cpu, (8, 8)).matmul_precision == "bfloat16"
    assert resolved(bfloat16, tpu, (8, 8)) == ExecutionConfig()
    assert resolved(SMALL, cpu, (8, 8)) == ExecutionConfig()


def rounded(x):
    return np.asarray(x, jnp.bfloat16).astype(np.float64)


@pytest.mark.parametrize("instructions", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 5), (4, 33)])
def test_a_product_of_bfloat16_numbers_and_its_derivatives(monkeypatch, instructions, transposed, shape):
    monkeypatch.setattr(jax_setup, "has_bfloat16_matmul", lambda: instructions)
    rng = np.random.default_rng(0)
    x, d_y = (rng.standard_normal((*shape, n)).astype(np.float32) for n in (24, 7))
    kernel = rng.standard_normal((7, 24) if transposed else (24, 7)).astype(np.float32)

    @jax.jit
    def product(x, kernel, d_y):
        y, pull = jax.vjp(lambda x, kernel: layers.bfloat16_matmul(x, kernel, transposed), x, kernel)
        return y, *pull(d_y)

    y, d_x, d_kernel = product(x, kernel, d_y)
    kernel_DF = rounded(kernel).T if transposed else rounded(kernel)
    d_kernel_DF = rounded(x).reshape(-1, 24).T @ rounded(d_y).reshape(-1, 7)
    np.testing.assert_allclose(y, rounded(x) @ kernel_DF, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_x, rounded(d_y) @ kernel_DF.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_kernel, d_kernel_DF.T if transposed else d_kernel_DF, rtol=1e-5, atol=1e-5)
    assert y.dtype == d_x.dtype == d_kernel.dtype == jnp.float32


def compiled_gradients_of_bfloat16_products(transposed):
    def loss(x, kernel):
        return jnp.sum(jnp.square(layers.bfloat16_matmul(x, kernel, transposed)))

    x, kernel = jnp.ones((64, 32)), jnp.ones((48, 32) if transposed else (32, 48))
    return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, kernel).compile().as_text()


@pytest.mark.skipif(not jax_setup.has_bfloat16_matmul(), reason="the processor has no instructions for bfloat16")
@pytest.mark.parametrize("transposed", [False, True])
def test_xla_widens_no_operand_of_a_product_of_bfloat16_numbers(transposed):
    text = compiled_gradients_of_bfloat16_products(transposed)
    assert " = bf16[" in text and not re.search(r" = f32\[\S* convert\(", text)


@pytest.mark.parametrize("transposed", [False, True])
def test_without_instructions_for_bfloat16_xla_is_given_nothing_to_widen(monkeypatch, transposed):
    monkeypatch.setattr(jax_setup, "has_bfloat16_matmul", lambda: False)
    text = compiled_gradients_of_bfloat16_products(transposed)
    assert " dot(" in text and "reduce-precision" in text and "bf16" not in text


@pytest.mark.parametrize(
    ("features", "multiplies"),
    [("flags : avx2 amx_bf16 sse", True), ("flags : avx512_bf16", True), ("flags : avx2 bf16x", False), ("", False)],
)
def test_which_processors_multiply_bfloat16(monkeypatch, features, multiplies):
    monkeypatch.setattr(jax_setup, "_features", lambda: features)
    assert jax_setup.has_bfloat16_matmul() is multiplies


def test_xla_copies_nothing_for_the_derivative_of_a_float32_product():
    def loss(x, kernel_DF, kernel_FD):
        h = jnp.maximum(layers.matmul(x, kernel_DF, "float32"), 0)
        return jnp.sum(jnp.square(layers.matmul(h, kernel_FD, "float32")))

    operands = jnp.ones((4, 16, 32)), jnp.ones((32, 48)), jnp.ones((48, 32))
    text = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*operands).compile().as_text()
    assert " dot(" in text and not re.search(r"%\S*(copy|transpose)", text)


@pytest.mark.parametrize("policy", ["minimal", "full"])
def test_products_of_bfloat16_numbers_are_kept_or_made_again_as_others_are(policy):
    tokens = (jnp.ones((2, 6), jnp.int32), jnp.ones((2, 4), jnp.int32), jnp.ones((2, 4), jnp.int32))

    def flops_of_gradients(**execution):
        network = T5(SMALL, ExecutionConfig(**execution))
        return matmul_flops(jax.grad(lambda params: jnp.sum(network.apply(params, *tokens))), params_of(SMALL))

    kept = flops_of_gradients()
    made_again = flops_of_gradients(remat_policy=policy)
    assert kept < made_again == flops_of_gradients(remat_policy=policy, matmul_precision="bfloat16")


@pytest.mark.parametrize("config", [V1_0, V1_1], ids=["1.0", "1.1"])
def test_every_kernel_is_multiplied_in_the_precision_asked_for(config):
    """What a kernel has beyond bfloat16 changes the output in float32 alone."""
    tokens = (jnp.arange(2, 14).reshape(2, 6), jnp.arange(8).reshape(2, 4), jnp.arange(3, 11).reshape(2, 4))
    networks = [T5(config, ExecutionConfig(matmul_precision=precision)) for precision in ("float32", "bfloat16")]
    applied = [jax.jit(network.apply) for network in networks]
    params = params_of(config)
    before = [apply(params, *tokens) for apply in applied]
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    for i, (path, leaf) in enumerate(paths):
        if "kernel" in str(path[-1]):
            leaves = [other for _, other in paths]
            leaves[i] = rounded(leaf).astype(np.float32)
            plain, fewer = (apply(jax.tree.unflatten(tree, leaves), *tokens) for apply in applied)
            assert (plain != before[0]).any() and (fewer == before[1]).all(), path
    if config.logits_via_embedding:
        embedding, states = params["params"]["token_embedder"]["embedding"], jnp.ones((1, 1, config.emb_dim))
        few = {"token_embedder": {"embedding": jnp.asarray(rounded(embedding), jnp.float32)}}
        plain, fewer = (
            network.apply({"params": {"token_embedder": {"embedding": embedding}}}, states, method=T5.logits)
            == network.apply({"params": few}, states, method=T5.logits)
            for network in networks
        )
        assert not plain.all() and fewer.all()


def test_an_unknown_matmul_precision():
    with pytest.raises(UserError, match="MATMUL_PRECISION='int4' must be one of float32, bfloat16"):
        ExecutionConfig(matmul_precision="int4")


def test_bfloat16_activations_stay_close_and_logits_stay_float32():
    config = T5Config(**{**vars(SMALL), "dtype": "bfloat16"})
    tokens = np.array([[5, 6, 7, 1]])
    logits = T5(config).apply(params_of(SMALL), tokens, shift(tokens), tokens)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, forward(SMALL, tokens, tokens), atol=0.1)
