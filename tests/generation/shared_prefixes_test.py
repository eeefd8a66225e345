"""Samples that share rows against the same samples with a row each."""

import jax.numpy as jnp
import numpy as np
import pytest

from explainft.generation import decoding, shared_prefixes
from explainft.generation.quantization import decode_parameters
from explainft.generation.sampling import SampleIds, TokenFilter
from explainft.generation.shared_prefixes import row_counts, sample_batch
from explainft.model.t5 import T5
from tests.generation.decoding_test import INPUTS, sharpened
from tests.golden import cases
from tests.model.t5_test import SMALL

LENGTH = 24


def batch():
    """Three inputs and one of padding."""
    padded_BS = np.zeros((4, 16), np.int32)
    for row, ids in zip(padded_BS, INPUTS, strict=False):
        row[: len(ids)] = ids
    return jnp.asarray(padded_BS)


def sample_ids(num_samples):
    example_ids_B2 = np.arange(8, dtype=np.uint32).reshape(4, 2)
    # A seed without a number that falls between the roundings of two probabilities: the batch decides there.
    return SampleIds(np.asarray(np.uint32(4)), example_ids_B2, np.arange(num_samples, dtype=np.int32))


@pytest.mark.parametrize(
    ("params", "token_filter", "temperature"),
    [
        (sharpened(1), TokenFilter(), 1.0),
        (cases.decoding_params(SMALL), TokenFilter(5, 0.9), 0.5),
        (decode_parameters(SMALL, sharpened(2), output_ids=range(1, 30)), TokenFilter(0, 0.95), 0.9),
    ],
    ids=["all tokens", "few tokens", "output vocabulary"],
)
def test_shared_prefixes_change_no_sample(monkeypatch, params, token_filter, temperature):
    monkeypatch.setattr(shared_prefixes, "MIN_ROWS", 4)  # many numbers of rows
    monkeypatch.setattr(shared_prefixes, "INITIAL_CACHE_CAPACITY", 16)
    arguments = (T5(SMALL), params, batch(), LENGTH, sample_ids(30), token_filter, temperature)
    expected_MT, expected_M = decoding.generate_batch(*arguments)
    tokens_MT, logprob_M = sample_batch(*arguments)
    np.testing.assert_array_equal(tokens_MT, expected_MT)
    np.testing.assert_allclose(logprob_M, expected_M, rtol=1e-4, atol=1e-4)
    assert 60 < len({row.tobytes() for row in tokens_MT}) < 90 and not tokens_MT[90:].any()


def test_equal_samples_take_one_row(monkeypatch):
    """Greedy in all but name: the fewest rows are enough."""
    sizes = []
    resize = shared_prefixes._resize_jit
    monkeypatch.setattr(shared_prefixes, "_resize_jit", lambda *args: (sizes.append(args[1]), resize(*args))[1])
    tokens_MT, _ = sample_batch(T5(SMALL), sharpened(0), batch(), LENGTH, sample_ids(50), TokenFilter(top_k=1), 1.0)
    assert len({row.tobytes() for row in tokens_MT[:150]}) <= 3 and set(sizes) <= {32}


def test_rows_begin_with_one_of_each_input_and_end_with_one_of_each_sample():
    assert row_counts(4, 256) == [32, 64, 128, 192, 256]
    assert row_counts(40, 50) == [50]
    assert row_counts(1, 1000) == [32, 64, 128, 192, 256, 512, 1000]
