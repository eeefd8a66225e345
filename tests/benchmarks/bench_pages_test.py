"""The pages of measurements, generated from the results."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks import accelerator, document, evaluate, matmul, side_by_side
from explainft.model.config import T5Config
from explainft.model.flops import matmul_flops
from explainft.model.t5 import T5

SLOW = {"decoding": {"tokens_per_second": 2.0}}


def report(rate):
    spread = {"median": rate, "min": rate / 2, "max": rate * 2}
    contender = {"unit": "step", "work": 1, "seconds": spread, "rate": spread, "peak_memory": 2**30}
    return {
        "command": "python -m benchmarks.row", "repetitions": 5, "machine": {"cpu": "a CPU", "cores": 2},
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "left_out": ["T5X: t5x is not installed"], "contenders": {"explainft": contender, "other": contender},
        "ratios": {"other": spread}, "facts": {"fraction": 0.5},
    }  # fmt: skip


def test_tables_come_from_results_and_missing_ones_are_dashes(tmp_path):
    (tmp_path / "row.json").write_text(json.dumps(report(4.0)))
    text = "words\n<!-- bench row -->\nby hand\n<!-- end -->\n<!-- bench other --><!-- end -->\n"
    made = document.fill(text, tmp_path)
    assert "4 [2, 8] step/s" in made and "| other |" in made and "Not measured: T5X" in made
    assert "by hand" not in made and "- (`python -m benchmarks.other`)" in made and made.startswith("words\n")
    assert document.fill(made, tmp_path) == made
    (tmp_path / "row.json").write_text(json.dumps(report(6.0)))
    assert document.fill(made, tmp_path) != made


def test_accelerator_benchmark_fills_its_table(tmp_path):
    """Measures one small model on the CPU."""
    command = "tiny --no_baseline --batch 2 --length 16 --decode_batch 2 --decode_length 8 --repetitions 2"
    path = tmp_path / "accelerator.json"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.accelerator", *command.split(), "--output", str(path)], check=True
    )
    found = json.loads(path.read_text())
    tiny = found["sizes"]["tiny"]
    assert 0 < tiny["train_step"]["mfu"] < 1 and len(tiny["train_step"]["seconds"]) == 2
    found["sizes"] = {"large": {**tiny, accelerator.BASELINE: {"torch": "2", "transformers": "5", **SLOW}}}
    path.write_text(json.dumps(found))
    made = document.fill("<!-- bench accelerator --><!-- end -->", tmp_path)
    ratio = tiny["decoding"]["tokens_per_second"] / 2.0
    assert "| small | - |" in made and f"tokens/s | 2 | {ratio:.1f}x |" in made and "1 x cpu" in made


def test_missing_accelerator_leaves_dashes(tmp_path):
    made = document.fill("<!-- bench accelerator --><!-- end -->", tmp_path)
    assert all(f"| {size} |{' - |' * 7}\n" in made for size in ("small", "base", "large", "3b"))
    assert "Made on" not in made and "(`python -m benchmarks.accelerator`)" in made


def test_relative_targets_show_limit_and_fastest_option(tmp_path):
    found = report(4.0)
    rates = {"explainft": 4.0, "explainft, task vocabulary": 6.0, "explainft, int8": 9.0, "Hugging Face": 3.0}
    found["contenders"] = {name: {"rate": {"median": rate}, "work": 8} for name, rate in rates.items()}
    found["facts"] = {"lower bound of explainft in seconds": 0.5}
    (tmp_path / "evaluate.json").write_text(json.dumps(found))
    made = document.fill("words\n<!-- relative targets -->\nby hand\n<!-- end -->\n", tmp_path)
    assert "| evaluation | Hugging Face | 3x | 5.33x | 1.33x | 2x | 3x: int8 |" in made and "by hand" not in made
    assert "| sampling | Hugging Face | 5x | - | - | - | - |" in made
    del found["contenders"]["explainft, int8"], found["contenders"]["explainft, task vocabulary"]
    found["facts"] = {}
    (tmp_path / "evaluate.json").write_text(json.dumps(found))
    assert "| 3x | - | 1.33x | - | 1.33x |" in document.fill("<!-- relative targets --><!-- end -->", tmp_path)


def test_absolute_targets_are_reached_or_not(tmp_path):
    found = report(4900.0)
    found["facts"] = {"throughput of two processes relative to one": 2.0}
    found["contenders"]["explainft"]["rate"]["median"] = 4900.0
    (tmp_path / "dataset.json").write_text(json.dumps(found))
    made = document.fill("words\n<!-- absolute targets --><!-- end -->\n", tmp_path)
    assert "| data generation, examples/s per process | at least 5,000 | 4,900 | no |" in made
    assert "| data generation, two processes relative to one | at least 2 | 2 | yes |" in made
    assert "| first train step, s | below 8 | - | - |" in made


def test_row_steps_of_compacted_batches():
    lengths = [1] * 16 + [3] * 15 + [10]
    assert evaluate.row_steps(lengths, 32) == 32 * 1 + 16 * (10 - 1)  # 16 rows are not compacted
    assert evaluate.row_steps([5] * 40, 64) == 64 * 5  # padding rows are computed too
    assert evaluate.row_steps([2] * 32 + [4] * 16 + [6] * 16, 64) == 64 * 2 + 32 * (4 - 2) + 16 * (6 - 4)


def test_float32_outputs_must_agree_within_the_task_vocabulary():
    restricted = "explainft, task vocabulary"

    def result(first, second, **known):
        return {"outputs": [first, second], "metrics": {"exact_match": 0.5}, **known}

    reference = result("a", "b", **{"outside vocabulary": [1]})
    equal = {"explainft": [reference], restricted: [result("a", "c")], "Hugging Face": [result("a", "b")]}
    assert evaluate.check(equal) == []
    assert evaluate.check({**equal, restricted: [result("a", "b"), result("c", "b")]}) == [
        f"{restricted} generates 1 of 2 outputs differently"
    ]
    assert evaluate.check({**equal, "Hugging Face": [result("a", "c")]}) == [
        "Hugging Face generates 1 of 2 outputs differently"
    ]
    scored = {**result("a", "b"), "metrics": {"exact_match": 1.0}}
    assert evaluate.check({**equal, "Hugging Face": [scored]}) == ["Hugging Face scores the same outputs differently"]
    assert evaluate.check({**equal, "explainft, task vocabulary, int8": [result("x", "y")]}) == []


@pytest.mark.parametrize("activations", [("relu",), ("gelu", "linear")])
def test_generation_flops_match_the_traced_matmuls(activations):
    config = T5Config(40, 16, 2, 3, 2, 6, 20, activations, logits_via_embedding=len(activations) == 1)
    model = T5(config)
    S, T = 7, 3
    params = model.init(jax.random.key(0), *[jnp.ones((1, 4), jnp.int32)] * 3)

    def prefill(capacity):
        inputs = jnp.ones((2, S), jnp.int32)
        return lambda params: model.apply(params, inputs, T, 1, capacity, method=T5.init_cache)

    assert matmul.encoding_flops(config, [S, S]) == matmul_flops(prefill(T), params)
    # T tokens: one step per position, with a cache that ends there.
    steps = 0
    for position in range(T):
        cache = jax.eval_shape(prefill(position + 1), params)
        step = lambda params, cache: model.apply(params, jnp.ones(2, jnp.int32), cache, 0, method=T5.decode_step)  # noqa: E731
        steps += matmul_flops(step, params, cache)
    assert matmul.generation_flops(config, [S, S], [T, T], 40) == steps


def test_profile_is_a_table_of_fractions(tmp_path):
    profile = {
        "command": "python -m benchmarks.row --profile",
        "machine": {"cpu": "a CPU", "cores": 2},
        "contender": "explainft", "seconds": 1.5,
        "fractions": {"dot": 0.75, "copy": 0.242, "tail": 0.004, "end": 0.004},
    }  # fmt: skip
    (tmp_path / "row_profile.json").write_text(json.dumps(profile))
    made = document.fill("<!-- bench row_profile --><!-- end -->", tmp_path)
    assert "| `dot` | 75% |\n| `copy` | 24% |\n| 2 others | 1% |" in made and "1.5 s untraced" in made


def test_data_rows_are_a_table_of_rates(tmp_path):
    rows = [{"examples": 10_000, "work": "build", "seconds": 20.0, "peak_mib": 383.4}]
    found = {"command": "python -m benchmarks.row", "machine": {"cpu": "a CPU", "cores": 2}, "rows": rows}
    (tmp_path / "row.json").write_text(json.dumps(found))
    made = document.fill("<!-- bench row --><!-- end -->", tmp_path)
    assert "| 10,000 | build | 20.0 | 500 | 383 |" in made


def test_pages_match_the_results():
    for page in document.PAGES:
        text = page.read_text()
        assert "<!-- bench " in text and document.fill(text) == text
    assert document.DOCS.parent / "benchmarks" / "results" == side_by_side.RESULTS
