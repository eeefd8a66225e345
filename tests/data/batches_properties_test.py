"""Properties of packing, for examples of any lengths."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from explainft.data.batches import pack

ROW = 20, 30
any_size = st.tuples(st.integers(1, ROW[0]), st.integers(1, ROW[1]))
small = st.tuples(st.integers(1, 3), st.integers(1, 9))  # a row is filled one by one, and by the best fit at its end
lengths = st.lists(any_size, min_size=1, max_size=80) | st.lists(small, min_size=1, max_size=80)


@given(lengths, st.integers(0, 2**32 - 1))
def test_every_example_is_in_one_row_that_it_fits(examples, seed):
    inputs, targets = np.array(examples).T
    packing = pack(inputs, targets, *ROW, seed)
    assert sorted(packing.examples.tolist()) == list(range(len(examples)))
    assert packing.starts[0] == 0 and packing.starts[-1] == len(examples) and (np.diff(packing.starts) > 0).all()
    for row in range(len(packing)):
        members = packing.examples[packing.starts[row] : packing.starts[row + 1]]
        assert inputs[members].sum() <= ROW[0] and targets[members].sum() <= ROW[1]


@given(lengths, st.integers(0, 2**32 - 1))
def test_packing_depends_on_its_arguments_alone(examples, seed):
    inputs, targets = np.array(examples).T
    one, other = (pack(inputs, targets, *ROW, seed) for _ in range(2))
    assert (one.examples == other.examples).all() and (one.starts == other.starts).all()


@given(lengths, st.integers(0, 2**32 - 1))
def test_no_more_rows_than_twice_the_room_that_is_needed(examples, seed):
    """A row is closed where its next example does not fit: two neighbouring rows are never both half empty."""
    inputs, targets = np.array(examples).T
    needed = inputs.sum() / ROW[0] + targets.sum() / ROW[1]
    assert len(pack(inputs, targets, *ROW, seed)) <= 2 * needed + 1
