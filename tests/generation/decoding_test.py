"""Greedy decoding against a search that has neither a cache nor a loop in JAX."""

import dataclasses
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from explainft.core.errors import UserError
from explainft.generation import batching, decoding, sampling
from explainft.generation.quantization import decode_parameters
from explainft.model.t5 import T5
from tests.golden import cases
from tests.model.t5_test import SMALL, params_of

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
        assert decoding.generate(T5(SMALL), params, inputs, LENGTH, batch_size=4) == expected
        lengths |= {len(row) for row in expected}
    assert len(lengths) > 2 and LENGTH in lengths  # some ended early, each at its own place, and some did not


def test_decoding_stops_at_the_length_and_leaves_padding_rows_empty():
    params = sharpened(0)
    # All logits are equal, so that argmax takes token 0 for ever.
    params["decoder"] = {**params["decoder"], "decoder_norm": {"scale": np.zeros(16, np.float32)}}
    tokens = decoding.greedy(T5(SMALL), params, np.array([[5, 1], [0, 0]], np.int32), LENGTH)
    assert np.asarray(tokens).tolist() == [[0] * LENGTH] * 2


def test_tokens_after_eos_are_zero():
    params = sharpened(1)
    rng = np.random.default_rng(1)
    inputs = np.concatenate([rng.integers(2, 40, (16, 7)), np.ones((16, 1), int)], axis=1).astype(np.int32)
    decoded = np.asarray(decoding.greedy(T5(SMALL), params, inputs, LENGTH))
    ended = 0
    for row in decoded.tolist():
        if decoding.EOS_ID in row:
            ended += 1
            assert not any(row[row.index(decoding.EOS_ID) + 1 :])
    assert ended


def test_progress_counts_every_example_once():
    counts = []
    decoding.generate(T5(SMALL), sharpened(0), [[5, 1]] * 5, LENGTH, batch_size=2, progress=counts.append)
    assert sum(counts) == 5


INPUTS = [[5, 7, 1], [9, 30, 4, 22, 1], [8, 1]]


def test_samples_follow_the_model_s_probabilities():
    """The first token of many samples against softmax of the full forward pass; the second given the first."""
    params = sharpened(0)
    n = 4000
    [texts] = decoding.sample(T5(SMALL), params, [INPUTS[1]], 2, n, n, temperature=2.0, seed=3)
    padded = np.zeros((1, 32), int)
    padded[0, : len(INPUTS[1])] = INPUTS[1]

    def probabilities(so_far):
        decoder_inputs = np.zeros((1, LENGTH + 1), int)
        decoder_inputs[0, 1 : len(so_far) + 1] = so_far
        return np.asarray(jax.nn.softmax(full_forward(params, padded, decoder_inputs)[0, len(so_far)] / 2.0))

    def agree(tokens, expected):
        share = np.bincount(tokens, minlength=40) / len(tokens)
        deviation = np.sqrt(expected * (1 - expected) / len(tokens)) + 1e-3
        assert (np.abs(share - expected) < 4 * deviation).all()

    agree([text[0] if text else decoding.EOS_ID for text in texts], probabilities([]))
    commonest = np.bincount([text[0] for text in texts if text]).argmax()
    seconds = [text[1] if len(text) > 1 else decoding.EOS_ID for text in texts if text and text[0] == commonest]
    assert len(seconds) > 200
    agree(seconds, probabilities([commonest]))


def test_samples_depend_on_the_seed_alone():
    params = sharpened(1)
    together = decoding.sample(T5(SMALL), params, INPUTS, LENGTH, batch_size=12, num_samples=4, seed=5)
    assert [len(texts) for texts in together] == [4, 4, 4]
    assert len({tuple(text) for text in together[0]}) > 1
    assert decoding.sample(T5(SMALL), params, INPUTS, LENGTH, batch_size=4, num_samples=4, seed=5) == together
    assert decoding.sample(T5(SMALL), params, INPUTS, LENGTH, batch_size=4, num_samples=4, seed=6) != together


def test_the_limit_of_sampling_is_greedy():
    params = sharpened(2)
    greedy = decoding.generate(T5(SMALL), params, INPUTS, LENGTH, 3)
    for limit in ({"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-6}):
        samples = decoding.sample(T5(SMALL), params, INPUTS, LENGTH, 6, 2, **limit)
        assert samples == [[text, text] for text in greedy]


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [(0, 1.0, {0: 0.1, 1: 0.4, 2: 0.2, 3: 0.3}), (2, 1.0, {1: 4 / 7, 3: 3 / 7}), (0, 0.65, {1: 4 / 7, 3: 3 / 7}),
     (0, 0.75, {1: 4 / 9, 3: 3 / 9, 2: 2 / 9}), (3, 0.5, {1: 4 / 7, 3: 3 / 7}),
     (9, 1.0, {0: 0.1, 1: 0.4, 2: 0.2, 3: 0.3})],
)  # fmt: skip
def test_candidates_of_top_k_and_top_p(top_k, top_p, kept):
    assert_shares(kept, top_k, top_p)


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"), [(0, 1.0, {0: 1 / 30, 1: 16 / 30, 2: 4 / 30, 3: 9 / 30}), (0, 0.6, {1: 0.64, 3: 0.36})]
)
def test_a_low_temperature_sharpens_the_distribution(top_k, top_p, kept):
    """At 0.5 a probability counts by its square."""
    assert_shares(kept, top_k, top_p, temperature=0.5)


def assert_shares(kept: dict[int, float], top_k: int, top_p: float, **temperature: float) -> None:
    n = 20_000
    logits = np.log(np.array([0.1, 0.4, 0.2, 0.3], np.float32))
    uniform = (np.arange(n, dtype=np.float32) + 0.5) / n
    tokens = sampling.sample_token(np.tile(logits, (n, 1)), uniform, top_k, top_p, **temperature)
    shares = np.bincount(np.asarray(tokens), minlength=4) / n
    np.testing.assert_allclose(shares, [kept.get(token, 0.0) for token in range(4)], atol=1e-3)


def test_sampling_settings_out_of_range_are_refused():
    for wrong in ({"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}, {"num_samples": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            decoding.sample(T5(SMALL), {}, INPUTS, LENGTH, 4, **{"num_samples": 2, **wrong})


def test_argmax_is_the_first_of_equal_logits():
    logits = np.array([[1.0, 3.0, 3.0], [-np.inf, -np.inf, 2.0], [0.0, 0.0, 0.0]], np.float32)
    assert sampling.argmax(logits).tolist() == np.argmax(logits, axis=-1).tolist() == [1, 2, 0]


def test_rounding_of_cumulative_sums_samples_no_other_token():
    """Over a large vocabulary float32 sums, made in a tree, are not all ascending."""
    logits = np.random.default_rng(0).normal(size=32128).astype(np.float32) * 3
    total = np.asarray(jnp.cumsum(jax.nn.softmax(logits)))
    falls = np.flatnonzero(np.diff(total) < 0)
    assert len(falls)
    between = ((total[falls] + total[falls + 1]) / 2 / total[-1]).astype(np.float32)
    found = sampling.sample_token(np.tile(logits, (len(falls), 1)), between, 0, 1.0)
    assert found.tolist() == [int(np.argmax(total > u * total[-1])) for u in between]


ONE_LAYER = dataclasses.replace(SMALL, num_encoder_layers=1, num_decoder_layers=1)  # compiles in half the time


def test_rows_are_compacted_and_the_cache_grows_without_changing_outputs(monkeypatch):
    """The same outputs as from one program that keeps all rows and has a cache of full length."""
    model, length = T5(SMALL), 35
    rng = np.random.default_rng(2)
    inputs = [[*rng.integers(2, 40, n), 1] for n in rng.integers(2, 14, 40)]
    padded = np.zeros((40, 16), np.int32)
    for row, ids in zip(padded, inputs, strict=True):
        row[: len(ids)] = ids
    monkeypatch.setattr(batching, "CONCURRENT_BATCHES", 1)
    monkeypatch.setattr(decoding, "INITIAL_CACHE_CAPACITY", 16)
    calls = []
    for name in ("_compact_rows_jit", "_grow_cache_jit"):
        function = getattr(decoding, name)
        monkeypatch.setattr(
            decoding, name, lambda *args, name=name, function=function: (calls.append(name), function(*args))[1]
        )
    monkeypatch.setattr(decoding.sharding, "on_one_cpu", lambda params: False)  # where prefixes are shared
    params = cases.decoding_params(SMALL)
    params["token_embedder"]["embedding"][decoding.EOS_ID] *= 3  # more than half of the outputs end, at many lengths
    together = np.asarray(decoding.greedy(model, params, padded, length)).tolist()
    expected = [ids[: ids.index(decoding.EOS_ID)] if decoding.EOS_ID in ids else ids for ids in together]
    assert decoding.generate(model, params, inputs, length, batch_size=40) == expected
    assert length in map(len, expected) and calls.count("_compact_rows_jit") == 1
    assert calls.count("_grow_cache_jit") == 2

    calls.clear()
    arguments = {"length": length, "batch_size": 90, "num_samples": 30, "temperature": 0.5, "seed": 1}
    samples = decoding.sample(model, params, INPUTS, **arguments)
    assert calls.count("_compact_rows_jit") and calls.count("_grow_cache_jit") == 2
    assert max(len(output) for outputs in samples for output in outputs) > 32
    monkeypatch.setattr(decoding, "INITIAL_CACHE_CAPACITY", length)
    monkeypatch.setattr(decoding, "MIN_ROWS", 1000)
    calls.clear()
    assert decoding.sample(model, params, INPUTS, **arguments) == samples
    assert not calls


def test_inputs_of_similar_lengths_share_a_batch_and_few_shapes_compile(monkeypatch):
    monkeypatch.setattr(batching, "CONCURRENT_BATCHES", 1)
    lengths = np.random.default_rng(5).integers(1, 200, 1000)
    shapes, read = [], []

    def decode(batch, numbers):
        shapes.append(batch.shape)
        read.extend(np.count_nonzero(batch, axis=1).tolist())
        return np.asarray(batch)[:, :1].tolist()  # each text begins as its input

    inputs = [[2 + i, *[1] * (n - 1)] for i, n in enumerate(lengths.tolist())]
    texts = batching.decode_in_batches(decode, sharpened(0), inputs, 8)
    assert read == sorted(read) == sorted(lengths) and texts == [[2 + i] for i in range(1000)]
    assert {rows for rows, _ in shapes} == {8}
    assert {width for _, width in shapes} <= set(range(16, 208 + 1, 16))
    assert all(width - max(read[8 * i : 8 * i + 8]) < 16 for i, (_, width) in enumerate(shapes))


# ---- concurrent batches


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(batching, "available_cores", lambda: 2)


def rows_of_zeros(batch):
    return np.zeros((len(batch), LENGTH), np.int32).tolist()


def test_two_batches_are_decoded_concurrently(two_cores):
    both = threading.Barrier(2, timeout=60)
    waited = []

    def decode(batch, numbers):
        waited.append(both.wait())  # for ever, where one batch comes after the other
        return rows_of_zeros(batch)

    texts = batching.decode_in_batches(decode, sharpened(0), [[5, 1]] * 8, 2)
    assert sorted(waited) == [0, 0, 1, 1] and texts == [[0] * LENGTH] * 8


@pytest.mark.parametrize(
    ("inputs", "batch_size", "rows"),
    [
        (1, 1, [1]), (3, 64, [8]), (20, 64, [16] * 2), (40, 8, [8] * 5), (13, 7, [7] * 2), (9, 64, [16]),
        (16, 64, [16]), (17, 64, [16] * 2), (9, 16, [16]),
    ],
)  # fmt: skip
def test_inputs_are_split_between_two_batches_unless_they_are_few(two_cores, inputs, batch_size, rows):
    assert rows_per_batch(sharpened(0), inputs, batch_size) == rows


def test_few_inputs_are_split_where_kernels_are_small(two_cores):
    assert rows_per_batch(decode_parameters(SMALL, sharpened(0), "int8"), 16, 64) == [8, 8]


def rows_per_batch(params, inputs, batch_size):
    found = []

    def decode(batch, numbers):
        found.append(len(batch))
        return rows_of_zeros(batch)

    texts = batching.decode_in_batches(decode, params, [[5, 1]] * inputs, batch_size)
    assert texts == [[0] * LENGTH] * inputs
    return found


@pytest.mark.parametrize(("cores", "platform"), [(1, "cpu"), (2, "gpu")])
def test_one_batch_at_a_time_on_one_core_or_an_accelerator(monkeypatch, cores, platform):
    """The caller's own thread decodes, whose mesh is that of the devices."""
    monkeypatch.setattr(batching, "available_cores", lambda: cores)
    monkeypatch.setattr(batching.sharding, "on_one_cpu", lambda params: platform == "cpu")
    threads = []

    def decode(batch, numbers):
        threads.append(threading.current_thread())
        return rows_of_zeros(batch)

    batching.decode_in_batches(decode, sharpened(0), [[5, 1]] * 8, 2)
    assert threads == [threading.current_thread()] * 4


def test_outputs_do_not_depend_on_the_number_of_concurrent_batches(monkeypatch, two_cores):
    rng = np.random.default_rng(3)
    inputs = [[*rng.integers(2, 40, n), 1] for n in rng.integers(1, 32, 30)]
    model, params = T5(ONE_LAYER), cases.decoding_params(ONE_LAYER)
    sampling = {"batch_size": 12, "num_samples": 3, "seed": 4}
    greedy = decoding.generate(model, params, inputs, LENGTH, 4)
    sampled = decoding.sample(model, params, inputs, LENGTH, **sampling)
    monkeypatch.setattr(batching, "CONCURRENT_BATCHES", 1)
    assert decoding.generate(model, params, inputs, LENGTH, 4) == greedy
    assert decoding.sample(model, params, inputs, LENGTH, **sampling) == sampled
    assert len(set(map(tuple, greedy))) > 4


def test_batches_after_an_interrupt_are_not_decoded(two_cores):
    decoded = []

    def decode(batch, numbers):
        decoded.append(numbers)
        time.sleep(0.1)
        return rows_of_zeros(batch)

    def progress(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batching.decode_in_batches(decode, sharpened(0), [[5, 1]] * 40, 2, progress)
    assert len(decoded) <= 3  # the first, and those that were under way beside it
