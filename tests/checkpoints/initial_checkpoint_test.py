"""Runs that start from an initial checkpoint of each format."""

import functools

import numpy as np
import pytest

from explainft.checkpoints import convert, run_checkpoint
from explainft.checkpoints.weights import read_parameters
from explainft.core.errors import UserError
from explainft.model.parameters import named_leaves
from explainft.training import optimizers
from tests.helpers.training import rows
from tests.helpers.training import run as train_run
from tests.helpers.weights import assert_same_weights, zero_parameters

CHANGES = dict(optimizer=optimizers.adafactor, seed=3)


@pytest.fixture(scope="module")
def first(tmp_path_factory, tiny_data_dir):
    """The run that others start from, with a checkpoint of step 4."""
    directory = tmp_path_factory.mktemp("first") / "run"
    train_run(directory, tiny_data_dir, 4, **CHANGES)
    return directory


@pytest.fixture(scope="module")
def hf(first):
    return convert.convert(str(first), first.parent / "hf", "hf")


@pytest.fixture(scope="module")
def from_run(first, tiny_data_dir):
    """A run of two more steps, counted relative to the first."""
    start = {"path": str(first / "checkpoints" / "checkpoint_4")}
    directory = first.parent / "from_run"
    train_run(directory, tiny_data_dir, 4, train_steps_relative=2, initial_checkpoint=start, **CHANGES)
    return directory


def test_conversions_with_slots_train_bitwise_equally(first, from_run, hf, tiny_data_dir, capsys):
    t5x = convert.convert(str(first), first.parent / "t5x", "t5x")
    ends = {"run": run_checkpoint.open_run(from_run, 6)}
    for name, start in (("t5x", {"path": str(t5x)}), ("hf", {"path": str(hf), "step": 4})):
        directory = first.parent / f"from_{name}"
        train_run(directory, tiny_data_dir, 6, initial_checkpoint=start, **CHANGES)
        ends[name] = run_checkpoint.open_run(directory)
    assert [end.step for end in ends.values()] == [6, 6, 6]
    assert "starting at step 4 from T5X checkpoint" in capsys.readouterr().err
    assert_same_weights(ends["run"], ends["t5x"], slots=True)
    # Hugging Face directories hold no slots: the second moments are others.
    moment = "token_embedder/embedding", "v"
    assert not np.array_equal(ends["hf"].read_slot(*moment), ends["t5x"].read_slot(*moment))


def test_steps_count_from_the_initial_checkpoint(first, from_run, tiny_data_dir):
    start = dict(initial_checkpoint={"path": str(first)})
    with pytest.raises(UserError, match="TRAIN_STEPS=4 includes the 4 steps .* give --gin.TRAIN_STEPS=8"):
        train_run(first.parent / "no", tiny_data_dir, 4, **start, **CHANGES)
    assert run_checkpoint.open_run(from_run, 6).step == 6
    # A resumed run keeps its count, and does not read the initial checkpoint again.
    gone = dict(initial_checkpoint={"path": "/gone"})
    train_run(from_run, tiny_data_dir, 4, train_steps_relative=4, **gone, **CHANGES)
    assert run_checkpoint.open_run(from_run).step == 8


def test_initial_step_0_restarts_the_schedule_and_keeps_adafactor_s_slots(first, tmp_path, tiny_data_dir, capsys):
    rsqrt = functools.partial(optimizers.learning_rate, "rsqrt", 1e-2, 2)
    best, rates = str(first / "checkpoints" / "best"), {}
    for step in (0, 4):
        directory = tmp_path / str(step)
        start = {"path": best, "step": step}
        train_run(directory, tiny_data_dir, step + 2, initial_checkpoint=start, schedule=rsqrt, **CHANGES)
        assert run_checkpoint.open_run(directory).step == step + 2
        rates[step] = [row["learning_rate"] for row in rows(directory) if "learning_rate" in row][-1]
    assert rates[0] == pytest.approx(1e-2) and rates[4] == pytest.approx(1e-2 * (2 / 6) ** 0.5)
    printed = capsys.readouterr().err
    assert "starting at step 0 from run" in printed and printed.count("/run, step 4: ") == 2
    assert printed.count("its optimizer slots") == 2


def test_adamw_starts_with_fresh_moments(first, tmp_path, tiny_data_dir, capsys):
    start = dict(initial_checkpoint={"path": str(first / "checkpoints" / "best"), "step": 0})
    train_run(tmp_path / "run", tiny_data_dir, 2, **start, optimizer=optimizers.adamw, seed=3)
    assert "starting at step 0 from run" in (printed := capsys.readouterr().err) and "fresh optimizer slots" in printed


def test_a_checkpoint_without_a_step(hf, tmp_path, tiny_data_dir):
    start = dict(initial_checkpoint={"path": str(hf)})
    with pytest.raises(UserError, match="does not contain its step.*--gin.INITIAL_STEP=1000000"):
        train_run(tmp_path / "run", tiny_data_dir, 6, **start, **CHANGES)
    train_run(tmp_path / "run", tiny_data_dir, 6, train_steps_relative=2, **start, **CHANGES)
    assert run_checkpoint.open_run(tmp_path / "run").step == 2


def test_parameters_are_those_of_the_initial_checkpoint(first):
    found = run_checkpoint.open_run(first)
    params = read_parameters(found, zero_parameters(found.architecture()))
    for name, leaf in named_leaves(params).items():
        np.testing.assert_array_equal(leaf, found.read(name))
