"""Cross entropy against its definition in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from explainft.core.errors import UserError
from explainft.model.loss import Loss, cross_entropy

LOGITS = np.random.default_rng(0).normal(size=(2, 3, 7)).astype(np.float32) * 3
TARGETS = np.array([[4, 1, 0], [6, 2, 1]])
WEIGHTS = np.array([[0.5, 0.0, 0.0], [1.0, 0.25, 2.0]], np.float32)


def by_definition(smoothing, z_loss):
    log_probs = LOGITS - np.log(np.exp(LOGITS.astype(np.float64)).sum(-1, keepdims=True))
    wanted = np.full(LOGITS.shape, smoothing / 6)
    np.put_along_axis(wanted, TARGETS[..., None], 1 - smoothing, axis=-1)
    entropy = -(wanted * np.log(np.maximum(wanted, 1e-30))).sum(-1)
    log_z = np.log(np.exp(LOGITS.astype(np.float64)).sum(-1))
    return -(wanted * log_probs).sum(-1) - entropy + z_loss * log_z**2


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_cross_entropy_equals_its_definition(smoothing, z_loss):
    np.testing.assert_allclose(
        cross_entropy(LOGITS, TARGETS, smoothing, z_loss), by_definition(smoothing, z_loss), rtol=1e-5
    )


def test_perfect_model_scores_zero_with_smoothing():
    smoothing = 0.1
    probabilities = np.full((1, 1, 7), smoothing / 6)
    probabilities[0, 0, 3] = 1 - smoothing
    assert cross_entropy(jnp.log(probabilities), jnp.array([[3]]), smoothing)[0, 0] == pytest.approx(0.0, abs=1e-6)


def test_sums_exclude_padding():
    sums = Loss().sums(LOGITS, TARGETS)
    expected = by_definition(0.0, 0.0)
    assert sums["weight_sum"] == 5  # one of the six targets is padding
    assert sums["loss_sum"] == pytest.approx(expected.sum() - expected[0, 2], rel=1e-5)
    right = LOGITS.argmax(-1) == TARGETS
    assert sums["correct_sum"] == right.sum() - right[0, 2]


def test_sums_weigh_tokens():
    sums = Loss().sums(LOGITS, TARGETS, WEIGHTS)
    assert sums["weight_sum"] == 3.75
    assert sums["loss_sum"] == pytest.approx((by_definition(0.0, 0.0) * WEIGHTS).sum(), rel=1e-5)
    batch = {"decoder_target_tokens": TARGETS, "decoder_loss_weights": WEIGHTS}
    assert Loss().denominator(batch) == 3.75
    assert Loss().denominator({**batch, "decoder_loss_weights": WEIGHTS / 8}) == 3.75 / 8
    assert Loss().denominator({**batch, "decoder_loss_weights": 0 * WEIGHTS}) == 1


@pytest.mark.parametrize(
    ("factor", "expected"), [(None, 1), (233472, 233472), ("NUM_REAL_TARGET_TOKENS", 5), ("NUM_TOTAL_TARGET_TOKENS", 6)]
)
def test_denominator(factor, expected):
    assert Loss(normalizing_factor=factor).denominator({"decoder_target_tokens": TARGETS}) == expected


def test_unknown_rule_is_refused():
    with pytest.raises(UserError, match="NUM_REAL_TARGET_TOKEN'.*did you mean 'NUM_REAL_TARGET_TOKENS'"):
        Loss(normalizing_factor="NUM_REAL_TARGET_TOKEN")


@pytest.mark.parametrize("chunk", [7 * 2, 7 * 2 * 2, 10**6])  # of three positions: one, two and a padded one, all
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_chunked_logits_give_the_same_sums_and_gradients(chunk, dtype):
    rng = np.random.default_rng(1)
    states, output = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 5), (5, 7)))
    states = states.astype(dtype)
    loss = Loss(z_loss=0.01, label_smoothing=0.1)

    def whole(output, states):
        sums = loss.sums(states @ output, TARGETS, WEIGHTS)
        return 3 * sums["loss_sum"], sums

    def chunked(output, states):
        sums = loss.sums_of_hidden_states(lambda w, y: y @ w, output, states, TARGETS, WEIGHTS, chunk)
        return 3 * sums["loss_sum"], sums

    wanted, wanted_sums = jax.grad(whole, argnums=(0, 1), has_aux=True)(output, states)
    found, found_sums = jax.grad(chunked, argnums=(0, 1), has_aux=True)(output, states)
    for a, b in zip(jax.tree.leaves((found, found_sums)), jax.tree.leaves((wanted, wanted_sums)), strict=True):
        assert a.dtype == b.dtype
        # The factor of 3 comes after the rounding of d_states to its type in one, and before it in the other.
        np.testing.assert_allclose(
            np.float32(a), np.float32(b), rtol=1e-2 if a.dtype == "bfloat16" else 2e-6, atol=1e-6
        )
    np.testing.assert_allclose(chunked(output, states)[1]["loss_sum"], wanted_sums["loss_sum"], rtol=1e-6)
    sizes = [
        v.aval.size for eqn in jax.make_jaxpr(jax.grad(chunked, has_aux=True))(output, states).eqns for v in eqn.outvars
    ]
    assert (2 * 3 * 7 in sizes) == (chunk == 10**6)  # the logits of all, at once
