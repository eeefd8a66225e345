"""Model, loss and decoding against Hugging Face's T5ForConditionalGeneration, same weights, float32.

Differences are the largest absolute one, relative to the largest absolute value of their array (of Hugging Face's
logits, of one parameter's gradient).
"""

import numpy as np
import pytest

from explainft.generation import decoding
from explainft.model.layers import relative_position_bucket
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from tests.golden import cases, from_explainft

pytestmark = [
    pytest.mark.hf,
    # torch and transformers warn of their own future; what they compute is compared below.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def hugging_face():
    for package in ("torch", "transformers"):
        pytest.importorskip(package, reason=f"compares with Hugging Face: needs {package}")
    from tests.golden import from_hugging_face

    return from_hugging_face


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_padded_batch(hugging_face, family):
    config = cases.FAMILIES[family]
    params, batch = cases.random_params(config), cases.padded(config)
    logits, loss, gradients = from_explainft.loss_and_gradients(config, params, batch, Loss())
    their_logits, their_loss, their_gradients = hugging_face.loss_and_gradients(config, params, batch)
    assert from_explainft.relative_difference(cases.real(batch, logits), cases.real(batch, their_logits)) < 1e-4
    assert loss == pytest.approx(their_loss, rel=1e-4)
    assert from_explainft.largest_difference(gradients, their_gradients) < (1e-4, "")


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_packed_batch_equals_single_examples(hugging_face, family):
    config = cases.FAMILIES[family]
    params, batch = cases.random_params(config), cases.packed(config)
    logits, loss, gradients = from_explainft.loss_and_gradients(config, params, batch, Loss())
    their_logits, their_loss, their_gradients = hugging_face.each_alone(config, params)
    ends = np.cumsum(cases.TARGET_LENGTHS)[:-1]
    pairs = zip(np.split(cases.real(batch, logits), ends), np.split(their_logits, ends), strict=True)
    assert max(from_explainft.relative_difference(mine, theirs) for mine, theirs in pairs) < 1e-4
    assert loss == pytest.approx(their_loss, rel=1e-4)
    assert from_explainft.largest_difference(gradients, their_gradients) < (1e-4, "")


@pytest.mark.parametrize("max_distance", [128, 32])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_position_buckets(hugging_face, bidirectional, max_distance):
    distances = np.arange(-1100, 1101)
    mine = relative_position_bucket(distances, bidirectional=bidirectional, max_distance=max_distance)
    np.testing.assert_array_equal(mine, hugging_face.relative_position_buckets(distances, bidirectional, max_distance))


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_greedy_decoding_is_token_identical(hugging_face, family):
    config = cases.FAMILIES[family]
    params, prompts = cases.decoding_params(config), cases.prompts(config, 200)
    expected, _ = hugging_face.generate(config, params, prompts, cases.DECODE_LENGTH, batch_size=25)
    lengths = [len(ids) for ids in expected]
    assert len(set(lengths)) > 40 and lengths.count(cases.DECODE_LENGTH) < 150
    assert len({tuple(ids) for ids in expected}) > 150
    assert decoding.generate(T5(config), params, prompts, cases.DECODE_LENGTH, batch_size=40) == expected
