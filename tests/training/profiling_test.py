"""What a run tells of its speed, and its trace."""

import dataclasses
import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from explainft.core import jax_setup
from explainft.model.execution import ExecutionConfig
from explainft.model.t5 import T5
from explainft.training import profiling
from tests.helpers.training import MODEL, rows, run


def flops_per_step(folder):
    row = next(row for row in rows(folder) if "flops_per_second" in row)
    return row["flops_per_second"] * row["seconds"] / row["step"]


def test_flops_are_the_model_s_whatever_is_computed_again(undisturbed, tmp_path, tiny_data_dir):
    run(
        tmp_path / "remat",
        tiny_data_dir,
        3,
        model=T5(dataclasses.replace(MODEL, dropout_rate=0.1), ExecutionConfig(remat_policy="full")),
    )
    assert flops_per_step(tmp_path / "remat") == pytest.approx(flops_per_step(undisturbed))
    # By hand, B = 8, S = 32, T = 48, D = 8, HK = 8, F = 16, V = 160: two products backward for each forward.
    B, S, T, D, HK, F, V = 8, 32, 48, 8, 8, 16, 160
    encoder = S * D * (4 * HK + 2 * F) + 2 * S * S * HK
    decoder = T * D * (6 * HK + 2 * F) + 2 * S * D * HK + 2 * T * T * HK + 2 * T * S * HK + T * D * V
    assert flops_per_step(undisturbed) == pytest.approx(3 * 2 * B * (encoder + decoder))


def test_the_peak_is_that_of_matrix_products():
    peak = profiling.peak_flops_per_second("float32")
    assert 1e8 < peak < 1e14


@pytest.mark.parametrize(("instructions", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_the_peak_is_measured_in_the_type_that_is_multiplied(monkeypatch, instructions, dtype):
    monkeypatch.setattr(jax_setup, "has_bfloat16_matmul", lambda: instructions)
    normal, drawn = jax.random.normal, []
    monkeypatch.setattr(
        jax.random, "normal", lambda key, shape, dtype: drawn.append(dtype) or normal(key, shape, dtype)
    )
    assert profiling.peak_flops_per_second("bfloat16") > 1e8
    assert set(drawn) == {dtype}


def test_a_trace_of_some_steps(tmp_path, tiny_data_dir, capfd):
    run(tmp_path / "run", tiny_data_dir, 7, profile=True)
    [trace] = (tmp_path / "run" / "profile").rglob("perfetto_trace.json.gz")
    with gzip.open(trace) as file:
        events = json.load(file)["traceEvents"]
    assert sum("PjitFunction(step)" in event.get("name", "") for event in events) >= profiling.TRACED
    told = capfd.readouterr().err
    assert "a trace of 3 steps is in" in told
    found = profiling.time_fractions(tmp_path / "run" / "profile")
    assert sum(found.values()) == pytest.approx(1) and list(found.values()) == sorted(found.values(), reverse=True)
    kind, share = next(iter(found.items()))
    assert f"time by operation: {kind} {share:.0%}" in told


def test_shares_of_a_trace(tmp_path):
    """By hand: operations alone, without what runs them, whatever the number in their name."""
    ran = [("dot.1", 30, True), ("dot.2", 30, True), ("copy", 40, True), ("while.7", 100, True), ("python", 500, False)]
    events = [{"ph": "X", "name": n, "dur": dur, "args": {"hlo_op": n} if op else {}} for n, dur, op in ran]
    for time, found in (("2026_01_01_10_00_00", []), ("2026_01_02_09_00_00", events)):  # the newest counts
        folder = tmp_path / "plugins" / "profile" / time
        folder.mkdir(parents=True)
        with gzip.open(folder / "perfetto_trace.json.gz", "wt") as file:
            json.dump({"traceEvents": [{"ph": "M", "name": "thread_name"}, *found]}, file)
    assert profiling.time_fractions(tmp_path) == {"dot": 0.6, "copy": 0.4}


def test_no_trace_of_too_few_steps(tmp_path, capfd):
    with profiling.Trace(tmp_path / "none", 0):
        pass
    assert "no trace: fewer than 6 steps were made" in capfd.readouterr().err


def test_counting_leaves_the_arguments_alone():
    update = jax.jit(lambda x: x @ x, donate_argnums=0)
    x = jnp.ones((4, 4))
    assert profiling.model_flops(update, x) == 2 * 4**3
    assert update(x).shape == (4, 4)
