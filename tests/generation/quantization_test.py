"""Decoding in lower precision or with a smaller output vocabulary, compared with decoding in full."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from explainft.checkpoints import convert
from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.evaluation import infer
from explainft.generation import decoding
from explainft.generation.quantization import DecodeConfig, decode_parameters
from explainft.model.config import T5Config
from explainft.model.execution import ExecutionConfig
from explainft.model.layers import KERNEL_FIRST_MAX_ROWS, decode_matmul
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.parallel import sharding
from tests.generation.decoding_test import LENGTH, sharpened
from tests.model.t5_test import SMALL, params_of

UNTIED = dataclasses.replace(SMALL, logits_via_embedding=False, mlp_activations=("gelu", "linear"))


@pytest.fixture(params=[5, 50], ids=["few rows", "many rows"])
def states_and_kernel(request):
    """Few rows and many are multiplied in different ways."""
    rng = np.random.default_rng(0)
    assert 3 * 5 < KERNEL_FIRST_MAX_ROWS < 3 * 50
    return rng.normal(size=(3, request.param, 64)).astype(np.float32), rng.normal(size=(64, 48)).astype(np.float32)


def quantize(kernel, dtype):
    found = decode_parameters(SMALL, {"token_embedder": {"embedding": kernel.T}, "layer": {"kernel": kernel}}, dtype)
    return found["layer"]


def test_an_accelerator_casts_the_parameters_of_a_bfloat16_model_once(monkeypatch):
    config = dataclasses.replace(SMALL, dtype="bfloat16")
    params = sharpened(0)
    monkeypatch.setattr(sharding, "on_one_cpu", lambda params: False)
    once = decode_parameters(config, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(once)} == {jnp.dtype(jnp.bfloat16)}
    rows = jnp.asarray(np.random.default_rng(0).integers(2, 40, (8, 10)))
    written = decoding.greedy(T5(config), once, rows, LENGTH)
    np.testing.assert_array_equal(written, decoding.greedy(T5(config), params, rows, LENGTH))
    assert len(np.unique(written)) > 5


def test_bfloat16_matmuls_accumulate_in_float32(states_and_kernel):
    x, kernel = states_and_kernel
    found = decode_matmul(jnp.asarray(x), quantize(kernel, "bfloat16"), "float32", "float32")
    factors = [np.asarray(jnp.asarray(a, jnp.bfloat16), np.float64) for a in (x, kernel)]
    np.testing.assert_allclose(found, factors[0] @ factors[1], rtol=1e-5, atol=1e-5)
    assert found.dtype == jnp.float32


def test_int8_matmuls_are_within_half_a_level_of_each_factor(states_and_kernel):
    x, kernel = states_and_kernel
    parts = quantize(kernel, "int8")
    assert parts["kernel_FD"].dtype == jnp.int8
    found = np.asarray(decode_matmul(jnp.asarray(x), parts, "float32", "float32"))
    of_kernel = np.abs(kernel).max(axis=0) / 127 / 2
    of_states = np.abs(x).max(axis=-1, keepdims=True) / 127 / 2
    bound = np.abs(x).sum(-1, keepdims=True) * of_kernel + of_states * (np.abs(kernel).sum(0) + 64 * of_kernel)
    error = np.abs(found - x @ kernel)
    assert (error <= bound + 1e-4).all() and error.max() > 1e-3  # and they are quantized


def test_zeros_stay_zero_in_int8(states_and_kernel):
    x, kernel = states_and_kernel
    kernel[:, 3], x[0, 0] = 0, 0
    parts = quantize(kernel, "int8")
    found = np.asarray(decode_matmul(jnp.asarray(x), parts, "float32", "float32"))
    assert (found[..., 3] == 0).all() and (found[0, 0] == 0).all() and np.isfinite(found).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_the_kernel_of_few_rows_is_the_left_operand(dtype):
    """XLA keeps it there, which is why it is asked for: the sums of an output then lie in a row."""
    kernel = quantize(np.ones((64, 48), np.float32), dtype)
    product = jax.jit(lambda x: decode_matmul(x, kernel, "float32", "float32"))
    few = KERNEL_FIRST_MAX_ROWS // 2 if dtype == "int8" else KERNEL_FIRST_MAX_ROWS
    results = {}
    for rows in (few, few + 1):
        text = product.lower(jnp.ones((rows, 1, 64))).compile().as_text()
        results[rows] = re.findall(r"(?:f32|s32)\[([\d,]+)\]\S* dot\(", text)
    assert results == {few: [f"48,{few}"], few + 1: [f"{few + 1},48"]}


def test_a_cpu_does_not_cast_a_float32_kernel_at_each_token():
    kernel = quantize(np.ones((64, 48), np.float32), "float32")
    product = jax.jit(lambda x, kernel: decode_matmul(x, kernel, "bfloat16", "float32"))
    x = jnp.ones((5, 64), jnp.bfloat16)
    text = product.lower(x, kernel).compile().as_text()
    assert re.search(r"f32\[[\d,]+\]\S* dot\(", text) and "bf16[48,64]" not in text
    assert product(x, kernel).dtype == jnp.bfloat16 and (product(x, kernel) == 64).all()


@pytest.mark.parametrize("config", [SMALL, UNTIED], ids=["tied", "untied"])
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_every_kernel_is_quantized_and_logits_stay_close(config: T5Config, dtype):
    params = params_of(config, 0)["params"]
    quantized = decode_parameters(config, params, dtype)
    kernels = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(quantized) if path[-1].key == "kernel_FD"]
    assert {str(kernel.dtype) for kernel in kernels} == {dtype}
    inputs = np.array([[5, 9, 30, 1], [7, 1, 0, 0]], np.int32)
    targets = np.array([[4, 8, 15], [16, 23, 1]], np.int32)
    forward = jax.jit(T5(config).apply)
    logits, near = (forward({"params": p}, inputs, np.roll(targets, 1, 1), targets) for p in (params, quantized))
    difference = np.abs(np.asarray(logits) - np.asarray(near))
    assert 0 < difference.max() < 0.1 * np.abs(np.asarray(logits)).max()


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_scanned_layers_multiply_the_same_kernels(dtype):
    """Recipes from base on have SCAN_LAYERS: the kernels keep their numbers there."""
    params = decode_parameters(SMALL, sharpened(0), dtype)
    tokens = np.random.default_rng(0).integers(2, 40, (4, 10))
    unrolled, looped = (jax.jit(T5(SMALL, ExecutionConfig(scan_layers=scanned)).apply) for scanned in (False, True))
    logits = [forward({"params": params}, tokens, tokens, tokens) for forward in (unrolled, looped)]
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-5 * np.abs(np.asarray(logits[0])).max())
    program = looped.lower({"params": params}, tokens, tokens, tokens).as_text()
    number = {"int8": "i8", "bfloat16": "bf16"}[dtype]
    of_kernels = re.findall(rf"dot_general.*: \(tensor<[^>]*x{number}>, tensor<[^>]*x{number}>\)", program)
    assert len(of_kernels) == 6 + 10 + 1  # of an encoder's layer, a decoder's, and the output layer


@pytest.mark.parametrize("config", [SMALL, UNTIED], ids=["tied", "untied"])
def test_on_one_cpu_float32_kernels_are_transposed_and_outputs_equal(config):
    params = params_of(config, 4)["params"]
    found = decode_parameters(config, params)
    of = dict(traverse_util.flatten_dict(params, sep="/"))
    for name, leaf in traverse_util.flatten_dict(found, sep="/").items():
        kernel = of.pop(name.replace("kernel_FD", "kernel"))
        np.testing.assert_array_equal(leaf, kernel.T if name.endswith("kernel_FD") else kernel)
        assert not name.endswith("kernel")
    assert not of
    inputs = [[*np.random.default_rng(seed).integers(2, 40, 12), 1] for seed in range(6)]
    texts = [decoding.generate(T5(config), p, inputs, LENGTH, batch_size=6) for p in (params, found)]
    assert texts[0] == texts[1] and any(texts[0])


def test_a_smaller_output_vocabulary_decodes_its_own_argmax():
    inputs = [[*np.random.default_rng(1).integers(2, 40, 12), 1]]
    params = sharpened(1)
    output_ids = np.array([4, 7, 12, 20, 33])
    everything = jax.jit(T5(SMALL).apply)(
        {"params": params}, np.array(inputs), np.zeros((1, 1), int), np.ones((1, 1), int)
    )
    first = output_ids[int(np.argmax(np.asarray(everything)[0, 0, output_ids]))]
    [written] = decoding.generate(
        T5(SMALL), decode_parameters(SMALL, params, output_ids=output_ids), inputs, LENGTH, batch_size=1
    )
    assert set(written) <= set(output_ids.tolist())
    assert written[0] == first


@pytest.mark.parametrize("config", [SMALL, UNTIED], ids=["tied", "untied"])
def test_outputs_within_the_smaller_vocabulary_are_unchanged(config):
    inputs = [[*np.random.default_rng(seed).integers(2, 40, 12), 1] for seed in range(6)]
    params = sharpened(2) if config is SMALL else params_of(config, 2)["params"]
    full = decoding.generate(T5(config), params, inputs, LENGTH, batch_size=6)
    output_ids = np.unique([decoding.EOS_ID, *sum(full, [])])
    assert len(output_ids) < config.vocab_size
    restricted = decode_parameters(config, params, output_ids=output_ids)
    assert decoding.generate(T5(config), restricted, inputs, LENGTH, batch_size=6) == full


@pytest.mark.parametrize("config", [SMALL, UNTIED], ids=["tied", "untied"])
def test_loss_with_output_ids_is_a_softmax_over_them_alone(config):
    output_ids = (0, 1, 4, 7, 12)
    params = params_of(config, 3)["params"]
    targets = np.array([[4, 7, 1, 0], [12, 1, 0, 0]], np.int32)
    batch = {
        "encoder_input_tokens": np.array([[5, 9, 1], [30, 1, 0]], np.int32),
        "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": targets,
    }

    def expected(params):
        logits = T5(config).apply({"params": params}, **batch)[..., np.array(output_ids)]
        return Loss(z_loss=0.1).sums(logits, np.searchsorted(output_ids, targets))["loss_sum"]

    def found(params):
        return Loss(z_loss=0.1, output_ids=output_ids).batch_sums(T5(config), params, batch)["loss_sum"]

    (value, grads), (other, others) = (jax.jit(jax.value_and_grad(f))(params) for f in (expected, found))
    np.testing.assert_allclose(other, value, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), others, grads)


def test_a_run_with_the_task_vocabulary_decodes_no_other_tokens(tiny_data_dir, tmp_path, capsys):
    run = tmp_path / "run"
    flags = "OUTPUT_VOCABULARY=task TRAIN_STEPS=3 WARMUP_STEPS=0 EVALUATOR_NUM_EXAMPLES=4 EVAL_STEPS=1 LOG_PERIOD=1"
    flags += " NUM_LAYERS=1 EMB_DIM=16 MLP_DIM=16"
    words = [f"--gin.{flag}" for flag in flags.split()]
    main(["train", "--gin_file=gin/none_tiny.gin", f"--gin.MODEL_DIR={run}", *words, "--tfds_data_dir", tiny_data_dir])
    [file] = (run / "inference_eval").glob("*_eval_validation_compact-000003.jsonl")
    assert all(set(json.loads(line)["prediction"]) <= set(" 0123456789") for line in file.read_text().splitlines())
    [prediction] = infer.infer(run, ["[MAX 2 9 ]"])  # the checkpoint has the run's
    assert set(prediction.explanation) <= set(" 0123456789")
    command = ["train", "--gin_file=gin/none_tiny.gin", f"--gin.MODEL_DIR={run}", *words[1:], "--gin.TRAIN_STEPS=4"]
    with pytest.raises(SystemExit):
        main([*command, "--tfds_data_dir", tiny_data_dir])  # with all tokens it is another run
    assert "holds a run with output_ids=" in capsys.readouterr().err


def test_the_task_vocabulary_is_that_of_its_targets(tiny_data_dir):
    cache = token_cache.load("explained_tiny_medium_eval_test_compact", "validation", data_dir=tiny_data_dir)
    weights = convert.open_weights(str(infer.PRETRAINED))
    params = DecodeConfig(output_vocabulary="task").parameters_for(weights.architecture(), weights.tree(), cache, {})
    output_ids = set(np.asarray(params["output"]["token_ids"]).tolist())
    assert output_ids == {int(token) for i in range(len(cache)) for token in cache.targets[i]}
    assert decoding.EOS_ID in output_ids and len(output_ids) < weights.architecture().vocab_size


@pytest.mark.parametrize(
    "settings, line",
    [({"dtype": "int4"}, "DECODE_DTYPE='int4'"), ({"output_vocabulary": "x"}, "OUTPUT_VOCABULARY='x'")],
)
def test_unknown_settings_are_refused(settings, line):
    with pytest.raises(UserError, match=line):
        DecodeConfig(**settings)


def test_eval_scores_equally_in_the_task_vocabulary_and_similarly_in_lower_precision(tiny_data_dir, tmp_path, capsys):
    scores = {}
    settings = {
        "float32": [],
        "task": ["OUTPUT_VOCABULARY=task"],
        "int8": ["DECODE_DTYPE=int8"],
        "bfloat16": ["DECODE_DTYPE=bfloat16"],
    }
    for name, flags in settings.items():
        main(
            ["eval", "--gin_file=gin/eval_tiny.gin", f"--gin.CHECKPOINT_PATH={infer.PRETRAINED}",
             f"--gin.EVAL_OUTPUT_DIR={tmp_path / name}", f"--tfds_data_dir={tiny_data_dir}",
             "--gin.MIXTURE_OR_TASK_NAME=explained_tiny_medium_eval_test_compact",
             *(f"--gin.{flag}" for flag in flags)]
        )  # fmt: skip
        scores[name] = float(capsys.readouterr().out.split("exact_match ")[1].split()[0])
    assert scores["float32"] == scores["task"] > 0.9
    assert abs(scores["int8"] - scores["float32"]) <= 0.05 and abs(scores["bfloat16"] - scores["float32"]) <= 0.05
