"""The recipes under T5X itself, which must be on PYTHONPATH: `pytest -m t5x tests/recipes/t5x_test.py`."""

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gin
import pytest

from explainft.data import token_cache
from explainft.data.compact_vocabulary import COMPACT
from explainft.recipes import gin_adapter, recipe
from explainft.reporting import report
from explainft.samples.dataset import SamplesDataset, make_dataset
from explainft.samples.examples import Selection
from explainft.training import optimizers, train
from tests.helpers.questions import import_homes
from tests.helpers.sample_files import sampled_row, write_sample_rows
from tests.recipes.recipe_test import GIVEN, PARAMETERS, ROOT, SCORING, TRAINING, leaf_path, load_leaf, public_macros

T5X = importlib.util.find_spec("t5x")
pytestmark = [
    pytest.mark.t5x,
    pytest.mark.skipif(T5X is None, reason="T5X is not installed; see tpu_scripts/setup_t5x.sh"),
]

T5_VOCAB = os.path.relpath(COMPACT, ROOT)  # any file serves: no text is coded with it
STEPS = (0, 100, 1_000_000)  # where the learning rates are compared
TINY_RUN = {
    "BATCH_SIZE": 4, "WARMUP_STEPS": 1, "EVAL_PERIOD": 2, "CHECKPOINT_PERIOD": 2, "EVAL_STEPS": 1,
    "EVAL_BATCH_SIZE": 8, "EVALUATOR_NUM_EXAMPLES": 8, "KEEP_CHECKPOINTS": 1,
}  # fmt: skip
VALIDATION = "explained_tiny_medium_eval_validation_compact"


def run_t5x(*command):
    """A Python process in the repository's root; its standard output and its log."""
    env = {**os.environ, "EXPLAINFT_T5_VOCAB": T5_VOCAB}
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, done.stderr


# ---- each leaf, parsed by T5X's rules, in one process of its own: gin files name T5X's script as __main__


def describe_leaves():
    """Prints, for each leaf as T5X reads it: its settings, parameters, and what its macros lack."""
    from t5x import eval as t5x_eval
    from t5x import infer, train, utils

    import __main__

    __main__.train, __main__.evaluate, __main__.infer = train.train, t5x_eval.evaluate, infer.infer
    for folder in (ROOT, Path(T5X.submodule_search_locations[0]).parent):
        gin.add_config_file_search_path(str(folder))
    described = {}
    for leaf in (*TRAINING, *SCORING):
        kind = leaf.split("_")[0]
        gin.clear_config()
        bindings = [recipe.quote_bare_words(binding) for binding in GIVEN[kind]]
        gin.parse_config_files_and_bindings([str(leaf_path(leaf))], bindings)
        bound = gin.get_bindings({"eval": "evaluate", "infer": "infer"}.get(kind, "train"))
        for value in bound.values():
            if isinstance(value, utils.DatasetConfig):
                utils.verify_matching_vocabs(value, bound["model"])
        read, defined = gin_adapter.current().read_macros, gin_adapter.current().macros
        described[leaf] = {
            "read": sorted(read),
            "unbound": [name for name in read if name not in defined or gin_adapter.is_required(defined[name])],
            "vocabulary": bound["model"].output_vocabulary.sentencepiece_model_file,
            "parameters": parameters(bound["model"].module),
            "settings": t5x_settings(bound) if leaf in TRAINING else None,
        }
    print(json.dumps(described))


@functools.cache
def parameters(module):
    import jax
    import jax.numpy as jnp

    tokens = jnp.ones((1, 1), jnp.int32)
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), tokens, tokens, tokens, enable_dropout=False))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


NETWORK = (
    "vocab_size", "emb_dim", "num_heads", "num_encoder_layers", "num_decoder_layers", "head_dim", "mlp_dim",
    "mlp_activations", "dropout_rate", "logits_via_embedding", "dtype",
)  # fmt: skip


def t5x_settings(bound):
    """What a training leaf comes to under T5X, by names of our own; `our_settings` has the same."""
    model, trainer = bound["model"], gin.get_bindings("trainer.Trainer")
    dataset, evaluation = bound["train_dataset_cfg"], bound["infer_eval_dataset_cfg"]
    checkpoints = bound["checkpoint_cfg"]
    assert bound["train_eval_dataset_cfg"].pack == dataset.pack
    hyper = model.optimizer_def.hyper_params
    return {
        "network": {name: getattr(model.module.config, name) for name in NETWORK},
        "loss": [model._z_loss, model._label_smoothing, model._loss_normalizing_factor],
        "learning rates": [float(trainer["learning_rate_fn"](step)) for step in STEPS],
        "clip norm": getattr(
            hyper, "global_norm_clip_threshold", gin.get_bindings("optimizers.adamw").get("clip_norm")
        ),
        "dataset": [dataset.mixture_or_task_name, dict(dataset.task_feature_lengths), dataset.batch_size, dataset.pack],
        "module": dataset.module,
        "use cached tasks": dataset.use_cached,
        "evaluation": [evaluation.mixture_or_task_name, evaluation.split, evaluation.batch_size],
        "evaluation examples": gin.get_bindings("seqio.Evaluator")["num_examples"],
        "periods": [bound["eval_period"], bound["eval_steps"], checkpoints.save.period, checkpoints.save.keep],
        "steps": [bound["total_steps"], bound["relative_steps"], trainer["num_microbatches"]],
        "from": checkpoints.restore.path,
        "seed": bound["random_seed"],
        "model parallelism": bound["partitioner"]._num_partitions,
    }


def our_settings(loaded):
    config = loaded.bindings(train.train)["config"]
    dataset, evaluation, checkpoints = config.dataset, config.evaluation, config.checkpoints
    optimization, loss = config.optimization, config.optimization.loss
    rate = loaded.build(optimizers.learning_rate)(train_steps=optimization.train_steps)
    return {
        "network": {name: getattr(config.model.config, name) for name in NETWORK},
        "loss": [loss.z_loss, loss.label_smoothing, loss.normalizing_factor],
        "learning rates": [float(rate(step)) for step in STEPS],
        "clip norm": loaded.bindings(getattr(optimizers, optimization.optimizer.__name__))["clip_norm"],
        "dataset": [dataset.mixture_or_task_name, dataset.task_feature_lengths, dataset.batch_size, dataset.pack],
        "module": dataset.module,
        "use cached tasks": dataset.use_cached,
        "evaluation": [evaluation.mixture_or_task_name, evaluation.seqio_split, evaluation.batch_size],
        "evaluation examples": evaluation.num_examples,
        "periods": [evaluation.period, evaluation.eval_steps, checkpoints.period, checkpoints.keep],
        "steps": [optimization.train_steps, optimization.train_steps_relative, optimization.microbatches],
        "from": config.initial_checkpoint.path,
        "seed": optimization.seed,
        "model parallelism": config.mesh.model_parallelism,
    }


@pytest.fixture(scope="module")
def leaves():
    stdout, _ = run_t5x("-c", "from tests.recipes import t5x_test; t5x_test.describe_leaves()")
    return json.loads(stdout)


@pytest.mark.parametrize("leaf", [*TRAINING, *SCORING])
def test_t5x_reads_each_leaf_with_nothing_missing_and_builds_its_model(leaves, leaf):
    kind, size = leaf.split("_")
    assert leaves[leaf]["unbound"] == []
    assert leaves[leaf]["parameters"] == PARAMETERS[size]
    assert leaves[leaf]["vocabulary"] == (COMPACT if size == "tiny" else T5_VOCAB)
    run = kind if kind in ("eval", "infer") else "pretrain" if size == "tiny" else "finetune"
    public = [name for layer in (f"models/{size}", "models/t5_1_0", f"runs/{run}", "tasks/listops")
              for name in public_macros(ROOT / "gin" / f"{layer}.gin")]  # fmt: skip
    assert set(public) <= set(leaves[leaf]["read"])  # T5X itself would not mind one that nothing reads


@pytest.mark.parametrize("leaf", TRAINING)
def test_a_leaf_means_the_same_under_both_engines(leaves, leaf):
    ours = json.loads(json.dumps(our_settings(load_leaf(leaf))))  # tuples as lists
    assert leaves[leaf]["settings"] == ours


# ---- T5X's own scripts


def script(name, leaf, data_dir, **macros):
    bindings = [f"--gin.{name}={value!r}" for name, value in macros.items()]
    path = Path(T5X.submodule_search_locations[0]) / f"{name}.py"
    return run_t5x(path, f"--gin_file=gin/{leaf}.gin", f"--tfds_data_dir={data_dir}", *bindings)


@pytest.fixture(scope="module")
def run(tiny_data_dir, tmp_path_factory):
    """MODEL_DIR after four updates, of which T5X did the last two in a second process; and that one's log."""
    folder = tmp_path_factory.mktemp("t5x") / "run"
    for steps in (2, 4):
        _, log = script("train", "medium_tiny", tiny_data_dir, MODEL_DIR=str(folder), TRAIN_STEPS=steps, **TINY_RUN)
    return folder, log


def metrics(folder, task=VALIDATION):
    return [json.loads(line) for line in (folder / "inference_eval" / f"{task}-metrics.jsonl").read_text().splitlines()]


def test_t5x_trains_evaluates_saves_and_resumes(run):
    folder, log = run
    assert [(row["step"], row["n"]) for row in metrics(folder)] == [(2, 8), (4, 8)]
    assert (folder / "inference_eval" / f"{VALIDATION}-000004.jsonl").is_file()
    assert "Starting main loop over steps 2-4" in log
    assert [path.name for path in folder.glob("checkpoint_*")] == ["checkpoint_4"]


def test_t5x_trains_on_imported_questions(tmp_path):
    import_homes(tmp_path, tmp_path / "datasets")
    macros = {
        "MODEL_DIR": str(tmp_path / "run"), "DATASET": "homes", "VOCABULARY_FILE": None, "TRAIN_STEPS": 2,
        "TASK_FEATURE_LENGTHS": {"inputs": 128, "targets": 96},
    }  # fmt: skip
    script("train", "questions_tiny", tmp_path / "datasets", **macros, **TINY_RUN)
    task = "explained_homes_explain_answer_eval_validation"
    assert [(row["step"], row["n"], row["chance"]) for row in metrics(tmp_path / "run", task)] == [(2, 8, 0.25)]


@pytest.mark.parametrize("form", ["mt_ra", "mt_cot"])
def test_t5x_trains_a_multitask_form(tiny_data_dir, tmp_path, form):
    macros = {
        "MODEL_DIR": str(tmp_path / "run"), "FORM": form, "TRAIN_STEPS": 2,
        "TASK_FEATURE_LENGTHS": {"inputs": 128, "targets": 128},
    }  # fmt: skip
    script("train", "multitask_tiny", tiny_data_dir, **macros, **TINY_RUN)
    [row] = metrics(tmp_path / "run", f"explained_tiny_medium_{form}_eval_validation_compact")
    assert (row["step"], row["n"]) == (2, 8)


@pytest.mark.parametrize(
    "settings", [{}, {"DEMONSTRATIONS": "sampled", "DEMONSTRATIONS_SEED": 5, "TEMPLATE": "reworded"}]
)
def test_t5x_trains_with_demonstrations_and_evaluates_the_same_inputs(tiny_data_dir, tmp_path, settings):
    macros = {
        "MODEL_DIR": str(tmp_path / "run"), "FORM": "short", "SHOTS": 3, "TRAIN_STEPS": 2, **settings,
        "TASK_FEATURE_LENGTHS": {"inputs": 384, "targets": 128},
    }  # fmt: skip
    script("train", "few_shot_tiny", tiny_data_dir, **macros, **TINY_RUN)
    words = "_reworded_sampled_5" if settings else ""
    task = f"explained_tiny_short_3_shot{words}_eval_validation_compact"
    [row] = metrics(tmp_path / "run", task)
    assert (row["step"], row["n"]) == (2, 8)
    cache = token_cache.load(task, "validation", "tasks.few_shot", tiny_data_dir)
    ours = [record["inputs_pretokenized"] for record in cache.records[:8]]
    lines = (tmp_path / "run" / "inference_eval" / f"{task}-000002.jsonl").read_text().splitlines()
    assert [json.loads(line)["input"]["inputs_pretokenized"] for line in lines] == ours


def test_t5x_trains_a_verifier_with_cross_entropy(tmp_path):
    files = {
        split: [write_sample_rows(tmp_path / f"{split}.jsonl", [sampled_row(i) for i in of_split])]
        for split, of_split in (("train", range(16)), ("validation", range(20, 24)))
    }
    make_dataset(SamplesDataset("tiny", ["verifier"], files, Selection("{question} {solution}", 4, 0)), tmp_path)
    macros = {
        "MODEL_DIR": str(tmp_path / "run"), "DATASET": "tiny", "TRAIN_STEPS": 2,
        "TASK_FEATURE_LENGTHS": {"inputs": 128, "targets": 16},
    }  # fmt: skip
    script("train", "verifier_tiny", tmp_path, **macros, **TINY_RUN)
    task = "explained_tiny_verifier_eval_validation_compact"
    found = metrics(tmp_path / "run", task)
    assert [(row["step"], row["n"], row["label_correct"], row["chance"]) for row in found] == [(2, 8, 0.5, 0.5)]


def test_t5x_scores_a_checkpoint(run, tiny_data_dir, tmp_path):
    folder, _ = run
    given = {"CHECKPOINT_PATH": str(folder / "checkpoint_4"), "EVAL_OUTPUT_DIR": str(tmp_path)}
    script("eval", "eval_tiny", tiny_data_dir, **given, EVALUATOR_NUM_EXAMPLES=8, BATCH_SIZE=8)
    assert metrics(tmp_path) == metrics(folder)[-1:]  # the same examples, the same decoding
    scored = {path.name.split("_")[4] for path in (tmp_path / "inference_eval").glob("*-metrics.jsonl")}
    assert scored == {"validation", "test", "longer", "larger"}


def test_t5x_writes_predictions_of_a_checkpoint(run, tiny_data_dir, tmp_path):
    folder, _ = run
    given = {"CHECKPOINT_PATH": str(folder / "checkpoint_4"), "INFER_OUTPUT_DIR": str(tmp_path)}
    lengths = {"inputs": 34, "targets": 64}
    script("infer", "infer_tiny", tiny_data_dir, **given, TASK_FEATURE_LENGTHS=lengths)
    (written,) = tmp_path.glob("explained_tiny_medium_eval_test_compact-predict.jsonl-*-of-00001")
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert len(rows) == 40
    assert all(row["prediction"] and row["inputs"]["inputs_pretokenized"].startswith("[") for row in rows)


def test_the_report_reads_a_run_of_t5x(run, tmp_path, capsys):
    folder, _ = run
    report.write_report([folder], tmp_path)
    assert VALIDATION in capsys.readouterr().out
    assert (tmp_path / "accuracy.png").stat().st_size > 0


READ_LIKE_TRAIN_PY = """
import importlib, sys
import gin
from t5x import train
import __main__
sys.path.insert(0, {folder!r})  # as Python does for a script there
__main__.train = train.train
gin.add_config_file_search_path({parent!r})
gin.parse_config_files_and_bindings([{block!r}], ["MODEL_DIR='x'", "DROPOUT_RATE=0.1"])
module = gin.query_parameter("MIXTURE_OR_TASK_MODULE/gin.macro.value")
print(importlib.import_module(module).__file__)
"""


def test_gin_file_of_the_guide_finds_the_tasks(tmp_path):
    block = re.search(r"```gin\n(.*?)```", (ROOT / "docs" / "guides" / "own-task.md").read_text(), re.DOTALL)
    (tmp_path / "own.gin").write_text(block[1])
    folder = T5X.submodule_search_locations[0]
    paths = {"folder": folder, "parent": str(Path(folder).parent), "block": str(tmp_path / "own.gin")}
    printed, _ = run_t5x("-c", READ_LIKE_TRAIN_PY.format(**paths))
    assert printed.strip() == str(ROOT / "tasks" / "__init__.py")
