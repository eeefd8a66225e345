"""Greedy decoding against a search that has neither a cache nor a loop in JAX."""

import jax
import jax.numpy as jnp
import numpy as np

from explainft import decoding
from explainft.t5 import T5
from tests.t5_test import SMALL, params_of

LENGTH = 9


def sharpened(seed):
    """Parameters whose argmax has no ties, and that end some rows early: EOS is a frequent choice."""
    params = params_of(SMALL, seed)["params"]
    embedding = np.array(params["token_embedder"]["embedding"])
    embedding[decoding.EOS_ID] *= 2.0
    return {**params, "token_embedder": {"embedding": embedding}}


@jax.jit
def full_forward(params, inputs, decoder_inputs):
    return T5(SMALL).apply({"params": params}, inputs, decoder_inputs, jnp.ones_like(decoder_inputs))


def brute_force(params, inputs):
    """The full forward pass over everything so far, for one row and one token at a time."""
    padded = np.zeros((1, 32), int)
    padded[0, : len(inputs)] = inputs
    decoder_inputs = np.zeros((1, LENGTH + 1), int)
    for t in range(LENGTH):
        token = int(np.argmax(full_forward(params, padded, decoder_inputs)[0, t]))
        if token == decoding.EOS_ID:
            return decoder_inputs[0, 1 : t + 1].tolist()
        decoder_inputs[0, t + 1] = token
    return decoder_inputs[0, 1:].tolist()


def test_greedy_equals_brute_force():
    rng = np.random.default_rng(0)
    inputs = [[*rng.integers(2, 40, n), 1] for n in (3, 9, 1, 30, 5, 17)]
    lengths = set()
    for seed in range(3):
        params = sharpened(seed)
        expected = [brute_force(params, row) for row in inputs]
        # Two batches of four: the second is filled up with empty rows, and widths differ.
        assert decoding.generate(SMALL, params, inputs, LENGTH, batch_size=4) == expected
        lengths |= {len(row) for row in expected}
    assert len(lengths) > 2 and LENGTH in lengths  # some ended early, each at its own place, and some did not


def test_stops_at_the_length_and_leaves_empty_rows_alone():
    params = sharpened(0)
    # All logits are equal, so that argmax takes token 0 for ever.
    params["decoder"] = {**params["decoder"], "decoder_norm": {"scale": np.zeros(16, np.float32)}}
    tokens = decoding.greedy(SMALL, params, np.array([[5, 1], [0, 0]], np.int32), LENGTH)
    assert np.asarray(tokens).tolist() == [[0] * LENGTH] * 2


def test_what_follows_the_end_is_zero():
    params = sharpened(1)
    rng = np.random.default_rng(1)
    inputs = np.concatenate([rng.integers(2, 40, (16, 7)), np.ones((16, 1), int)], axis=1).astype(np.int32)
    decoded = np.asarray(decoding.greedy(SMALL, params, inputs, LENGTH))
    ended = 0
    for row in decoded.tolist():
        if decoding.EOS_ID in row:
            ended += 1
            assert not any(row[row.index(decoding.EOS_ID) + 1 :])
    assert ended


def test_progress_counts_every_example_once():
    counts = []
    decoding.generate(SMALL, sharpened(0), [[5, 1]] * 5, LENGTH, batch_size=2, progress=counts.append)
    assert sum(counts) == 5
