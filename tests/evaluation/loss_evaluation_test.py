"""Teacher-forced loss and accuracy."""

import numpy as np
import pytest

from explainft.data.batches import Batches
from explainft.evaluation.loss_evaluation import evaluate_loss
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.parallel import sharding
from tests.data.batches_test import write_cache
from tests.helpers.training import MODEL
from tests.model.t5_test import params_of


def test_loss_is_the_mean_over_tokens_for_any_batches(tmp_path):
    rng = np.random.default_rng(0)
    rows = [np.append(rng.integers(3, 150, n), 1) for n in (3, 9, 2, 5, 7)]
    cache = write_cache(tmp_path, rows, rows)
    mesh = sharding.make_mesh()
    scores = []
    for size, packed in ((1, False), (2, False), (4, True)):
        batches = Batches(cache, {"inputs": 20, "targets": 20}, size, 0, packed=packed)
        scores.append(evaluate_loss(T5(MODEL), Loss(), params_of(MODEL)["params"], batches, mesh, 100))
    assert scores[1] == pytest.approx(scores[0], rel=1e-5) and scores[2] == pytest.approx(scores[0], rel=1e-5)
    assert scores[0]["loss"] > 1.0
