"""Distances of weights."""

import dataclasses

import numpy as np
import pytest

from explainft.checkpoints.convert import open_weights
from explainft.evaluation.infer import PRETRAINED
from explainft.transfer.distances import weight_distances


@pytest.fixture(scope="module")
def start():
    return open_weights(str(PRETRAINED))


def changed(weights, changes):
    """The same weights, with a number added to all elements of some arrays."""

    def read(name):
        return weights.read(name) + np.float32(changes.get(name, 0))

    return dataclasses.replace(weights, read=read)


def test_distance_is_the_norm_of_the_change_by_part(start):
    names = {"encoder": "encoder/layers_0/mlp/wo/kernel", "embedding": "token_embedder/embedding"}
    moved = changed(start, {names["encoder"]: 0.5, names["embedding"]: 0.25})
    found = weight_distances(moved, start)
    sizes = {part: np.prod(start.parameters[name]) for part, name in names.items()}
    assert found["encoder"].l2 == pytest.approx(0.5 * sizes["encoder"] ** 0.5, rel=1e-4)
    assert found["embedding"].l2 == pytest.approx(0.25 * sizes["embedding"] ** 0.5, rel=1e-4)
    assert found["decoder"].l2 == 0
    assert found["all"].l2 == pytest.approx(np.hypot(found["encoder"].l2, found["embedding"].l2), rel=1e-5)
    norm = np.sqrt(sum(float(np.square(start.read(name).astype(np.float64)).sum()) for name in start.parameters))
    assert found["all"].start == pytest.approx(norm, rel=1e-5)
    assert found["all"].relative == pytest.approx(found["all"].l2 / norm, rel=1e-5)


def test_other_shapes_have_no_distance(start):
    other = dataclasses.replace(start, parameters={**start.parameters, "decoder/extra": (2,)})
    assert weight_distances(other, start) is None
