"""The tasks of synthetic problems, as SeqIO and the token cache read them."""

import importlib

import pytest
import seqio
import tensorflow_datasets as tfds

from explainft.data import token_cache
from explainft.data.synthetic import catalog, listops_forms, rows
from explainft.evaluation.metrics import score

FEW = 12


@pytest.fixture(autouse=True)
def base(registries, monkeypatch):
    """The module, with few rows a split."""
    monkeypatch.setattr(rows, "ROWS", {"train": 2 * FEW})
    monkeypatch.setattr(rows, "EVAL_ROWS", FEW)
    listops_forms._expressions.cache_clear()
    module = importlib.import_module("tasks.base")
    module.register_datasets()
    yield module
    listops_forms._expressions.cache_clear()


def examples(task, split="validation"):
    dataset = seqio.get_mixture_or_task(task).get_dataset(sequence_length=None, split=split, shuffle=False)
    return list(tfds.as_numpy(dataset))


def test_names():
    names = seqio.TaskRegistry.names()
    for name, problem in catalog.PROBLEMS.items():
        for form in problem.forms:
            for suffix in ("", "_compact"):
                assert f"explained_{name}_{form}{suffix}" in names
                tasks = {f"explained_{name}_{form}_eval_{s}{suffix}" for s in problem.splits if s != "train"}
                assert {
                    t.name for t in seqio.MixtureRegistry.get(f"explained_{name}_{form}_eval{suffix}").tasks
                } == tasks
    mixture = {task.name for task in seqio.MixtureRegistry.get("base_compact").tasks}
    assert mixture == {f"explained_{name}_{form}_compact" for name, form in catalog.BASE}
    everything = {task.name for task in seqio.MixtureRegistry.get("explained_base_eval_compact").tasks}
    by_split = {split for name, _ in catalog.BASE for split in catalog.PROBLEMS[name].splits} - {"train"}
    parts = [seqio.MixtureRegistry.get(f"explained_base_eval_{split}_compact").tasks for split in by_split]
    assert sorted(task.name for part in parts for task in part) == sorted(everything)


@pytest.mark.parametrize("form", listops_forms.FORMS)
def test_a_perfect_predictor(form):
    task = seqio.TaskRegistry.get(f"explained_tiny_{form}_eval_longer_compact")
    found = examples(task.name)
    targets = [task.postprocess_fn("", example=example, is_target=True) for example in found]
    scores = score(targets, [example["targets_pretokenized"].decode() for example in found])
    assert scores["exact_match"] == 1.0 and scores["n"] == FEW


def test_targets_of_check_are_labels():
    cache = token_cache.load("explained_modular_check_eval_other_modulus_compact", "validation", "tasks.base")
    assert cache.labels() == [("correct", "incorrect")] * FEW and cache.left_out() == []
    assert token_cache.load("explained_modular_answer_eval_test_compact", "test", "tasks.base").labels() is None


@pytest.mark.parametrize(("ending", "forms"), [("", 9), ("_spans", 10)])
def test_the_base_trains_all_forms_and_they_fit_the_recipe(ending, forms):
    cache = token_cache.load(f"explained_base{ending}_compact", "train", "tasks.base")
    assert len(cache) == forms * 2 * FEW
    assert cache.lost() == []
    lengths = cache.lengths()
    assert lengths["inputs"] <= 192 and lengths["targets"] <= 96


def test_seqio_shuffles_and_mixes():
    mixture = seqio.MixtureRegistry.get("base_compact")
    found = mixture.get_dataset(sequence_length=None, split="train", shuffle=True, seed=0, num_epochs=1)
    vocabulary = mixture.output_features["inputs"].vocabulary
    texts = [vocabulary.decode(example["inputs"].tolist()) for example in tfds.as_numpy(found.take(60))]
    assert {"sort:", "copy:", "check", "answer"} <= {text.split()[0] for text in texts}
