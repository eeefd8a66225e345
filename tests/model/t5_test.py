"""The model: parameter names, masks, cache."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from explainft.model import layers
from explainft.model.config import T5Config
from explainft.model.t5 import T5, same_segment

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


@functools.cache
def jitted(config):
    return jax.jit(T5(config).apply, static_argnames="deterministic")


def forward(config, inputs, targets, input_segments=None, target_segments=None):
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    return np.asarray(
        jitted(config)(params_of(config), inputs, shift(targets), targets, input_segments, target_segments)
    )


def test_parameter_names_and_shapes_equal_t5x():
    found = names_and_shapes(params_of(V1_0))
    assert {name: shape for name, shape in found.items() if "layers_1" not in name} == NAMES_1_0
    assert {n.replace("layers_1", "layers_0") for n in found if "layers_1" in n} == {
        n for n in NAMES_1_0 if "layers_0" in n
    }


def test_1_1_has_a_gated_mlp_and_an_output_layer():
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
def test_1_0_has_the_published_parameter_counts(sizes, parameters):
    tokens = jnp.ones((1, 1), jnp.int32)
    shapes = jax.eval_shape(T5(T5Config(32128, *sizes)).init, jax.random.key(0), tokens, tokens, tokens)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == parameters


def test_embedding_gradient_is_accumulated_in_float32():
    config = dataclasses.replace(SMALL, dtype="bfloat16")
    tokens = jnp.full((4, 250), 5)

    def summed(params):
        return jnp.sum(T5(config).apply({"params": params}, tokens, method=T5.embed).astype(jnp.float32))

    gradient = jax.grad(summed)(params_of(SMALL)["params"])["token_embedder"]["embedding"]
    np.testing.assert_array_equal(gradient[5], 1000.0)  # a bfloat16 sum of ones ends at 256


def test_position_biases_end_at_the_max_distance():
    near = dataclasses.replace(SMALL, relative_attention_max_distance=32)
    tokens = jnp.asarray(np.random.default_rng(0).integers(1, 40, (1, 60)))

    def logits(config, length):
        return jitted(config)(params_of(SMALL), *[tokens[:, :length]] * 3)

    np.testing.assert_array_equal(logits(SMALL, 8), logits(near, 8))
    assert jnp.abs(logits(SMALL, 60) - logits(near, 60)).max() > 1e-4


def test_local_encoder_sees_its_radius_per_layer():
    local = dataclasses.replace(SMALL, encoder_local_radius=3)
    params, mask = params_of(local), np.ones((1, 30, 30), bool)
    x_BSD = np.random.default_rng(0).normal(size=(1, 30, 16)).astype(np.float32)

    def at_20(x_BSD):
        return T5(local).apply(params, x_BSD, mask, True, method=lambda model, *args: model.encoder(*args))[0, 20, 3]

    seen = np.abs(jax.jit(jax.grad(at_20))(x_BSD))[0].max(-1) > 0
    assert seen.nonzero()[0].tolist() == list(range(14, 27))  # two layers, three tokens each


@pytest.mark.parametrize("config", [V1_0, V1_1], ids=["1.0", "1.1"])
def test_target_position_sees_its_past_and_the_input_only(config):
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


def test_input_position_sees_no_padding():
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
    packed = np.asarray(jitted(V1_0)(params_of(V1_0), *arguments))
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
    apply = functools.partial(jitted(config), params_of(SMALL), tokens, shift(tokens), tokens)
    train = [apply(deterministic=False, rngs={"dropout": jax.random.key(seed)}) for seed in (0, 0, 1)]
    assert (train[0] == train[1]).all()
    assert np.abs(train[0] - train[2]).max() > 1e-2
    np.testing.assert_array_equal(apply(), forward(SMALL, tokens, tokens))


def test_attention_dropout_is_shared_by_all_queries():
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


def test_bfloat16_activations_stay_close_and_logits_stay_float32():
    config = T5Config(**{**vars(SMALL), "dtype": "bfloat16"})
    tokens = np.array([[5, 6, 7, 1]])
    logits = T5(config).apply(params_of(SMALL), tokens, shift(tokens), tokens)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, forward(SMALL, tokens, tokens), atol=0.1)
