"""The train step: gradients, dropout, what it imports, and that it learns."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest

from explainft.data.batches import Batches
from explainft.generation import decoding
from explainft.model.config import T5Config
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.training import optimizers
from explainft.training.train_state import init_state
from explainft.training.train_step import make_train_step
from tests.data.batches_test import write_cache
from tests.helpers.training import MODEL, assert_close


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    rng = np.random.default_rng(0)
    inputs = [np.append(rng.integers(3, 150, rng.integers(2, 14)), 1) for _ in range(60)]
    targets = [np.append(rng.integers(3, 150, rng.integers(1, 20)), 1) for _ in range(60)]
    cache = write_cache(tmp_path_factory.mktemp("tokens"), inputs, targets)
    return lambda size, packed: Batches(cache, {"inputs": 30, "targets": 50}, size, seed=0, packed=packed)


UNSMOOTHED = Loss()


def gradients(state):
    """Adam's first moments after one step: a tenth of the gradients."""
    return next(
        part.mu for part in jax.tree.leaves(state.opt_state, is_leaf=lambda x: hasattr(x, "mu")) if hasattr(part, "mu")
    )


def one_step(batch, microbatches=1, loss=UNSMOOTHED):
    tx = optimizers.adamw(lambda _: 0.1, clip_norm=None)
    state, sums = make_train_step(T5(MODEL), tx, loss, 0, microbatches)(init_state(MODEL, tx, 0), batch)
    return state, {name: float(value) for name, value in sums.items()}


def test_packing_changes_neither_losses_nor_gradients(batches):
    packed = batches(len(batches(1, True).packing), True)[0]
    loose = batches(60, False)[0]
    assert len(packed["encoder_input_tokens"]) < 40
    (packed_state, packed_sums), (loose_state, loose_sums) = one_step(packed), one_step(loose)
    for name in ("loss_sum", "correct_sum", "weight_sum", "examples", "tokens"):
        assert packed_sums[name] == pytest.approx(loose_sums[name], rel=1e-5)
    assert_close(gradients(packed_state), gradients(loose_state))


def test_dropout_depends_on_seed_and_step_alone(batches):
    config = T5Config(**{**vars(MODEL), "dropout_rate": 0.5})
    tx = optimizers.adamw(lambda _: 0.0)  # nothing is learnt: only dropout tells two steps apart
    batch = batches(12, True)[0]

    def losses(seed):
        step, state, found = make_train_step(T5(config), tx, UNSMOOTHED, seed), init_state(config, tx, 0), []
        for _ in range(2):
            state, sums = step(state, batch)
            found.append(float(sums["loss_sum"]))
        return found

    assert losses(0) == losses(0)
    assert len({*losses(0), *losses(1)}) == 4


@pytest.mark.parametrize("factor", ["NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", 100.0])
def test_microbatches_change_neither_sums_nor_gradients(batches, factor):
    batch, loss = batches(12, True)[0], Loss(normalizing_factor=factor)
    (whole, whole_sums), (split, split_sums) = one_step(batch, 1, loss), one_step(batch, 4, loss)
    assert split_sums == pytest.approx(whole_sums, rel=1e-5)
    assert_close(gradients(whole), gradients(split))


def test_a_model_overfits_one_batch(tmp_path):
    """To exact match 1.0, as decoded."""
    rng = np.random.default_rng(0)
    inputs, targets = ([np.append(rng.integers(3, 150, 6), 1) for _ in range(4)] for _ in range(2))
    cache = write_cache(tmp_path, inputs, targets)
    batch = Batches(cache, {"inputs": 7, "targets": 7}, 4, seed=0, packed=False)[0]
    model = T5(dataclasses.replace(MODEL, emb_dim=32, num_heads=2, head_dim=16, mlp_dim=64))
    tx = optimizers.adamw(lambda _: 1e-2)
    train_step, state = make_train_step(model, tx, UNSMOOTHED, 0), init_state(model.config, tx, 0)
    for _ in range(200):
        state, _ = train_step(state, batch)
    outputs = decoding.generate(model, state.params, inputs, 7, 4)
    assert outputs == [row[:-1].tolist() for row in targets]


def test_the_train_step_imports_neither_evaluation_nor_checkpoints_nor_tensorflow():
    lines = "import sys, explainft.training.train_step\nprint(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True).stdout.split()
    assert "explainft.training.train_step" in names
    refused = ("explainft.evaluation", "explainft.checkpoints", "orbax", "tensorflow", "seqio")
    assert [name for name in names if name.startswith(refused)] == []
