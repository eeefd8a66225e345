"""Planning: what is counted, against counts by hand; which machines are known; what would need less memory."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from explainft.core.errors import UserError
from explainft.model.config import T5Config
from explainft.model.execution import ExecutionConfig
from explainft.model.flops import matmul_flops
from explainft.model.loss import Loss
from explainft.model.parameters import parameter_shapes
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.planning import hardware, hlo, plan, plan_table
from explainft.planning.memory_search import Choice, Estimate, bytes_a_chip, choices, kept_bytes
from explainft.training.config import DatasetConfig, InitialCheckpoint
from explainft.training.train_state import abstract_state
from tests.data.batches_test import write_cache

SMALL = T5Config(64, 16, 2, 1, 1, 8, 32)

HLO = """HloModule jit_step

%body (p: (s32[], f32[24,8,4])) -> (s32[], f32[24,8,4]) {
  %p = (s32[], f32[24,8,4]{2,1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %near = f32[8,4]{1,0:T(8,128)S(1)} fusion(%x), kind=kLoop, calls=%inside
  %sum = f32[8,4]{1,0:T(8,128)S(1)} all-reduce(%near), replica_groups={}, to_apply=%add
  %out = f32[8,4]{1,0} copy(%sum)
}

%inside (q: f32[8,4]) -> f32[8,4] {
  %q = f32[8,4]{1,0} parameter(0)
  ROOT %r = f32[8,4]{1,0} multiply(%q, %q)
}

%condition (c: (s32[], f32[24,8,4])) -> pred[] {
  %c = (s32[], f32[24,8,4]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %n = s32[]{:T(128)} constant(24)
  ROOT %less = pred[] compare(%i, %n), direction=LT, metadata={op_name="while"}
}

ENTRY %main (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %b = bf16[8,4]{1,0} convert(%a)
  %w = (s32[], f32[24,8,4]{2,1,0}) while(%t), condition=%condition, body=%body TRIPS
}
"""
ARRAY = 8 * 4 * 4

SLICES = """HloModule jit_step

%one_layer (stack: f32[24,8,4], i: s32[]) -> f32[1,8,4] {
  %stack = f32[24,8,4]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %layer = f32[1,8,4]{2,1,0} dynamic-slice(%stack, %i), dynamic_slice_sizes={1,8,4}
  ROOT %twice = f32[1,8,4]{2,1,0} add(%layer, %layer)
}

%renamed (all: f32[24,8,4]) -> f32[192,4] {
  %all = f32[24,8,4]{2,1,0} parameter(0)
  ROOT %flat = f32[192,4]{1,0} bitcast(%all)
}

%every_layer (stack: f32[24,8,4]) -> f32[4] {
  %stack = f32[24,8,4]{2,1,0} parameter(0)
  %flat = f32[192,4]{1,0} fusion(%stack), kind=kLoop, calls=%renamed
  ROOT %total = f32[4]{0} reduce(%flat, %zero), dimensions={0}, to_apply=%add
}

%put (stack: f32[24,8,4], new: f32[1,8,4]) -> f32[24,8,4] {
  %stack = f32[24,8,4]{2,1,0} parameter(0)
  %new = f32[1,8,4]{2,1,0} parameter(1)
  ROOT %after = f32[24,8,4]{2,1,0} dynamic-update-slice(%stack, %new, %i, %z, %z)
}

ENTRY %main (stack: f32[24,8,4]) -> f32[24,8,4] {
  %stack = f32[24,8,4]{2,1,0} parameter(0)
  %read = f32[1,8,4]{2,1,0} fusion(%stack, %i), kind=kLoop, calls=%one_layer
  %written = f32[24,8,4]{2,1,0} fusion(%stack, %read), kind=kLoop, calls=%put
  %ahead = (f32[1,8,4]{2,1,0:T(8,128)S(1)}, f32[1,8,4]{2,1,0}, u32[]{:S(2)}) copy-start(%read)
  %arrived = f32[1,8,4]{2,1,0:T(8,128)S(1)} copy-done(%ahead)
  %next = (f32[1,8,4]{2,1,0:S(1)}, f32[1,8,4]{2,1,0:S(1)}, u32[]{:S(2)}) collective-permute-start(%arrived)
  %here = f32[1,8,4]{2,1,0:T(8,128)S(1)} collective-permute-done(%next)
  %sum = f32[4]{0:T(128)S(1)} fusion(%written), kind=kInput, calls=%every_layer
}
"""


@pytest.mark.parametrize("trips", ["", ', backend_config={"known_trip_count":{"n":"24"}}'])
def test_a_loop_s_body_counts_as_often_as_it_runs(trips):
    found = hlo.costs(HLO.replace("TRIPS", trips))
    assert found.collectives == {"all-reduce": 24 * ARRAY}  # on the chip or not, it passes the links
    assert found.counts == {"all-reduce": 24}
    assert found.bytes_sent() == 2 * 24 * ARRAY
    # The conversion reads 4 bytes and writes 2; in the loop the fusion reads x, and the copy writes the sum: what lies
    # on the chip, and what happens inside of a fusion, does not reach the memory.
    assert found.bytes_accessed == 8 * 4 * (4 + 2) + 24 * (ARRAY + ARRAY)


def test_a_loop_without_a_known_end_counts_as_often_as_it_is_told():
    text = HLO.replace("TRIPS", "").replace("direction=LT", "direction=NE")
    assert hlo.costs(text, while_trips=7).counts == {"all-reduce": 7}


def test_a_layer_taken_from_a_stack_costs_a_layer():
    found = hlo.costs(SLICES)
    # Read a layer and write its double; read that and write it into the stack; read it once more, ahead of its use;
    # sum up all layers.
    assert found.bytes_accessed == 2 * ARRAY + 2 * ARRAY + ARRAY + 24 * ARRAY
    assert found.collectives == {"collective-permute": ARRAY}


def test_bytes_of_a_real_program_are_those_of_xla():
    """Without loops XLA counts the same."""
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32)
    program = jax.jit(lambda x, y: x @ y.T).lower(x, x).compile()
    assert hlo.costs(program.as_text()).bytes_accessed == program.cost_analysis()["bytes accessed"]


def test_flops_of_loops_and_of_what_is_computed_again():
    x = jax.ShapeDtypeStruct((8, 16), jnp.float32)
    w = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    one = 2 * 8 * 16 * 16
    assert matmul_flops(lambda x, w: x @ w, x, w) == one

    def layers(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=5)[0]

    assert matmul_flops(layers, x, w) == 5 * one
    loss = jax.grad(lambda w, x: layers(x, w).sum())
    assert matmul_flops(loss, w, x) == 3 * 5 * one  # forward, and two products backward

    def once(x, w):
        return jnp.sin(jnp.sin(x @ w) @ w).sum()

    again = jax.grad(jax.checkpoint(once, policy=jax.checkpoint_policies.nothing_saveable), argnums=(0, 1))
    plain = jax.grad(once, argnums=(0, 1))
    assert matmul_flops(plain, x, w) == 6 * one
    assert matmul_flops(again, x, w) > matmul_flops(plain, x, w)

    def until(x):
        return jax.lax.while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] @ np.ones((16, 16), np.float32)), (0, x)
        )

    assert matmul_flops(until, x, while_trips=7) == 7 * one


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        ("v5e", "--topology=v5e is unknown"),
        ("v9:2x2", "--topology=v9:2x2 is unknown"),
        ("cpu:0", "names no number of devices"),
        ("cpu:4000", "jax has started with .* plan in a new process"),
        ("gpu:8", "run the plan there, with --topology=local"),
    ],
)
def test_topologies_that_are_none(topology, message):
    jax.devices()
    with pytest.raises(UserError, match=message):
        hardware.devices_of(topology)


def test_every_slice_has_known_chips():
    assert {layout.split(":")[0] for layout in hardware.SLICES.values()} == set(hardware.CHIPS)
    # FLOPs for each byte: a generation whose figures were mixed up would stand out.
    assert all(150 < c.flops / c.memory_bandwidth < 600 for c in hardware.CHIPS.values())


def test_the_nearest_change_comes_first():
    now = Choice()
    words = [choice.words(now) for choice in choices(now, 8)]
    assert words[:6] == [
        "REMAT_POLICY=minimal",
        "REMAT_POLICY=full",
        "MICROBATCHES=2 REMAT_POLICY=full",
        "MICROBATCHES=4 REMAT_POLICY=full",
        "MICROBATCHES=8 REMAT_POLICY=full",
        "FSDP=True",
    ]
    assert "MODEL_PARALLELISM=8" in words and "MODEL_PARALLELISM=16" not in words
    assert len(words) == len(set(words)) and "" not in words


def test_what_the_estimate_rules_out_is_not_compiled():
    program = plan.Program(1, 1, 1.0, hlo.Costs(1.0, {}, {}), 1.0)
    refused = plan.DoesNotFit(20.0, 16.0)
    compiled = []

    def compile(choice):
        compiled.append(choice.words(Choice()))
        return program if choice.fsdp else refused

    def estimate(choice, enough):
        if choice.microbatches in (2, 8):
            raise UserError("does not divide")
        return 99.0 if choice.remat_policy != "full" else 10.0

    choice, found = plan.nearest_that_fits(Choice(), 8, 16.0, estimate, compile)
    assert found is program and choice == Choice(fsdp=True, remat_policy="full")
    assert compiled == [
        "REMAT_POLICY=full",
        "MICROBATCHES=4 REMAT_POLICY=full",
        "FSDP=True REMAT_POLICY=full",
    ]
    compiled.clear()
    assert plan.nearest_that_fits(Choice(), 8, 16.0, lambda *_: 0.0, lambda c: compiled.append(c) or refused) is None
    assert len(compiled) == plan.TRIES


def test_the_estimate_counts_state_gradients_and_activations():
    devices = jax.devices()[:1]
    tx = optax.adam(1e-3)
    parameters = 4 * sum(int(np.prod(shape)) for shape in parameter_shapes(SMALL).values())
    mesh = sharding.make_mesh(1, devices)
    state = abstract_state(SMALL, tx, mesh)
    assert bytes_a_chip(state) == 3 * parameters + 8  # two slots; the step and Adam's own count
    dataset = DatasetConfig("task", {"inputs": 12, "targets": 10}, 8)
    batch = plan.batch_shapes(mesh, dataset.batch_size, dataset.task_feature_lengths)
    kept = {
        policy: kept_bytes(T5(SMALL, ExecutionConfig(remat_policy=policy)), Loss(), batch, 8)
        for policy in ("none", "minimal", "full")
    }
    assert kept["none"] > kept["minimal"] > kept["full"] >= 8 * 10 * 64 * 4  # the logits at least
    estimate = Estimate(T5(SMALL), tx, Loss(), batch, devices)
    assert estimate(Choice()) == 4 * parameters + 8 + kept["none"] / 2
    assert estimate(Choice(microbatches=2)) < estimate(Choice())
    assert estimate(Choice(), enough=4 * parameters) == 4 * parameters + 8
    with pytest.raises(UserError, match="BATCH_SIZE=8"):
        estimate(Choice(microbatches=3))


@pytest.mark.parametrize(
    ("message", "bytes_"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.5G of 15.75G hbm. Exceeded",
            (20.5, 15.75),
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (29.08G) "
            "exceeds available HBM (15.75G).",
            (29.08, 15.75),
        ),
        ("INTERNAL: something else", None),
    ],
)
def test_the_compiler_s_refusals(message, bytes_):
    assert plan.refusal(message) == (bytes_ and tuple(n * 2**30 for n in bytes_))


@pytest.mark.parametrize(
    ("settings", "updates"),
    [
        ((InitialCheckpoint(), 4000), 4000),
        ((InitialCheckpoint("gs://b/t5_small/checkpoint_1000000"), 1016780), 16780),
        ((InitialCheckpoint("folder", 1000000), 1016780), 16780),
        ((InitialCheckpoint("folder"), 1016780), None),
        ((InitialCheckpoint("folder"), 1016780, 50), 50),
        ((InitialCheckpoint(None, 1000000), 4000), 4000),  # of no checkpoint: a run begins anew
    ],
)
def test_updates_of_a_new_run(settings, updates):
    assert plan.updates(*settings) == updates


def test_a_plan_of_a_run_without_updates_is_refused_as_the_run_is():
    with pytest.raises(UserError, match="includes the 1000000 steps .* give --gin.TRAIN_STEPS=1004000"):
        plan.updates(InitialCheckpoint("gs://b/t5_small/checkpoint_1000000"), 4000)


def test_examples_a_row_are_counted_in_the_token_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLAINFT_CACHE_DIR", str(tmp_path))
    dataset = DatasetConfig("a_task", {"inputs": 12, "targets": 12}, 8)
    assert plan.examples_a_row(dataset) is None
    write_cache(tmp_path / "tokens" / "a_task" / "train-01234567", [np.full(4, 5)] * 30, [np.full(3, 5)] * 30)
    assert plan.examples_a_row(dataset) == 3.0
    assert plan.examples_a_row(dataclasses.replace(dataset, pack=False)) == 1.0
    too_short = dataclasses.replace(dataset, task_feature_lengths={"inputs": 3, "targets": 3})
    assert plan.examples_a_row(too_short) is None


def test_a_plan_on_this_machine_s_cpu():
    devices = jax.devices()[:1]
    parameters = sum(int(np.prod(shape)) for shape in parameter_shapes(SMALL).values())
    program = plan.decode_program(devices, Choice(), T5(SMALL), 4, 8, 3)
    longer = plan.decode_program(devices, Choice(), T5(SMALL), 4, 8, 30)
    assert program.arguments >= 4 * parameters
    assert program.memory > program.arguments
    # Each further step reads the decoder, and multiplies by it.
    assert longer.costs.bytes_accessed - program.costs.bytes_accessed > 27 * 4 * parameters / 4
    assert longer.flops > program.flops


def test_a_plan_of_decoding_counts_the_rounded_parameters_and_those_they_are_made_of():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "are_one_cpu", lambda devices: False)
        exact, rounded = (
            plan.decode_program(jax.devices()[:1], Choice(), T5(dataclasses.replace(SMALL, dtype=dtype)), 4, 8, 3)
            for dtype in ("float32", "bfloat16")
        )
    assert rounded.arguments == pytest.approx(1.5 * exact.arguments, rel=0.02)


def test_a_plan_for_simulated_devices():
    """The command makes the devices itself, and counts the gradients that they exchange."""
    words = [
        "plan",
        "--gin_file=gin/medium_tiny.gin",
        "--topology=cpu:2",
        "--gin.BATCH_SIZE=2",
        "--gin.EVAL_BATCH_SIZE=2",
    ]
    result = subprocess.run([sys.executable, "-m", "explainft.cli.main", *words], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "cpu:2: 2 chips" in result.stdout
    exchanged = re.search(r"all-reduce, GB +([\d.e-]+) ", result.stdout)
    # Gradients in float32; that of the embedding comes from each of its three uses.
    assert exchanged and 240_512 * 4 / 1e9 <= float(exchanged[1]) < 1.2 * 240_512 * 4 / 1e9


def a_plan(topology="v5e-16", **changed):
    program = plan.Program(2**33, 2**32, 197e12, hlo.Costs(819e7, {"all-reduce": 1e9}, {"all-reduce": 2}), 5.0)
    given = dict(topology=topology, chips=16, chip=hardware.CHIPS["v5e"], choice=Choice(), batch_size=32, step=program,
                 decode=program, change=None, updates=7200, examples_a_row=2.0, seconds_to_plan=9.0)  # fmt: skip
    return plan.Plan(**{**given, **changed})


def test_the_text_of_a_plan():
    text = plan.text(a_plan())
    assert "v5e-16: 16 chips of 197 TFLOP/s, 16 GiB, 819 GB/s to memory, 200 GB/s to other chips" in text
    assert "the train step fits: 12.00 GiB of 16 GiB" in text
    # 197 TFLOP take a chip of 197 TFLOP/s one second; memory and links need 10 ms each.
    assert "at least 1,000.00 ms an update, at most 32 rows/s, 64 examples/s at 2.00 examples a row" in text
    assert "7,200 updates in at least 2.00 hours" in text
    assert re.search(r"roofline, interconnect, ms +10.00", text)
    assert "not on this machine" in plan.text(a_plan(examples_a_row=None))
    assert "give --gin.INITIAL_STEP" in plan.text(a_plan(updates=None))
    refused = plan.DoesNotFit(20 * 2**30, 15.75 * 2**30)
    text = plan.text(a_plan(step=refused, change=(Choice(fsdp=True), a_plan().step)))
    assert "the train step does not fit: it needs more than 20.00 GiB of 15.75 GiB" in text
    assert "would fit: FSDP=True, with about 12.0 GiB" in text
    assert "take more or larger chips" in plan.text(a_plan(step=refused))


def cut_off(path, text):
    path.write_bytes(text[:5].encode())
    raise KeyboardInterrupt


def test_the_table_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    made = []

    def make(file, topology, bindings, search_paths, quick):
        made.append((file, topology))
        return "no | such chip" if topology == "v4-8" else a_plan(topology)

    monkeypatch.setattr(plan_table, "_apart", make)
    output = tmp_path / "docs" / "plan.md"
    slices = ["v4-8", "v5e-16"]
    plan_table.write(["gin/a_tiny.gin"], slices, [], [], True, "explainft plan --all", output)
    assert made == [("gin/a_tiny.gin", "v4-8"), ("gin/a_tiny.gin", "v5e-16")]
    lines = output.read_text().splitlines()
    assert lines[-2].startswith("| a_tiny | v4-8 | failed: no / such chip |")
    assert lines[-1] == "| a_tiny | v5e-16 | yes | 12.00 | 12.00 | 197.00 | 1,000.00 | 32 | 2.00 | 9 |"
    assert capsys.readouterr().out.splitlines() == lines[-2:]
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1

    made.clear()
    plan_table.write(["gin/a_tiny.gin", "gin/b_tiny.gin"], slices, [], [], True, "explainft plan --all", output)
    assert made == [("gin/a_tiny.gin", "v4-8"), ("gin/b_tiny.gin", "v4-8"), ("gin/b_tiny.gin", "v5e-16")]
    assert lines[-1] in output.read_text().splitlines()

    made.clear()
    plan_table.write(["gin/c_tiny.gin"], ["v5e-16"], [], [], True, "explainft plan --all", output)
    rows = [line for line in output.read_text().splitlines() if line.startswith("| ")]
    assert [line.split()[1] for line in rows] == ["recipe", "c_tiny", "a_tiny", "a_tiny", "b_tiny", "b_tiny"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_text", cut_off)
        plan_table.write(["gin/d_tiny.gin"], ["v5e-16"], [], [], True, "explainft plan --all", output)
    assert [line for line in output.read_text().splitlines() if line.startswith("| ")] == rows

    made.clear()
    plan_table.write(["gin/a_tiny.gin"], ["v5e-16"], [], [], False, "explainft plan --all", output)
    plan_table.write(["gin/a_tiny.gin"], ["v5e-16"], ["BATCH_SIZE=64"], [], False, "explainft plan --all", output)
    monkeypatch.setattr(plan_table, "_digest", lambda: "changed")
    plan_table.write(["gin/a_tiny.gin"], ["v5e-16"], ["BATCH_SIZE=64"], [], False, "explainft plan --all", output)
    assert len(made) == 3  # what was made under other conditions is not mixed in


def test_what_is_no_table_of_plans_is_not_overwritten(tmp_path):
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(UserError, match="notes.md is no table of plans; name another file"):
        plan_table.write(["gin/a_tiny.gin"], ["v5e-16"], [], [], True, "explainft plan --all", tmp_path / "notes.md")
    assert (tmp_path / "notes.md").read_text() == "mine"


@pytest.mark.parametrize("output", ["", "file/plan.md"])
def test_a_table_that_cannot_be_written_is_refused_before_hours_of_planning(tmp_path, monkeypatch, output):
    monkeypatch.setattr(plan_table, "_apart", lambda *_: pytest.fail("planned"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write {tmp_path}"):
        plan_table.write(["gin/a_tiny.gin"], ["v5e-16"], [], [], True, "explainft plan --all", tmp_path / output)


def test_a_table_has_no_place_for_two_recipes_of_one_name(tmp_path):
    files = ["one/a.gin", "other/a.gin"]
    with pytest.raises(UserError, match="give recipes of different names"):
        plan_table.write(files, ["v5e-16"], [], [], True, "explainft plan --all", tmp_path / "plan.md")


def test_a_recipe_that_cannot_be_planned_is_a_row():
    assert "no recipe" in plan_table._apart("gin/absent.gin", "v5e-8", [], [], True)


@pytest.mark.tpu
@pytest.mark.slow
@pytest.mark.parametrize("topology", hardware.SLICES)
def test_plans_for_tpus_that_are_not_here(topology):
    pytest.importorskip("libtpu", reason="needs the extra tpu")
    words = ["plan", "--gin_file=gin/none_tiny.gin", f"--topology={topology}", "--quick"]
    result = subprocess.run([sys.executable, "-m", "explainft.cli.main", *words], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "the train step fits" in result.stdout and "updates in at least" in result.stdout
    chips_ = {"v4-8": 4, "v5p-8": 4, "v5e-16": 16}.get(topology, 8)
    assert f"{topology}: {chips_} chips of " in result.stdout


def test_a_program_larger_than_the_chip_does_not_fit_whatever_the_compiler_says():
    GIB = hardware.GIB
    program = plan.Program(2 * GIB, GIB, 1.0, hlo.Costs(0.0, {}, {}), 1.0)
    assert plan.within(3 * GIB, program) is program
    assert plan.within(2.9 * GIB, program) == plan.DoesNotFit(3 * GIB, 2.9 * GIB)
    assert plan.within(GIB, plan.DoesNotFit(5.0, 4.0)) == plan.DoesNotFit(5.0, 4.0)
