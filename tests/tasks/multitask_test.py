"""The rows of the multi-task forms, as SeqIO reads them, and their loss weights."""

import collections
import functools

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from explainft.data import multitask, token_cache
from explainft.data.batches import Batches
from explainft.data.multitask import FORMS, SHUFFLED
from explainft.data.questions.importing import Import, import_questions
from explainft.data.target_parts import ANSWER, CONTEXT, EXPLANATION
from explainft.evaluation.metrics import score
from tasks import multitask as listops_tasks
from tasks import multitask_forms, questions
from tasks.vocabularies import COMPACT_VOCABULARY, ReplacingT5Vocabulary, T5Vocabulary
from tests.helpers.questions import import_homes, rows, write_jsonl
from tests.helpers.vocabularies import write_t5_characters


@pytest.fixture
def listops(tiny_data_dir, registries, seqio_unchanged):
    """The directory of ListOps."""
    listops_tasks.register_datasets()
    seqio.set_tfds_data_dir_override(tiny_data_dir)
    return tiny_data_dir


@pytest.fixture
def homes(tmp_path, registries, seqio_unchanged, monkeypatch):
    """Questions with explanations, of which every fifth has none."""
    monkeypatch.setattr(questions, "T5_QUESTIONS", COMPACT_VOCABULARY)
    made = [{**row, "id": str(i), **({} if i % 5 else {"explanation": ""})} for i, row in enumerate(rows(20))]
    import_questions(Import("some", "choice", {"train": write_jsonl(tmp_path / "some.jsonl", made)}), tmp_path)
    seqio.set_tfds_data_dir_override(str(tmp_path))
    questions.register_datasets()
    return made[:19]  # the last one is held out


def examples(task, split="validation"):
    dataset = seqio.get_mixture_or_task(task).get_dataset(sequence_length=None, split=split, shuffle=False)
    return list(tfds.as_numpy(dataset))


def text(example, name="targets_pretokenized"):
    return example[name].decode()


def test_names(tmp_path, homes):
    found = {name for name in seqio.TaskRegistry.names() if name.startswith("explained_some_mt_cot")}
    apart = {f"explained_some_mt_cot{ending}" for ending in ("", "_answer", "_explanation", "_eval_validation")}
    apart |= {"explained_some_mt_cot_explanation_eval_validation"}
    ranked = {"explained_some_mt_cot_eval_validation_ranked"}
    assert found == apart | ranked | {name.replace("cot", "cot_shuffled") for name in apart | ranked}
    mixtures = {
        "explained_some_mt_cot_mixture": {"explained_some_mt_cot_answer", "explained_some_mt_cot_explanation"},
        "explained_some_mt_cot_eval": {name for name in apart if "_eval" in name},
        "explained_some_single_eval": {"explained_some_single_eval_validation"},
    }
    for mixture, tasks in mixtures.items():
        assert {task.name for task in seqio.MixtureRegistry.get(mixture).tasks} == tasks


@pytest.mark.parametrize("form", ["mt_re", "mt_cot", "mt_ra_shuffled"])
def test_rows_of_a_question_are_next_to_each_other(homes, form):
    found = examples(f"explained_some_{form}", "train")
    base = form.removesuffix(SHUFFLED)
    expected = [
        (row, task) for row in homes for task in ("explanation", "answer") if task == "answer" or row["explanation"]
    ]
    assert len(found) == len(expected) < 2 * len(homes)
    for example, (row, task) in zip(found, expected, strict=True):
        assert text(example, "inputs_pretokenized").startswith(row["question"])
        assert text(example, "inputs_pretokenized").endswith(FORMS[form][task].prompt)
        gold = multitask.target_text(base, task, row["answer"], row["explanation"])
        if form == base:
            assert text(example) == gold
        else:
            assert collections.Counter(text(example).split()) == collections.Counter(gold.split())
    apart = {task: examples(f"explained_some_{form}_{task}", "train") for task in ("explanation", "answer")}
    assert [text(e) for e in apart["answer"]] == [row["answer"] for row in homes]
    assert [text(e) for e in apart["explanation"]] == [text(e) for e in found if e["task"] == b"explanation"]
    mixture = seqio.MixtureRegistry.get(f"explained_some_{form}_mixture")
    mixed = mixture.get_dataset(sequence_length=None, split="train", shuffle=False, num_epochs=1)
    assert set(mixed.element_spec) >= {"inputs", "targets"}


def test_single_has_the_answers_alone(homes):
    assert [text(example) for example in examples("explained_some_single", "train")] == [row["answer"] for row in homes]


def test_words_are_permuted_by_the_id_alone():
    words = tf.constant("one two three four five six seven\neight")
    first, again, other = (multitask_forms.permute_words(words, seed).numpy().decode() for seed in ("a", "a", "b"))
    assert first == again != other and sorted(first.split()) == sorted(words.numpy().decode().split())
    assert multitask_forms.permute_words(tf.constant(""), "a").numpy() == b""


@pytest.mark.parametrize(
    ("form", "style"), [("single", "medium"), ("mt_re", "short"), ("mt_ra", "medium"), ("mt_cot", "long")]
)
def test_perfect_and_wrong_predictors_of_listops(listops, form, style):
    prefix = multitask.training_task("tiny", style, form, "compact").removesuffix("_compact")
    tasks = {"answer": f"{prefix}_eval_test_compact", "explanation": f"{prefix}_explanation_eval_test_compact"}
    for part in FORMS[form]:
        task = seqio.TaskRegistry.get(tasks[part])
        found = examples(task.name, "test")
        targets = [task.postprocess_fn(text(e), example=e, is_target=True) for e in found]
        perfect = score(targets, list(map(text, found)))
        assert perfect["n"] == 40 and perfect["exact_match"] == perfect["parseable"] == 1.0
        assert perfect.get("valid") == (1.0 if part == "explanation" else None)
        wrong = score(targets, ["7 7" for _ in found])
        assert wrong["exact_match"] == wrong["parseable"] == 0.0 and not wrong.get("valid")


@pytest.mark.parametrize(("form", "alpha"), [("mt_re", 0.5), ("mt_ra", 0.9), ("mt_cot", 0.3)])
def test_weights_of_a_pair_sum_to_alpha_and_the_rest(listops, form, alpha):
    cache = token_cache.load(f"explained_tiny_medium_{form}_compact", "validation", "tasks.multitask", listops)
    assert len(cache) == 80
    lengths = {"inputs": cache.lengths()["inputs"], "targets": cache.lengths()["targets"]}
    batches = Batches(cache, lengths, 80, 0, packed=False, alpha=alpha)
    batch = batches.ordered(0)
    weights = batch["decoder_loss_weights"].sum(axis=1)
    np.testing.assert_allclose(weights.reshape(40, 2), np.tile([1 - alpha, alpha], (40, 1)), rtol=1e-5)
    packed = Batches(cache, {"inputs": 256, "targets": 256}, 8, 0, packed=True, alpha=alpha)
    rows_of_all = [packed.ordered(i)["decoder_loss_weights"] for i in range(packed.epoch_batches())]
    assert sum(float(w.sum()) for w in rows_of_all) == pytest.approx(40, rel=1e-5)
    # The context words, wherever they stand, and nothing else of a target, carry no loss.
    context = multitask.context(form, "explanation")
    words = "" if context is None else context.start + context.following
    no_loss = (batch["decoder_loss_weights"] == 0) & (batch["decoder_target_tokens"] > 0)
    for row in range(0, 40, 2):
        found = cache.vocabulary.decode(batch["decoder_target_tokens"][row][no_loss[row]].tolist())
        assert found == words and not no_loss[row + 1].any()


def vocabularies(directory):
    path = str(write_t5_characters(directory / "t5.model"))
    return [COMPACT_VOCABULARY, T5Vocabulary(path), ReplacingT5Vocabulary(path)]


@pytest.mark.parametrize("form", ["mt_re", "mt_ra", "mt_cot"])
def test_tokens_are_those_of_the_whole_target(tmp_path, form):
    made = {
        "id": ["a", "b"], "question": ["Why?", "{x}\n<y>"], "answer": ["so", "x < {3}."],
        "explanation": ["Since it is so.", "As  1 < 2,\nit {is}: a \\frac12 of `it`"], "fields": ["{}"] * 2,
        "choices": tf.ragged.constant([["so", "no"], []], dtype=tf.string),
    }  # fmt: skip
    for vocabulary in vocabularies(tmp_path):
        dataset = tf.data.Dataset.from_tensor_slices(made).map(lambda e: {**e, "choices": e["choices"]})
        make_rows = functools.partial(multitask_forms.question_rows, form=form, tasks=("explanation", "answer"))
        features = {name: seqio.Feature(vocabulary) for name in ("inputs", "targets")}
        found = list(tfds.as_numpy(multitask_forms.tokenize_parts(make_rows(dataset), features)))
        assert len(found) == 4
        for example in found:
            assert example["targets"].tolist() == vocabulary.encode(text(example))
            assert len(example["target_parts"]) == len(example["targets"])
            of_context = [
                t for t, p in zip(example["targets"].tolist(), example["target_parts"], strict=True) if p == CONTEXT
            ]
            context = multitask.context(form, example["task"].decode())
            words = [] if context is None else (context.start + context.following).split()
            assert vocabulary.decode(of_context).split() == words
            part = ANSWER if example["task"] == b"answer" else EXPLANATION
            assert set(example["target_parts"]) <= {CONTEXT, part}


def test_examples_without_explanation_are_counted(homes, tmp_path, monkeypatch):
    cache = token_cache.load("explained_some_mt_re", "train", "tasks.questions", str(tmp_path))
    assert cache.unexplained() == "4 of 19 examples of train have no explanation: they train the answer alone"
    import_homes(tmp_path, tmp_path)
    whole = token_cache.load("explained_homes_mt_re", "train", "tasks.questions", str(tmp_path))
    assert whole.unexplained() is None
