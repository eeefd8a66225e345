"""What is computed otherwise on a GPU: JAX_PLATFORMS=cuda python -m pytest -m gpu tests/model/gpu_test.py"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from explainft.generation import decoding
from explainft.generation.quantization import decode_parameters
from explainft.model.config import T5Config
from explainft.model.execution import ExecutionConfig
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.training import optimizers
from explainft.training.train_state import init_state

pytestmark = pytest.mark.gpu

CONFIG = T5Config(
    vocab_size=160, emb_dim=64, num_heads=4, num_encoder_layers=2, num_decoder_layers=2, head_dim=16, mlp_dim=128,
    dropout_rate=0.1, dtype="bfloat16",
)  # fmt: skip


def params():
    return init_state(CONFIG, optimizers.adafactor(lambda _: 0.0), 0).params


def packed_batch():
    """Two examples and padding in each row."""
    rng = np.random.default_rng(0)
    inputs, targets = (rng.integers(2, 160, (4, n)).astype(np.int32) for n in (96, 64))
    segments = {}
    for name, tokens in (("encoder", inputs), ("decoder", targets)):
        first, end = tokens.shape[1] // 3, tokens.shape[1] - 10
        places = np.arange(tokens.shape[1])
        segments[name] = np.broadcast_to(np.where(places < first, 1, np.where(places < end, 2, 0)), tokens.shape)
        tokens[segments[name] == 0] = 0
    return {
        "encoder_input_tokens": inputs,
        "encoder_segment_ids": segments["encoder"].astype(np.int32),
        "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": targets,
        "decoder_segment_ids": segments["decoder"].astype(np.int32),
    }


def gradients(model, dropout):
    rng = jax.random.key(3) if dropout else None

    def of(params):
        return Loss(z_loss=1e-4).batch_sums(model, params, packed_batch(), rng)["loss_sum"]

    return jax.jit(jax.value_and_grad(of))(params())


@pytest.mark.parametrize("dropout", [False, True])
def test_cudnn_attention_is_as_accurate_as_plain(dropout):
    """Each gradient is as near to float32 as plain attention in bfloat16 is."""
    execution = sharding.resolve_execution(ExecutionConfig(), CONFIG, sharding.make_mesh(1), (96, 64))
    assert execution.attention_kernel == "cudnn"
    with jax.default_matmul_precision("highest"):
        exact_loss, exact = gradients(T5(dataclasses.replace(CONFIG, dtype="float32")), dropout)
    plain_loss, plain = gradients(T5(CONFIG), dropout)
    loss, found = gradients(T5(CONFIG, execution), dropout)
    np.testing.assert_allclose([loss, plain_loss], exact_loss, rtol=5e-3)

    def error(a, b):
        return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))

    errors = jax.tree.map(lambda a, b, c: (error(a, c), error(b, c)), found, plain, exact)
    for path, (of_fused, of_plain) in jax.tree_util.tree_leaves_with_path(errors, is_leaf=lambda x: type(x) is tuple):
        assert of_fused < max(1.5 * of_plain, 0.02), (jax.tree_util.keystr(path), of_fused, of_plain)


def test_parameters_cast_once_decode_the_same():
    rows = jnp.asarray(packed_batch()["encoder_input_tokens"])
    once = decoding.greedy(T5(CONFIG), decode_parameters(CONFIG, params()), rows, 32)
    np.testing.assert_array_equal(once, decoding.greedy(T5(CONFIG), params(), rows, 32))
