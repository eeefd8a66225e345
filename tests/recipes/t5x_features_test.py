"""T5X's loss weights of tasks with target parts, against those of the built-in engine."""

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from explainft.core.errors import UserError
from explainft.data.target_parts import ANSWER, CONTEXT, EXPLANATION, TARGET_PARTS, loss_weights
from explainft.recipes.t5x_features import TargetPartsConverter

LENGTHS = {"inputs": 12, "targets": 24}
PARTS = [
    [EXPLANATION] * 4 + [CONTEXT] * 3 + [EXPLANATION] * 2,
    [ANSWER] * 2,
    [CONTEXT] * 2 + [EXPLANATION] * 5,
    [ANSWER],
    [EXPLANATION] * 11 + [CONTEXT, CONTEXT, ANSWER],
    [ANSWER] * 3,
]


def dataset(*names):
    rng = np.random.default_rng(0)
    rows = [
        {
            "inputs": rng.integers(2, 40, 3).astype(np.int32),
            "targets": rng.integers(2, 40, len(parts)).astype(np.int32),
            TARGET_PARTS: np.array(parts, np.int32),
        }
        for parts in PARTS
    ]
    names = names or tuple(rows[0])
    spec = {name: tf.TensorSpec([None], tf.int32) for name in names}
    return tf.data.Dataset.from_generator(lambda: ({n: row[n] for n in names} for row in rows), output_signature=spec)


@pytest.mark.parametrize("alpha", [None, 0.0, 0.3, 0.5])
@pytest.mark.parametrize("pack", [False, True])
def test_weights_are_those_of_the_built_in_engine(alpha, pack):
    converted = list(tfds.as_numpy(TargetPartsConverter(pack=pack, alpha=alpha)(dataset(), LENGTHS)))
    assert len(converted) < len(PARTS) if pack else len(converted) == len(PARTS)
    flat, lengths = np.concatenate(PARTS), np.array(list(map(len, PARTS)))
    expected = np.split(loss_weights(flat, lengths, alpha), np.cumsum(lengths)[:-1])
    standard = seqio.EncDecFeatureConverter(pack=pack)(dataset("inputs", "targets"), LENGTHS)
    found = {}
    for row, plain in zip(converted, tfds.as_numpy(standard), strict=True):
        weights = row.pop("decoder_loss_weights")
        assert weights.dtype == np.float32 and not weights[row["decoder_target_tokens"] == 0].any()
        plain.pop("decoder_loss_weights")
        assert {name: x.tolist() for name, x in row.items()} == {name: x.tolist() for name, x in plain.items()}
        segments = row.get("decoder_segment_ids", (row["decoder_target_tokens"] > 0).astype(int))
        for segment in range(1, segments.max() + 1):
            found[len(found)] = weights[segments == segment]
    assert len(found) == len(PARTS)
    for weights, wanted in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(weights, wanted, rtol=1e-6)


def test_tasks_without_parts_are_converted_as_ever():
    plain = [dataset("inputs", "targets")] * 2
    ours, theirs = TargetPartsConverter(pack=True)(plain[0], LENGTHS), seqio.EncDecFeatureConverter()(plain[1], LENGTHS)
    for one, other in zip(tfds.as_numpy(ours), tfds.as_numpy(theirs), strict=True):
        assert {name: (x.dtype, x.tolist()) for name, x in one.items()} == {
            name: (x.dtype, x.tolist()) for name, x in other.items()
        }


def test_alpha_needs_parts_and_a_fraction():
    with pytest.raises(UserError, match="ALPHA=0.5 is for tasks that mark answer and explanation"):
        TargetPartsConverter(alpha=0.5)(dataset("inputs", "targets"), LENGTHS)
    with pytest.raises(UserError, match="ALPHA=1.5 must be from 0 to 1"):
        TargetPartsConverter(alpha=1.5)
