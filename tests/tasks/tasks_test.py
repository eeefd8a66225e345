"""The registered tasks, on a small build of the config tiny in two files."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

import tasks
from explainft import listops
from explainft.core.errors import UserError
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.dataset import ExplainedListops
from tasks import preprocessors
from tasks.vocabularies import T5Vocabulary

CONFIGS = ("listops10", "listops30", "modsum30", "listops30_50_100", "tiny", "modsum_tiny", "tiny_25_96", "tiny_gaps")
STYLES = ("none", "short", "medium", "long", "shuffled")
EVAL_SPLITS = ("validation", "test", "longer", "larger_numbers")
N_TRAIN, N_EVAL = 300, 40


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """The folder of the build, which every task reads."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExplainedListops.builder_configs["tiny"], "train_examples", N_TRAIN)
        patch.setattr(ExplainedListops.builder_configs["tiny"], "eval_examples", N_EVAL)
        builder = ExplainedListops(config="tiny", data_dir=folder)
        builder.processes = 1
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=2))
    point_tasks_to(folder)
    yield folder
    point_tasks_to(None)


def point_tasks_to(folder):
    for task in all_tasks():
        task.source.tfds_dataset.override_data_dir(folder)


def all_tasks():
    return [seqio.TaskRegistry.get(name) for name in seqio.TaskRegistry.names() if name.startswith("explained_")]


def examples(task, split, **options):
    dataset = seqio.get_mixture_or_task(task).get_dataset(split=split, shuffle=False, **options)
    return list(tfds.as_numpy(dataset))


FRESH_PROCESS = """
import importlib, json, socket

def refuse(*args): raise AssertionError(f"network: {args}")
socket.socket.connect = socket.getaddrinfo = refuse

import tasks
importlib.reload(tasks)

import seqio
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
print(json.dumps([sorted(seqio.TaskRegistry.names()), sorted(seqio.MixtureRegistry.names())]))

from explainft.core.errors import UserError
task = seqio.get_mixture_or_task("explained_tiny_medium")
for data_dir in (None, %r):
    task.source.tfds_dataset.override_data_dir(data_dir)
    try: task.get_dataset(split="train")
    except UserError as error: print(error)
"""


def test_mixture_of_splits():
    mixture = seqio.MixtureRegistry.get("explained_tiny_long_eval_compact")
    assert {task.name for task in mixture.tasks} == {f"explained_tiny_long_eval_{s}_compact" for s in EVAL_SPLITS}


def test_import_registers_and_opens_nothing(data_dir, tmp_path):
    """No network, no JAX device, no dataset, no vocabulary; each is missed with one line, and only when it is used.

    In a process of its own, where no other test has registered tasks.
    """
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "TFDS_DATA_DIR": str(tmp_path / "nothing_here"),
        "EXPLAINFT_T5_VOCAB": "/nowhere/t5.model",
        "PYTHONPATH": str(Path(tasks.__file__).parents[1]),
    }
    command = [sys.executable, "-c", FRESH_PROCESS % data_dir]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    registered, unbuilt, unreadable = run.stdout.splitlines()
    pairs = list(itertools.product(CONFIGS, STYLES, ("", "_compact")))
    names = [f"explained_{config}_{style}{suffix}" for config, style, suffix in pairs]
    names += [f"explained_{c}_{style}_eval_{split}{suffix}" for c, style, suffix in pairs for split in EVAL_SPLITS]
    mixtures = [f"explained_{config}_{style}_eval{suffix}" for config, style, suffix in pairs]
    assert json.loads(registered) == [sorted(names), sorted(mixtures)]
    assert unbuilt == (
        f"explained_listops/tiny is not built in {tmp_path}/nothing_here; run: explainft data build --config tiny"
    )
    assert "/nowhere/t5.model" in unreadable and "EXPLAINFT_T5_VOCAB" in unreadable
    assert not (tmp_path / "nothing_here").exists()


def test_unbuilt_data_names_the_command_for_its_folder(data_dir, tmp_path):
    source = seqio.get_mixture_or_task("explained_modsum30_none_eval_longer_compact").source
    for use in (source.get_dataset, source.num_input_examples, source.list_shards):
        with pytest.raises(UserError, match=f"data build --config modsum30 --tfds_data_dir {data_dir}$"):
            use("test")


def test_data_built_after_it_was_missed_is_read(data_dir, tmp_path):
    source = seqio.get_mixture_or_task("explained_tiny_none_compact").source
    later = tmp_path / "later"
    source.tfds_dataset.override_data_dir(str(later))
    with pytest.raises(UserError):
        source.num_input_examples("train")
    later.symlink_to(data_dir)
    assert source.num_input_examples("train") == N_TRAIN
    source.tfds_dataset.override_data_dir(data_dir)


@pytest.mark.parametrize("style", ["none", "short", "medium", "long"])
def test_inputs_are_the_expression_and_targets_the_explanation(data_dir, style):
    vocabulary = seqio.SentencePieceVocabulary(COMPACT)
    rows = examples(f"explained_tiny_{style}_compact", "train")
    assert len(rows) == N_TRAIN
    for row in rows:
        expression = row["expression"].decode()
        tree = listops.parse(expression)
        target = listops.explain(tree, style)
        assert row["inputs_pretokenized"].decode() == expression
        assert row["targets_pretokenized"].decode() == target
        for key, text in (("inputs", expression), ("targets", target)):
            *ids, eos = row[key].tolist()
            assert (vocabulary.decode(ids), eos) == (text, vocabulary.eos_id)
        assert row["answer"] == listops.evaluate(tree)
        assert (row["length"], row["depth"]) == (listops.length(tree), listops.depth(tree))
        assert row["operators"].decode().split() == list(listops.operators(tree))


def test_shuffled_permutes_the_steps_of_medium(data_dir):
    medium = examples("explained_tiny_medium_compact", "train")
    shuffled = examples("explained_tiny_shuffled_compact", "train")
    orders = set()
    for straight, mixed in zip(medium, shuffled, strict=True):
        lines, mixed_lines = (row["targets_pretokenized"].decode().split("\n") for row in (straight, mixed))
        assert sorted(lines[:-1]) == sorted(mixed_lines[:-1])
        assert lines[-1] == mixed_lines[-1]
        if len(lines) == 4 and len(set(lines)) == 4:
            orders.add(tuple(lines.index(line) for line in mixed_lines[:-1]))
    assert orders == set(itertools.permutations(range(3)))


def test_shuffled_order_depends_on_the_expression_alone(data_dir):
    rows = examples("explained_tiny_shuffled_compact", "train")
    by_expression = {row["expression"]: row["targets_pretokenized"] for row in rows}
    dataset = seqio.get_mixture_or_task("explained_tiny_shuffled_compact").get_dataset(split="train", seed=5)
    for row in tfds.as_numpy(dataset):
        assert row["targets_pretokenized"] == by_expression[row["expression"]]
    text = "a\nb\nc\nd\ne\nFinal answer: 1"
    orders = {preprocessors.shuffle_steps(text, f"[MAX {i} 1 ]").numpy() for i in range(20)}
    assert len(orders) > 10


@pytest.mark.parametrize("split", EVAL_SPLITS)
def test_evaluation_task_holds_its_split_under_both_names(data_dir, split):
    stored = [
        row["expression"] for row in tfds.as_numpy(tfds.load("explained_listops/tiny", split=split, data_dir=data_dir))
    ]
    assert len(stored) == N_EVAL
    for name in ("validation", "test"):
        rows = examples(f"explained_tiny_short_eval_{split}_compact", name)
        assert sorted(row["expression"] for row in rows) == sorted(stored)


def test_training_task_has_splits_train_and_validation():
    assert tuple(seqio.get_mixture_or_task("explained_tiny_medium_compact").splits) == ("train", "validation")


@pytest.mark.parametrize("num_shards", [2, 3])  # as many as there are files; more than that
def test_sharded_reading_covers_every_example_once(data_dir, num_shards):
    shards = [
        examples("explained_tiny_none_compact", "train", shard_info=seqio.ShardInfo(index, num_shards))
        for index in range(num_shards)
    ]
    expressions = [row["expression"] for rows in shards for row in rows]
    assert min(map(len, shards)) > 0
    assert sorted(expressions) == sorted(row["expression"] for row in examples("explained_tiny_none_compact", "train"))


def test_t5_vocabulary_equals_that_of_t5x_and_reads_its_file():
    assert T5Vocabulary("a.model") == seqio.SentencePieceVocabulary("a.model") != T5Vocabulary("b.model")
    dataset = tf.data.Dataset.from_tensors({"inputs": "[MAX 2 9 ]"})
    features = {"inputs": seqio.Feature(T5Vocabulary(COMPACT))}
    [row] = tfds.as_numpy(preprocessors.tokenize(dataset, features))
    assert row["inputs"].tolist() == seqio.SentencePieceVocabulary(COMPACT).encode("[MAX 2 9 ]")


# ---- metrics through seqio.Evaluator ----


def evaluate(mixture, *predictors, split="validation", **options):
    """The metrics by task of each predictor, a function from (index, gold text) to text."""
    vocabulary = seqio.SentencePieceVocabulary(COMPACT)
    evaluator = seqio.Evaluator(mixture, seqio.EncDecFeatureConverter(pack=False), split, **options)
    results = []
    for predict in predictors:

        def predict_fn(dataset, model_feature_shapes=None, predict=predict):
            golds = [(i, vocabulary.decode(row["decoder_target_tokens"].tolist())) for i, row in tfds.as_numpy(dataset)]
            ids = [(int(i), [*vocabulary.encode(predict(i, gold)), vocabulary.eos_id]) for i, gold in golds]
            longest = max(len(row) for _, row in ids)
            return [(i, row + [0] * (longest - len(row))) for i, row in reversed(ids)]

        metrics, _ = evaluator.evaluate(compute_metrics=True, step=7, predict_fn=predict_fn)
        results.append(metrics.result())
    evaluator.close()
    return results


@pytest.mark.parametrize("style", STYLES)
def test_perfect_predictor_scores_1_and_the_wrong_one_0(data_dir, style):
    wrong_answer = "99" if style == "none" else "Final answer: 99"
    task = f"explained_tiny_{style}_eval_larger_numbers_compact"
    results = evaluate(task, lambda i, gold: gold, lambda i, gold: wrong_answer)
    shares = ["exact_match"] + (["valid", "step_accuracy"] if style in ("short", "medium", "long") else [])
    for by_task, expected in zip(results, (1.0, 0.0), strict=True):
        metrics = by_task[task]
        assert {name: metrics[name] for name in shares} == dict.fromkeys(shares, expected)
        assert ("valid" in metrics) == ("step_accuracy" in metrics) == (len(shares) == 3)
        assert metrics["parseable"] == 1.0
        assert metrics["n"] == N_EVAL
        groups = {name: value for name, value in metrics.items() if name.startswith("exact_match/")}
        assert set(groups.values()) == {expected}
        for kind in ("operator", "depth", "length"):
            assert sum(value for name, value in metrics.items() if name.startswith(f"n/{kind}/")) == N_EVAL


def test_hand_counted_predictor_and_its_files(data_dir, tmp_path):
    def predict(i, gold):
        *steps, final = gold.split("\n")
        kinds = (gold, final, "\n".join([*steps, "Final answer: 99"]), "")
        return kinds[i % 4]

    task = "explained_tiny_medium_eval_test_compact"
    logged = {"logger_cls": [seqio.JSONLogger], "log_dir": str(tmp_path)}
    [by_task] = evaluate("explained_tiny_medium_eval_compact", predict, split="test", **logged)
    assert set(by_task) == {f"explained_tiny_medium_eval_{split}_compact" for split in EVAL_SPLITS}
    metrics = by_task[task]
    assert metrics["exact_match"] == 0.5  # the first two kinds
    assert metrics["parseable"] == 0.75  # all but the last
    assert metrics["valid"] == 0.25  # the first kind
    steps = [len(row["operators"].split()) for row in examples(task, "test")]
    assert metrics["step_accuracy"] == (sum(steps[0::4]) + sum(steps[2::4])) / sum(steps)
    assert (metrics["exact_match_low"], metrics["exact_match_high"]) == pytest.approx((0.352, 0.648), abs=5e-4)

    [line] = (tmp_path / f"{task}-metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 7, **metrics}
    rows = [json.loads(line) for line in (tmp_path / f"{task}-000007.jsonl").read_text().splitlines()]
    assert len(rows) == N_EVAL
    first = rows[0]
    assert first["prediction"] == first["input"]["targets_pretokenized"]
    assert first["target"]["expression"] == first["input"]["expression"]
    assert first["target"]["answer"] == first["input"]["answer"]


def test_a_config_of_another_size(registries, tmp_path):
    builder = ExplainedListops(config="tiny-70", data_dir=str(tmp_path))
    builder.processes = 1
    builder.download_and_prepare()
    tasks.register("tiny-70")
    task = seqio.get_mixture_or_task("explained_tiny_70_medium_compact")
    task.source.tfds_dataset.override_data_dir(str(tmp_path))
    assert len(examples(task.name, "train")) == 70
    assert "explained_tiny_70_medium_eval_compact" in seqio.MixtureRegistry.names()
    with pytest.raises(UserError, match="unknown config 'tiny-0'"):
        tasks.register("tiny-0")
