"""Rows in a cache whose sizes follow them."""

import numpy as np
import pytest

from explainft.generation import continuous, decoding
from explainft.generation.continuous import Sizes
from explainft.model.t5 import T5
from explainft.serving.batch import Batch, Limits, Row
from tests.generation.decoding_test import SMALL, sharpened

LIMITS = Limits(rows=8, input_length=40, output_length=20, usual=(10, 9))
ROWS = [[5, 7, 1], [9, 30, 4, 22, 1], [8, 1], [33, 12, 6, 1], [4, *range(2, 36), 1], [11, 1]]


@pytest.fixture
def batch():
    return Batch(T5(SMALL), sharpened(0), LIMITS)


def test_few_sizes_are_compiled(batch):
    assert LIMITS.sizes() == [Sizes(rows, *lengths) for rows in (1, 4, 8) for lengths in ((32, 16), (40, 20))]
    counted = []
    batch.warm_up(lambda: counted.append(1))
    assert len(counted) == batch.num_programs()
    before = continuous.step_jit._cache_size(), continuous.resize_jit._cache_size()
    run(batch, {0: [0, 1], 2: [4], 3: [2, 3, 5]}, drop={6: [1]})
    assert (continuous.step_jit._cache_size(), continuous.resize_jit._cache_size()) == before


def run(batch, joins, drop=None):
    """Decodes to the length limit: `joins` has the inputs that join at a step, `drop` those that leave."""
    outputs, sizes = {i: [] for ids in joins.values() for i in ids}, set()
    for now in range(60):
        batch.add([(row_of(i), batch.encode(ROWS[i])) for i in joins.get(now, [])])
        for row in batch.rows:
            if row.owner in (drop or {}).get(now, []):
                batch.remove(row)
        if not batch.rows:
            continue
        placed, tokens = batch.step(False)
        sizes.add(continuous.cache_sizes(batch._cache))
        for place, row in placed:
            assert row.token == tokens.token_R[place]
            outputs[row.owner].append(row.token)
            if row.token == 1 or row.position == LIMITS.output_length:
                batch.remove(row)
    assert not batch.rows
    return outputs, sizes


def row_of(i):
    return Row(i, len(ROWS[i]), 0.0, 1.0, 0, 0)


def test_outputs_survive_every_change_of_sizes(batch):
    expected = decoding.generate(T5(SMALL), sharpened(0), ROWS, LIMITS.output_length, 8)
    outputs, sizes = run(batch, {0: [0, 1], 2: [4], 3: [2, 3, 5]}, drop={6: [1]})
    assert len(sizes) >= 3
    assert outputs[1] == expected[1][:6]
    for i in (2, 3, 4, 5):
        assert [token for token in outputs[i] if token != 1] == expected[i]


def test_a_free_row_costs_no_other(batch):
    """Removed rows compute on; what they hold is masked from the next owner."""
    first = run(batch, {0: [4, 5]})[0]
    again = run(batch, {0: [1], 1: [5, 4]})[0]
    assert first[4] == again[4] and first[5] == again[5]


def test_seeds_are_64_bits(batch):
    def sampled(seed):
        batch.add([(Row("x", 3, 1.5, 1.0, seed, 0), batch.encode(ROWS[0]))])
        tokens = [int(batch.step(False)[1].token_R[0]) for _ in range(8)]
        batch.clear()
        return tokens

    assert len({tuple(sampled(seed)) for seed in (0, 1, 2**32, 2**63, 2**64 - 1)}) == 5
    assert np.array_equal(sampled(3), sampled(3))
