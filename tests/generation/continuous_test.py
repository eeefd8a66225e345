"""Rows that begin at different steps against decoding each alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from explainft.generation import continuous, decoding
from explainft.generation.continuous import Rows, Sizes
from explainft.generation.quantization import decode_parameters
from explainft.generation.sampling import sample_row_tokens
from explainft.model.t5 import T5
from tests.generation.decoding_test import LENGTH, SMALL, sharpened

INPUTS = [[5, 7, 1], [9, 30, 4, 22, 1], [8, 1], [33, 12, 6, 1]]
MODEL = T5(SMALL)


def prefix(params, ids, width=8):
    padded = np.zeros((1, width), np.int32)
    padded[0, : len(ids)] = ids
    return continuous.prefill_jit(MODEL, params, padded, LENGTH)


def decode(params, starts, settings=None):
    """Decodes each input in its row from the step `starts` has on; returns the tokens of each, and the last Tokens."""
    cache = continuous.empty_cache(prefix(params, INPUTS[0]), Sizes(4, 16, 5))
    rows = settings or Rows.unused(4)
    outputs = [[] for _ in INPUTS]
    for now in range(max(starts) + LENGTH):
        for row, start in enumerate(starts):
            if start == now:
                cache = continuous.insert_jit(cache, prefix(params, INPUTS[row]), np.int32(row))
                rows.token_R[row] = rows.position_R[row] = 0
        if now == 4:
            cache = continuous.resize_jit(cache, jnp.arange(4), 8, LENGTH)
            assert continuous.cache_sizes(cache) == Sizes(4, 8, LENGTH)
        cache, tokens = continuous.step_jit(MODEL, params, cache, rows, np.bool_(True))
        for row, start in enumerate(starts):
            if start <= now < start + LENGTH:
                outputs[row].append(int(tokens.token_R[row]))
                rows.token_R[row], rows.position_R[row] = tokens.token_R[row], rows.position_R[row] + 1
            else:
                rows.token_R[row] = rows.position_R[row] = 0
    return outputs, tokens


def before_eos(ids):
    return ids[: ids.index(1)] if 1 in ids else ids


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_rows_that_join_later_decode_as_alone(dtype):
    params = decode_parameters(SMALL, sharpened(0), dtype)
    expected = decoding.generate(MODEL, params, INPUTS, LENGTH, 4)
    for starts in ((0, 0, 0, 0), (0, 3, 1, 7), (6, 0, 5, 2)):
        outputs, _ = decode(params, starts)
        assert [before_eos(ids) for ids in outputs] == expected


def test_a_row_s_samples_depend_on_its_seed_index_and_position_alone():
    params = sharpened(1)

    def sampled(starts, temperature_R, top_p_R, index):
        settings = Rows.unused(4)
        settings.temperature_R[:], settings.top_p_R[:] = temperature_R, top_p_R
        settings.seed_R2[:] = [[0, 1], [7, 8], [0, 2], [0, 3]]
        settings.index_R[1] = index
        return decode(params, starts, settings)[0][1]

    alone = sampled((0, 0, 0, 0), [0, 1.5, 0, 0], [1, 1, 1, 1], 0)
    assert sampled((5, 2, 0, 3), [0.3, 1.5, 2, 0], [0.5, 1, 0.9, 1], 0) == alone
    assert sampled((0, 0, 0, 0), [0, 1.5, 0, 0], [1, 1, 1, 1], 1) != alone


def test_output_vocabulary_and_candidates():
    """With part of the output vocabulary tokens and candidates are its ids."""
    ids = np.array([1, 3, 8, 20, 21, 30])
    params = decode_parameters(SMALL, sharpened(0), "float32", ids)
    outputs, tokens = decode(params, (0, 0, 0, 0))
    assert [before_eos(row) for row in outputs] == decoding.generate(MODEL, params, INPUTS, LENGTH, 4)
    assert np.isin(tokens.candidate_RC, ids).all()
    assert (np.diff(np.asarray(tokens.candidate_logprob_RC)) <= 0).all()
    np.testing.assert_allclose(np.asarray(tokens.logprob_R), np.asarray(tokens.candidate_logprob_RC)[:, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("temperature", "top_p", "kept"),
    [
        (1.0, 1.0, {0: 0.1, 1: 0.4, 2: 0.2, 3: 0.3}),
        (1.0, 0.65, {1: 4 / 7, 3: 3 / 7}),
        (1.0, 0.75, {1: 4 / 9, 3: 3 / 9, 2: 2 / 9}),
        (1.0, 0.0, {1: 1.0}),
        (0.5, 1.0, {0: 1 / 30, 1: 16 / 30, 2: 4 / 30, 3: 9 / 30}),
        (1e-5, 1.0, {1: 1.0}),
    ],
)
def test_each_row_has_its_own_temperature_and_nucleus(temperature, top_p, kept):
    n = 4000
    logits_RV = jnp.tile(jnp.log(jnp.array([0.1, 0.4, 0.2, 0.3])) + 50, (n, 1))
    uniform_R = jax.random.uniform(jax.random.key(0), (n,))
    # Every second row is a neighbour with other settings.
    mine = np.arange(n) % 2 == 0
    temperature_R, top_p_R = np.where(mine, temperature, 2.0), np.where(mine, top_p, 0.3)
    tokens = np.asarray(sample_row_tokens(logits_RV, uniform_R, jnp.float32(temperature_R), jnp.float32(top_p_R)))[mine]
    share = np.bincount(tokens, minlength=4) / len(tokens)
    assert set(np.flatnonzero(share)) == set(kept)
    np.testing.assert_allclose(share[list(kept)], list(kept.values()), atol=0.04)
