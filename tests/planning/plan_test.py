"""Plans of recipes: how many steps they have, what is compiled, and their text."""

import dataclasses
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from explainft.core.errors import UserError
from explainft.model.config import T5Config
from explainft.model.parameters import parameter_shapes
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.planning import hlo
from explainft.planning.compiler import OutOfMemory, Program
from explainft.planning.hardware import HARDWARE, TPU_TOPOLOGIES
from explainft.planning.memory_search import MemoryConfig
from explainft.planning.plan import Plan, examples_per_row, make_plan, num_train_steps
from explainft.planning.plan_text import format_plan
from explainft.planning.programs import compile_decoding
from explainft.recipes import machine_memory, recipe
from explainft.training import train
from explainft.training.config import DatasetConfig, InitialCheckpoint
from tests.data.batches_test import write_cache
from tests.docs.pages import ROOT

SMALL = T5Config(64, 16, 2, 1, 1, 8, 32)


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ((InitialCheckpoint(), 4000), 4000),
        ((InitialCheckpoint("gs://b/t5_small/checkpoint_1000000"), 1016780), 16780),
        ((InitialCheckpoint("folder", 1000000), 1016780), 16780),
        ((InitialCheckpoint("folder"), 1016780), None),
        ((InitialCheckpoint("folder"), 1016780, 50), 50),
        ((InitialCheckpoint(None, 1000000), 4000), 4000),  # without a checkpoint: a fresh run
    ],
)
def test_number_of_steps_of_a_new_run(arguments, steps):
    assert num_train_steps(*arguments) == steps


def test_run_without_steps_is_refused():
    with pytest.raises(UserError, match="includes the 1000000 steps .* give --gin.TRAIN_STEPS=1004000"):
        num_train_steps(InitialCheckpoint("gs://b/t5_small/checkpoint_1000000"), 4000)


def test_examples_per_row_come_from_the_token_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLAINFT_CACHE_DIR", str(tmp_path))
    dataset = DatasetConfig("a_task", {"inputs": 12, "targets": 12}, 8)
    assert examples_per_row(dataset) is None
    write_cache(tmp_path / "tokens" / "a_task" / "train-01234567", [np.full(4, 5)] * 30, [np.full(3, 5)] * 30)
    assert examples_per_row(dataset) == 3.0
    assert examples_per_row(dataclasses.replace(dataset, pack=False)) == 1.0
    too_short = dataclasses.replace(dataset, task_feature_lengths={"inputs": 3, "targets": 3})
    assert examples_per_row(too_short) is None


def test_decoding_plan_grows_with_the_length():
    devices = jax.devices()[:1]
    parameters = sum(int(np.prod(shape)) for shape in parameter_shapes(SMALL).values())
    program = compile_decoding(devices, MemoryConfig(), T5(SMALL), 4, 8, 3)
    longer = compile_decoding(devices, MemoryConfig(), T5(SMALL), 4, 8, 30)
    assert program.arguments >= 4 * parameters
    assert program.memory > program.arguments
    # Each further step reads the decoder, and multiplies by it.
    assert longer.costs.bytes_accessed - program.costs.bytes_accessed > 27 * 4 * parameters / 4
    assert longer.flops > program.flops


def test_decoding_plan_counts_parameters_and_their_copy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "are_one_cpu", lambda devices: False)
        exact, rounded = (
            compile_decoding(jax.devices()[:1], MemoryConfig(), T5(dataclasses.replace(SMALL, dtype=dtype)), 4, 8, 3)
            for dtype in ("float32", "bfloat16")
        )
    assert rounded.arguments == pytest.approx(1.5 * exact.arguments, rel=0.02)


def test_plan_for_simulated_devices():
    """The command creates the devices, and counts the all-reduce of the gradients."""
    command = [
        "plan",
        "--gin_file=gin/medium_tiny.gin",
        "--topology=cpu:2",
        "--gin.BATCH_SIZE=2",
        "--gin.EVAL_BATCH_SIZE=2",
    ]
    result = subprocess.run([sys.executable, "-m", "explainft.cli.main", *command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "cpu:2: 2 devices" in result.stdout
    exchanged = re.search(r"all-reduce, GB +([\d.e-]+) ", result.stdout)
    # Gradients in float32; the embedding's comes from each of its three uses.
    assert exchanged and 240_512 * 4 / 1e9 <= float(exchanged[1]) < 1.2 * 240_512 * 4 / 1e9


def a_plan(topology="v5e-16", **changed):
    program = Program(2**33, 2**32, 197e12, hlo.Costs(819e7, {"all-reduce": 1e9}, {"all-reduce": 2}), 5.0)
    given = {
        "topology": topology, "num_devices": 16, "hardware": HARDWARE["v5e"], "memory_config": MemoryConfig(),
        "batch_size": 32, "train_step": program, "decoding": program, "nearest": None, "num_steps": 7200,
        "examples_per_row": 2.0, "seconds_to_plan": 9.0,
    }  # fmt: skip
    return Plan(**{**given, **changed})


def test_text_of_a_plan():
    text = format_plan(a_plan())
    assert "v5e-16: 16 chips of 197 TFLOP/s, 16 GiB, 819 GB/s to memory, 200 GB/s to other chips" in text
    assert "the train step fits: 12.00 GiB of 16 GiB" in text
    # 197 TFLOP take a chip of 197 TFLOP/s one second; memory and links need 10 ms each.
    assert "at least 1,000.00 ms per step, at most 32 rows/s, 64 examples/s at 2.00 examples per row" in text
    assert "7,200 steps in at least 2.00 hours" in text
    assert re.search(r"roofline, interconnect, ms +10.00", text)
    assert "no token cache" in format_plan(a_plan(examples_per_row=None))
    assert "give --gin.INITIAL_STEP" in format_plan(a_plan(num_steps=None))
    too_large = OutOfMemory(20 * 2**30, 15.75 * 2**30)
    text = format_plan(a_plan(train_step=too_large, nearest=(MemoryConfig(fsdp=True), a_plan().train_step)))
    assert "the train step does not fit: it needs more than 20.00 GiB of 15.75 GiB" in text
    assert "would fit: FSDP=True, with about 12.0 GiB" in text
    assert "use more or larger chips" in format_plan(a_plan(train_step=too_large))


@pytest.mark.tpu
@pytest.mark.slow
@pytest.mark.parametrize("topology", TPU_TOPOLOGIES)
def test_plan_for_tpus_that_are_not_here(topology):
    pytest.importorskip("libtpu", reason="needs the extra tpu")
    command = ["plan", "--gin_file=gin/none_tiny.gin", f"--topology={topology}", "--quick"]
    result = subprocess.run([sys.executable, "-m", "explainft.cli.main", *command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "the train step fits" in result.stdout and "steps in at least" in result.stdout
    chips = {"v4-8": 4, "v5p-8": 4, "v5e-16": 16}.get(topology, 8)
    assert f"{topology}: {chips} chips of " in result.stdout


@pytest.mark.tpu
@pytest.mark.slow
def test_recipe_that_does_not_fit_gets_a_config_that_does():
    pytest.importorskip("libtpu", reason="needs the extra tpu")
    command = ["plan", "--gin_file=gin/none_small.gin", "--topology=v5e:1x1", "--gin.BATCH_SIZE=512"]
    command += ["--gin.TASK_FEATURE_LENGTHS={'inputs': 512, 'targets': 512}", "--gin.EVAL_BATCH_SIZE=8"]
    result = subprocess.run([sys.executable, "-m", "explainft.cli.main", *command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "the train step does not fit" in result.stdout and "would fit: " in result.stdout


@pytest.mark.tpu
@pytest.mark.slow
def test_a_second_plan_prints_no_warnings(tmp_path):
    """JAX cannot read what it has cached of a program for hardware that is not here."""
    pytest.importorskip("libtpu", reason="needs the extra tpu")
    command = [sys.executable, "-m", "explainft.cli.main", "plan", "--gin_file=gin/medium_tiny.gin", "--quick"]
    macros = ["--gin.EMB_DIM=16", "--gin.NUM_LAYERS=1", "--gin.MLP_DIM=32", "--gin.NUM_HEADS=1"]
    settings = os.environ | {"EXPLAINFT_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    settings.pop("JAX_COMPILATION_CACHE_DIR", None)
    for _ in range(2):
        words = [*command, *macros, "--topology=v5e:2x2"]
        run = subprocess.run(words, env=settings, capture_output=True, text=True, check=True)
        assert "train step fits" in run.stdout and run.stderr == ""


@pytest.mark.parametrize("topology", ["cpu:1", "local"])
@pytest.mark.parametrize(
    ("binding", "line"),
    [
        ("VOCAB_SIZE=10000000000", "must be at most 4,294,967,295"),
        ("VOCAB_SIZE=2000000000", "parameters and their optimizer state need .* on each device, which has at most"),
        ("BATCH_SIZE=4000000000", "BATCH_SIZE=4,000,000,000 needs .* for the tokens of one batch"),
        ("NUM_LAYERS=100000", "num_encoder_layers=100,000 must be at most 1,000"),
        ("TASK_FEATURE_LENGTHS={'inputs': 1000000000, 'targets': 64}", "BATCH_SIZE=32 needs"),
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_traced(monkeypatch, topology, binding, line):
    for function in ("compile_decoding", "compile_train_step"):
        monkeypatch.setattr(f"explainft.planning.plan.{function}", lambda *_: pytest.fail("traced"))
    with pytest.raises(UserError, match=line):
        found = recipe.load(["gin/medium_tiny.gin"], ["MODEL_DIR=plan", binding], command="plan")
        make_plan(found.bindings(train.train)["config"], topology)


def test_model_that_no_chips_hold_is_refused():
    config = recipe.load(["gin/medium_3b.gin"], ["MODEL_DIR=plan"], command="plan").bindings(train.train)["config"]
    machine_memory.check_plan(config, 8, HARDWARE["v5e"].memory)
    larger = T5(dataclasses.replace(config.model.config, num_encoder_layers=1000))
    with pytest.raises(UserError, match="parameters and their optimizer state need .* which has at most 16.0 GiB"):
        machine_memory.check_plan(dataclasses.replace(config, model=larger), 8, HARDWARE["v5e"].memory)
