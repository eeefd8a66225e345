"""Model, loss and Adafactor against T5X's own, same weights, float32.

Differences are the largest absolute one, relative to the largest absolute value of their array (of T5X's logits, of one
parameter or its gradient); Adafactor's second moments, all positive, are compared number by number.
"""

import numpy as np
import pytest

from explainft.model.layers import relative_position_bucket
from explainft.model.loss import Loss
from tests.golden import cases, from_explainft

pytestmark = [
    pytest.mark.t5x,
    # T5X and what it imports (TensorFlow, clu, orbax) warn of their own future; what they compute is compared below.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

BATCHES = {"padded": cases.padded, "packed": cases.packed}
LOSSES = {
    "mean": Loss(),
    "sum": Loss(1e-4, 0.0, None),
    "smoothed": Loss(**cases.FULL_LOSS),
    "fixed factor": Loss(1e-4, 0.1, 233472),
    "padding counted": Loss(1e-4, 0.1, "NUM_TOTAL_TARGET_TOKENS"),
}


@pytest.fixture(scope="module")
def t5x():
    pytest.importorskip("t5x", reason="compares with T5X: needs a T5X checkout on PYTHONPATH")
    from tests.golden import from_t5x

    return from_t5x


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_parameters_have_the_same_names_and_shapes(t5x, family):
    config = cases.FAMILIES[family]
    mine, theirs = cases.flatten(cases.random_params(config)), cases.flatten(t5x.initial_variables(config)["params"])
    assert {path: x.shape for path, x in mine.items()} == {path: x.shape for path, x in theirs.items()}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("family", cases.FAMILIES)
def test_logits_loss_and_gradients(t5x, family, batch):
    config, loss = cases.FAMILIES[family], LOSSES["smoothed"]
    params, arrays = cases.random_params(config), BATCHES[batch](config)
    logits, value, gradients = from_explainft.loss_and_gradients(config, params, arrays, loss)
    their_logits, their_value, their_gradients = t5x.loss_and_gradients(config, params, arrays, loss)
    assert from_explainft.relative_difference(cases.real(arrays, logits), cases.real(arrays, their_logits)) < 1e-5
    assert value == pytest.approx(their_value, rel=1e-5)
    assert from_explainft.largest_difference(gradients, their_gradients) < (1e-5, "")


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_their_normalization(t5x, loss):
    batch, random = cases.padded(cases.V1_0), np.random.RandomState(0)
    logits = random.standard_normal((*batch["decoder_target_tokens"].shape, cases.V1_0.vocab_size)).astype(np.float32)
    value, gradient = from_explainft.loss_of_logits(logits, batch, LOSSES[loss])
    their_value, their_gradient = t5x.loss_of_logits(logits, batch, LOSSES[loss])
    assert value == pytest.approx(their_value, rel=1e-5)
    assert from_explainft.relative_difference(gradient, their_gradient) < 1e-5


@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_position_buckets(t5x, bidirectional):
    distances = np.arange(-1100, 1101)
    mine = relative_position_bucket(distances, bidirectional=bidirectional)
    np.testing.assert_array_equal(mine, t5x.relative_position_buckets(distances, bidirectional))


@pytest.mark.parametrize("step_offset", [0, cases.RESTORED_STEP])
@pytest.mark.parametrize("name", cases.FACTORED)
def test_adafactor(t5x, name, step_offset):
    """Five updates, then three from a restored step; T5X's v, v_row and v_col are optax's of the same names."""
    config = cases.FACTORED[name]
    params = cases.random_params(config)
    mine = from_explainft.Adafactor(params, cases.ADAFACTOR_RATE, step_offset)
    theirs = t5x.Adafactor(config, params, cases.ADAFACTOR_RATE, step_offset)
    for optimizer in (mine, theirs):
        optimizer.go_to(step_offset)
    courses = (cases.adafactor_course(optimizer, params) for optimizer in (mine, theirs))
    for (new, slots), (their_new, their_slots) in zip(*courses, strict=True):
        assert from_explainft.largest_difference(new, their_new) < (1e-5, "")
        for slot, their_values in their_slots.items():
            for path, expected in their_values.items():
                np.testing.assert_allclose(slots[slot][path], expected, rtol=1e-5, err_msg=f"{path} {slot}")
        kernel = "encoder/layers_0/attention/key/kernel"
        assert slots["v"][kernel].shape == (1,) and slots["v_row"][kernel].shape == (128,)  # it is factored
