"""Properties of samplers, for any logits."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from explainft.generation.sampling import argmax, sample_row_tokens, sample_token

V, R = 12, 4  # fixed: each shape compiles
logits = st.lists(st.floats(-30, 30, width=32), min_size=R * V, max_size=R * V).map(
    lambda values: np.array(values, np.float32).reshape(R, V)
)
uniform = st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=R, max_size=R).map(
    lambda values: np.array(values, np.float32)
)


def probabilities(logits_RV, temperature=1.0):
    scaled = logits_RV.astype(np.float64) / temperature
    exp = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


@given(logits, uniform, st.sampled_from([0, 1, 3]), st.sampled_from([0.3, 0.9, 1.0]))
def test_sampled_tokens_are_candidates(logits_RV, uniform_R, top_k, top_p):
    tokens_R = np.asarray(sample_token(jnp.asarray(logits_RV), jnp.asarray(uniform_R), top_k, top_p))
    probs_RV = probabilities(logits_RV)
    for token, probs, row in zip(tokens_R, probs_RV, logits_RV, strict=True):
        assert 0 <= token < V
        above = row > row[token]
        assert not top_k or above.sum() < top_k
        # The probabilities of more probable tokens leave room for this one in the nucleus.
        assert probs[above].sum() < top_p + 1e-5


@given(logits, uniform)
def test_one_candidate_is_the_argmax(logits_RV, uniform_R):
    tokens_R = sample_token(jnp.asarray(logits_RV), jnp.asarray(uniform_R), 1, 1.0)
    rows = np.arange(R)
    assert (logits_RV[rows, np.asarray(tokens_R)] == logits_RV.max(axis=1)).all()
    np.testing.assert_array_equal(np.asarray(argmax(jnp.asarray(logits_RV))), logits_RV.argmax(axis=1))


@given(logits, st.floats(0, 1, exclude_max=True, width=32))
def test_a_token_covers_as_much_of_the_unit_interval_as_its_probability(logits_RV, start):
    """Uniform numbers at equal distances choose each token as often as its probability says."""
    row_RV = jnp.asarray(np.repeat(logits_RV[:1], 400, axis=0))
    uniform_R = ((np.arange(400) + start) / 400).astype(np.float32)
    tokens_R = np.asarray(sample_token(row_RV, jnp.asarray(uniform_R), 0, 1.0))
    found = np.bincount(tokens_R, minlength=V) / 400
    np.testing.assert_allclose(found, probabilities(logits_RV[:1])[0], atol=2.5 / 400)


@given(logits, uniform, st.floats(0.0625, 1, width=32))
def test_rows_do_not_see_each_other(logits_RV, uniform_R, top_p):
    """A row's token stays the same beside rows with other logits and settings."""
    temperature_R, top_p_R = np.full(R, 0.7, np.float32), np.full(R, top_p, np.float32)
    own = sample_row_tokens(*map(jnp.asarray, (logits_RV, uniform_R, temperature_R, top_p_R)))
    temperature_R[1:], top_p_R[1:] = 2.0, 0.1
    other = sample_row_tokens(
        *map(jnp.asarray, (np.vstack([logits_RV[:1], -logits_RV[1:]]), uniform_R, temperature_R, top_p_R))
    )
    assert int(own[0]) == int(other[0])
