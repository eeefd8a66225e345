"""T5X checkpoints without T5X's code: its own takes part in the tests marked t5x."""

import dataclasses

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from etils import epath
from flax import traverse_util

from explainft.checkpoints import convert, t5x
from explainft.checkpoints.weights import SLOTS
from explainft.core.errors import UserError
from explainft.model.parameters import named_leaves
from explainft.training import optimizers
from tests.helpers.weights import SMALL, assert_same_weights, random_weights

SHALLOW = dataclasses.replace(SMALL, num_decoder_layers=1)  # orbax takes a while for each array


def test_slots_and_step_round_trip(tmp_path):
    original = random_weights(SMALL, slots=True, step=1_000_000)
    t5x.write(epath.Path(tmp_path / "checkpoint_1000000"), original)
    found = convert.open_weights(str(tmp_path))  # a MODEL_DIR stands for its latest checkpoint
    assert found.step == 1_000_000
    assert found.architecture() == SMALL
    assert_same_weights(found, original, slots=True)


def test_without_slots_fresh_ones_start_at_step_0(tmp_path):
    t5x.write(epath.Path(tmp_path), random_weights(SMALL, step=500))
    found = t5x.read(epath.Path(tmp_path))
    assert found.step == 0
    state = optimizers.adafactor(lambda _: 1e-3).init(
        traverse_util.unflatten_dict(
            {name: np.zeros(shape, np.float32) for name, shape in found.parameters.items()}, sep="/"
        )
    )
    factored = next(
        s
        for s in jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, optax.FactoredState))
        if isinstance(s, optax.FactoredState)
    )
    for slot in SLOTS:
        for name, wanted in named_leaves(getattr(factored, slot)).items():
            np.testing.assert_array_equal(found.read_slot(name, slot), wanted, err_msg=f"{name} {slot}")


def test_orbax_layout_is_read(tmp_path):
    original = random_weights(SHALLOW, slots=True)
    slots = {f"{n}/{s}": original.read_slot(n, s) for n in original.parameters for s in SLOTS}
    tree = {
        "target": traverse_util.unflatten_dict({n: original.read(n) for n in original.parameters}, sep="/"),
        "state": {"step": np.int32(7), "param_states": traverse_util.unflatten_dict(slots, sep="/")},
    }
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint_7" / "state", tree)
    found = convert.open_weights(str(tmp_path / "checkpoint_7"))
    assert found.step == 7
    assert_same_weights(found, original, slots=True)


def test_orbax_layout_without_optimizer_state(tmp_path):
    original = random_weights(SHALLOW)
    tree = {"target": traverse_util.unflatten_dict({n: original.read(n) for n in original.parameters}, sep="/")}
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint_7" / "state", tree)
    found = convert.open_weights(str(tmp_path))
    assert found.step is None and found.read_slot is None
    assert_same_weights(found, original)


def test_steps_of_a_t5x_run(tmp_path):
    for step in (5, 40):
        t5x.write(epath.Path(tmp_path / f"checkpoint_{step}"), random_weights(SMALL, slots=True, step=step))
    assert convert.open_weights(str(tmp_path)).step == 40
    assert convert.open_weights(str(tmp_path), 5).step == 5
    with pytest.raises(UserError, match=r"no checkpoint of step 6; it has \[5, 40\]"):
        convert.open_weights(str(tmp_path), 6)
