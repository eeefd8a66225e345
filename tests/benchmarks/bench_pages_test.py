"""The pages of measurements, made from their files."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks import accelerator, document, evaluate, products, side_by_side
from explainft.model.flops import matmul_flops
from explainft.model.t5 import T5, T5Config

SLOW = {"decoding": {"tokens_per_second": 2.0}}


def report(rate):
    spread = {"median": rate, "min": rate / 2, "max": rate * 2}
    system = {"unit": "step", "work": 1, "seconds": spread, "rate": spread, "peak_memory": 2**30, "turns": [1.0]}
    return {
        "command": "python -m benchmarks.row", "repetitions": 5, "machine": {"cpu": "a CPU", "cores": 2},
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "left_out": ["T5X: t5x is not installed"], "systems": {"explainft": system, "peer": system},
        "ratios": {"peer": spread}, "facts": {"share": 0.5},
    }  # fmt: skip


def test_a_table_is_made_of_its_file_and_a_missing_one_is_a_dash(tmp_path):
    (tmp_path / "row.json").write_text(json.dumps(report(4.0)))
    text = "words\n<!-- bench row -->\nby hand\n<!-- end -->\n<!-- bench other --><!-- end -->\n"
    made = document.filled(text, tmp_path)
    assert "4 [2, 8] step/s" in made and "| peer |" in made and "- left out: T5X" in made
    assert "by hand" not in made and "- (`python -m benchmarks.other`)" in made and made.startswith("words\n")
    assert document.filled(made, tmp_path) == made
    (tmp_path / "row.json").write_text(json.dumps(report(6.0)))
    assert document.filled(made, tmp_path) != made


def test_sizes_on_an_accelerator_are_measured_and_make_a_table(tmp_path):
    """On the CPU of the tests, one small network."""
    command = "tiny --no_peer --batch 2 --length 16 --decode_batch 2 --decode_length 8 --repetitions 2"
    path = tmp_path / "accelerator.json"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.accelerator", *command.split(), "--output", str(path)], check=True
    )
    found = json.loads(path.read_text())
    tiny = found["sizes"]["tiny"]
    assert 0 < tiny["update"]["utilisation"] < 1 and len(tiny["update"]["seconds"]) == 2
    found["sizes"] = {"large": {**tiny, accelerator.PEER: {"torch": "2", "transformers": "5", **SLOW}}}
    path.write_text(json.dumps(found))
    made = document.filled("<!-- bench accelerator --><!-- end -->", tmp_path)
    ratio = tiny["decoding"]["tokens_per_second"] / 2.0
    assert "| small | - |" in made and f"tokens/s | 2 | {ratio:.1f}x |" in made and "1 x cpu" in made


def test_a_gpu_that_was_not_there_leaves_dashes(tmp_path):
    made = document.filled("<!-- bench accelerator --><!-- end -->", tmp_path)
    assert all(f"| {size} |{' - |' * 7}\n" in made for size in ("small", "base", "large", "3b"))
    assert "Made on" not in made and "(`python -m benchmarks.accelerator`)" in made


def test_goals_stand_beside_float32_and_the_fastest_of_ours(tmp_path):
    found = report(4.0)
    rates = {"explainft": 4.0, "explainft, task's pieces": 6.0, "explainft, int8": 9.0, "Hugging Face": 3.0}
    found["systems"] = {name: {"rate": {"median": rate}, "work": 8} for name, rate in rates.items()}
    found["facts"] = {"least seconds of our turn": 0.5}
    (tmp_path / "evaluate.json").write_text(json.dumps(found))
    made = document.filled("words\n<!-- goals -->\nby hand\n<!-- end -->\n", tmp_path)
    assert "| evaluating | Hugging Face | 3x | 5.33x | 1.33x | 2x | 3x: int8 |" in made and "by hand" not in made
    assert "| sampling | Hugging Face | 5x | - | - | - | - |" in made
    del found["systems"]["explainft, int8"], found["systems"]["explainft, task's pieces"]
    found["facts"] = {}
    (tmp_path / "evaluate.json").write_text(json.dumps(found))
    assert "| 3x | - | 1.33x | - | 1.33x |" in document.filled("<!-- goals --><!-- end -->", tmp_path)


def test_goals_that_name_no_peer_are_reached_or_not(tmp_path):
    found = report(4900.0)
    found["facts"] = {"rate of two processes for each of one's": 2.0}
    found["systems"]["explainft"]["rate"]["median"] = 4900.0
    (tmp_path / "dataset.json").write_text(json.dumps(found))
    made = document.filled("words\n<!-- limits --><!-- end -->\n", tmp_path)
    assert "| making data, examples/s of a process | at least 5,000 | 4,900 | no |" in made
    assert "| two processes' rate, of one's | at least 2 | 2 | yes |" in made
    assert "| first update, s | below 8 | - | - |" in made


def test_rows_times_steps_of_a_batch_whose_rows_halve():
    lengths = [1] * 16 + [3] * 15 + [10]
    assert evaluate.row_steps(lengths, 32) == 32 * 1 + 16 * (10 - 1)  # 16 rows are not halved
    assert evaluate.row_steps([5] * 40, 64) == 64 * 5  # rows of padding are computed too, to the end
    assert evaluate.row_steps([2] * 32 + [4] * 16 + [6] * 16, 64) == 64 * 2 + 32 * (4 - 2) + 16 * (6 - 4)
    # Of two inputs, 32 texts of each: half of both must have ended.
    assert evaluate.row_steps([2] * 16 + [9] * 16 + [4] * 32, 64, 32) == 64 * 4 + 32 * (9 - 4)


def test_texts_of_float32_are_compared_but_for_those_of_other_pieces():
    pieces = "explainft, task's pieces"

    def turn(first, second, **known):
        return {"texts": [first, second], "metrics": {"exact_match": 0.5}, **known}

    ours = turn("a", "b", **{"of other pieces": [1]})
    same = {"explainft": [ours], pieces: [turn("a", "c")], "Hugging Face": [turn("a", "b")]}
    assert evaluate.check(same) == []
    assert evaluate.check({**same, pieces: [turn("a", "b"), turn("c", "b")]}) == [
        f"{pieces} writes 1 of 2 texts differently"
    ]
    assert evaluate.check({**same, "Hugging Face": [turn("a", "c")]}) == [
        "Hugging Face writes 1 of 2 texts differently"
    ]
    scored = {**turn("a", "b"), "metrics": {"exact_match": 1.0}}
    assert evaluate.check({**same, "Hugging Face": [scored]}) == ["Hugging Face scores the same texts differently"]
    assert evaluate.check({**same, "explainft, task's pieces, int8": [turn("x", "y")]}) == []


@pytest.mark.parametrize("activations", [("relu",), ("gelu", "linear")])
def test_flops_of_texts_are_those_of_the_products_that_write_them(activations):
    config = T5Config(40, 16, 2, 3, 2, 6, 20, activations, logits_via_embedding=len(activations) == 1)
    network = T5(config)
    S, T = 7, 3
    params = network.init(jax.random.key(0), *[jnp.ones((1, 4), jnp.int32)] * 3)

    def begin(window):
        inputs = jnp.ones((2, S), jnp.int32)
        return lambda params: network.apply(params, inputs, T, 1, window, method=T5.init_cache)

    assert products.encoding_flops(config, [S, S]) == matmul_flops(begin(T), params)
    # A text of T tokens: the step at each position, in a cache that ends there.
    steps = 0
    for position in range(T):
        cache = jax.eval_shape(begin(position + 1), params)
        step = lambda params, cache: network.apply(params, jnp.ones(2, jnp.int32), cache, 0, method=T5.decode_step)  # noqa: E731
        steps += matmul_flops(step, params, cache)
    assert products.writing_flops(config, [S, S], [T, T], 40) == steps


def test_a_profile_is_a_table_of_shares(tmp_path):
    profile = {
        "command": "python -m benchmarks.row --profile", "machine": {"cpu": "a CPU", "cores": 2}, "system": "explainft",
        "seconds": 1.5, "shares": {"dot": 0.75, "copy": 0.242, "tail": 0.004, "end": 0.004},
    }  # fmt: skip
    (tmp_path / "row_profile.json").write_text(json.dumps(profile))
    made = document.filled("<!-- bench row_profile --><!-- end -->", tmp_path)
    assert "| `dot` | 75% |\n| `copy` | 24% |\n| 2 others | 1% |" in made and "1.5 s without the trace" in made


def test_rows_of_data_are_a_table_of_rates(tmp_path):
    rows = [{"examples": 10_000, "work": "build", "seconds": 20.0, "peak_mib": 383.4}]
    found = {"command": "python -m benchmarks.row", "machine": {"cpu": "a CPU", "cores": 2}, "rows": rows}
    (tmp_path / "row.json").write_text(json.dumps(found))
    made = document.filled("<!-- bench row --><!-- end -->", tmp_path)
    assert "| 10,000 | build | 20.0 | 500 | 383 |" in made


def test_the_pages_are_what_the_measurements_say():
    for page in document.PAGES:
        text = page.read_text()
        assert "<!-- bench " in text and document.filled(text) == text
    assert document.DOCS.parent / "benchmarks" / "results" == side_by_side.RESULTS
