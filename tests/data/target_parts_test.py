"""Loss weights of target tokens, against two separate means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from explainft.core.errors import UserError
from explainft.data.batches import Batches
from explainft.data.target_parts import ANSWER, CONTEXT, EXPLANATION, loss_weights, prefix_lengths
from explainft.model.loss import Loss, cross_entropy
from explainft.model.t5 import T5, T5Config
from explainft.training.train_step import gradient_sums
from tests.data.batches_test import write_cache

PARTS = [[EXPLANATION] * 5 + [CONTEXT] * 2 + [ANSWER] * 2, [CONTEXT, ANSWER], [CONTEXT, CONTEXT] + [EXPLANATION] * 3]
LENGTHS = {"inputs": 16, "targets": 24}
TINY = T5Config(
    vocab_size=40, emb_dim=8, num_heads=2, num_encoder_layers=1, num_decoder_layers=1, head_dim=4, mlp_dim=16
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Examples of very different lengths: explanation and answer, the answer alone, or the explanation alone."""
    rng = np.random.default_rng(0)
    inputs = [rng.integers(3, 40, rng.integers(2, 6)) for _ in range(16)]
    parts = [
        np.repeat([EXPLANATION, CONTEXT, ANSWER], [rng.integers(0, 12), 2, rng.integers(0, 3) + (i % 3 == 0)])
        for i in range(16)
    ]
    targets = [rng.integers(3, 40, len(row)) for row in parts]
    return write_cache(tmp_path_factory.mktemp("parts"), inputs, targets, target_parts=parts)


def test_weights_of_each_example_sum_to_alpha_and_the_rest():
    flat, lengths = np.concatenate(PARTS), np.array([len(parts) for parts in PARTS])
    weights = np.split(loss_weights(flat, lengths, 0.3), np.cumsum(lengths)[:-1])
    np.testing.assert_allclose(weights[0], [0.14] * 5 + [0.0] * 2 + [0.15] * 2, rtol=1e-6)
    np.testing.assert_allclose(weights[1], [0.0, 0.3], rtol=1e-6)
    np.testing.assert_allclose(weights[2], [0.0, 0.0, *[0.7 / 3] * 3], rtol=1e-6)
    assert loss_weights(flat, lengths, None).tolist() == [float(part != CONTEXT) for part in flat]


def test_prefix_lengths():
    flat, lengths = np.concatenate(PARTS), np.array([len(parts) for parts in PARTS])
    assert prefix_lengths(flat, lengths).tolist() == [0, 1, 2]
    assert prefix_lengths(np.array([CONTEXT] * 3), np.array([1, 2])).tolist() == [1, 2]


@jax.jit
def loss_of_one(params, inputs, targets, of_answer, of_explanation, alpha):
    """Returns alpha x the mean over the answer + (1 - alpha) x that over the explanation, of one padded example."""
    shifted = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)))
    loss = cross_entropy(T5(TINY).apply({"params": params}, inputs, shifted, targets), targets)
    answer, explanation = (jnp.sum(loss * of) / jnp.maximum(jnp.sum(of), 1) for of in (of_answer, of_explanation))
    return alpha * answer + (1 - alpha) * explanation


def pad(row, length):
    return np.pad(row, (0, length - len(row)))[None]


def reference(params, cache, alpha):
    """Returns the loss and its gradient, summed over examples one at a time."""
    total, gradient = 0.0, jax.tree.map(jnp.zeros_like, params)
    for i in range(len(cache)):
        masks = [pad((cache.target_parts[i] == part).astype(np.float32), 24) for part in (ANSWER, EXPLANATION)]
        tokens = pad(cache.inputs[i], 16), pad(cache.targets[i], 24)
        loss, grads = jax.value_and_grad(loss_of_one)(params, *tokens, *masks, alpha)
        total, gradient = total + float(loss), jax.tree.map(jnp.add, gradient, grads)
    return total, gradient


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_loss_is_two_separate_means_in_packed_rows_and_microbatches(cache, alpha):
    model = T5(TINY)
    one = np.ones((1, 2), np.int32)
    params = model.init(jax.random.key(0), one, one, one)["params"]
    expected, gradient = reference(params, cache, alpha)
    for packed in (False, True):
        rows = len(Batches(cache, LENGTHS, 1, 0, packed=packed).packing)
        batch = Batches(cache, LENGTHS, rows + rows % 2, 0, packed=packed, alpha=alpha).ordered(0)
        for microbatches in (1, 2):
            grads, sums = gradient_sums(model, Loss(), microbatches)(params, batch, jax.random.key(1))
            assert float(sums["loss_sum"]) == pytest.approx(expected, rel=1e-5)
            for found, wanted in zip(jax.tree.leaves(grads), jax.tree.leaves(gradient), strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_alpha_is_refused_where_parts_are_unknown(cache, tmp_path):
    with pytest.raises(UserError, match="ALPHA=1.5 must be from 0 to 1"):
        Batches(cache, LENGTHS, 4, 0, packed=True, alpha=1.5)
    plain = write_cache(tmp_path, [np.array([5, 1])], [np.array([6, 1])])
    assert "decoder_loss_weights" not in Batches(plain, LENGTHS, 1, 0, packed=True)[0]
    with pytest.raises(UserError, match="a_task does not mark them"):
        Batches(plain, LENGTHS, 1, 0, packed=True, alpha=0.5)
