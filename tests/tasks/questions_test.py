"""The tasks of imported questions, as SeqIO reads them."""

import json

import pytest
import seqio
import tensorflow_datasets as tfds

from explainft.core.errors import UserError
from explainft.data import tokenize
from explainft.data.questions import forms
from explainft.data.questions.importing import Import, import_questions
from explainft.evaluation.metrics import score
from tasks import questions
from tasks.vocabularies import COMPACT_VOCABULARY
from tests.helpers.questions import import_homes, rows, write_jsonl


@pytest.fixture
def data_dir(tmp_path, registries, seqio_unchanged, monkeypatch):
    """A directory of datasets that the tasks read. The vocabulary does not matter: texts are compared."""
    monkeypatch.setattr(questions, "T5_QUESTIONS", COMPACT_VOCABULARY)
    directory = tmp_path / "datasets"
    seqio.set_tfds_data_dir_override(str(directory))
    return directory


def examples(task, split="validation"):
    dataset = seqio.get_mixture_or_task(task).get_dataset(sequence_length=None, split=split, shuffle=False)
    return list(tfds.as_numpy(dataset))


def names(dataset):
    return {name for name in seqio.TaskRegistry.names() if name.startswith(f"explained_{dataset}_")}


def import_file(directory, data_dir, name, rows, problem="text", split="train", **settings):
    file = write_jsonl(directory / f"{name}.jsonl", rows)
    import_questions(Import(name=name, problem=problem, files={split: file}, **settings), data_dir)
    questions.register_datasets()


def test_names(tmp_path, data_dir):
    import_homes(tmp_path, data_dir)
    questions.register_datasets()
    variants = [f"explained_homes_{form}" for form in forms.FORMS]
    endings = ("", "_eval_validation", "_eval_test")
    ranked = {f"explained_homes_answer{ending}_ranked" for ending in endings[1:]}
    # tests/tasks/multitask_test.py has the names of the multi-task forms.
    found = {name for name in names("homes") if not name.startswith(("explained_homes_mt_", "explained_homes_single"))}
    assert found == {f"{variant}{ending}" for variant in variants for ending in endings} | ranked
    mixture = seqio.MixtureRegistry.get("explained_homes_answer_eval")
    assert {task.name for task in mixture.tasks} == {f"explained_homes_answer{ending}" for ending in endings[1:]}


@pytest.mark.parametrize("form", forms.FORMS)
def test_texts_are_those_of_the_forms(tmp_path, data_dir, form):
    import_homes(tmp_path, data_dir)
    bare = [{"question": "Why?", "answer": "so"}, {"question": "Who?\nYou?", "answer": "me", "explanation": "I.\n\nMe"}]
    import_file(tmp_path, data_dir, "bare", bare)
    many = [{"question": "Which?", "choices": [f"n{i}" for i in range(30)], "answer": "n28", "explanation": "x"}]
    import_file(tmp_path, data_dir, "many", many, problem="choice")
    for name, given in (("homes", rows(60)), ("bare", bare), ("many", many)):
        split = "train[:100%]"
        source = questions.QuestionsSource(name, {"all": split})
        task = seqio.TaskRegistry.get(f"explained_{name}_{form}").replace(name="whole", source=source)
        found = list(tfds.as_numpy(task.get_dataset(sequence_length=None, split="all", shuffle=False)))
        assert len(found) == len(given)
        for example, row in zip(found, given, strict=True):
            inputs = forms.input_text(row["question"], row.get("choices", ()))
            targets = forms.target_text(form, row["answer"], row.get("explanation", ""))
            assert example["inputs_pretokenized"].decode() == inputs
            assert example["targets_pretokenized"].decode() == targets


@pytest.mark.parametrize("form", forms.FORMS)
def test_a_perfect_and_a_wrong_predictor(tmp_path, data_dir, form):
    import_homes(tmp_path, data_dir)
    questions.register_datasets()
    task = seqio.get_mixture_or_task(f"explained_homes_{form}_eval_test")
    found = examples(task.name, "test")
    gold = [example["targets_pretokenized"].decode() for example in found]
    targets = [task.postprocess_fn(text, example=example, is_target=True) for text, example in zip(gold, found)]  # noqa: B905
    assert targets == json.loads(json.dumps(targets))
    assert targets[3]["example"]["level"] == 3
    perfect = score(targets, [task.postprocess_fn(text, example=None, is_target=False) for text in gold])
    assert perfect["exact_match"] == perfect["parseable"] == 1.0
    assert perfect["chance"] == 0.25 and perfect["n/choices/4"] == 8 and "valid" not in perfect
    shifted = score(targets, ["The answer is the moon" for _ in gold])
    assert shifted["exact_match"] == shifted["parseable"] == 0.0


def test_without_a_validation_split_the_last_twentieth_of_train_is_held_out(tmp_path, data_dir):
    import_file(tmp_path, data_dir, "single", rows(40), problem="choice")
    train, held_out = (examples("explained_single_answer", split) for split in ("train", "validation"))
    assert [len(train), len(held_out)] == [38, 2]
    assert not {e["question"] for e in train} & {e["question"] for e in held_out}
    assert [e["id"] for e in examples("explained_single_answer_eval_validation")] == [e["id"] for e in held_out]


def test_a_dataset_without_explanations_has_answers_alone(tmp_path, data_dir):
    import_file(tmp_path, data_dir, "plain", [{"question": "Why?", "answer": "so"}] * 1, split="test")
    assert names("plain") == {"explained_plain_answer_eval_test"}


def test_a_dataset_without_answers_has_no_tasks(tmp_path, data_dir):
    import_file(tmp_path, data_dir, "open", [{"question": "Why?"}], split="test", answered=False)
    assert names("open") == set()


@pytest.mark.parametrize(("n", "train", "held_out"), [(1, 1, 1), (2, 1, 1), (10, 9, 1), (19, 18, 1), (20, 19, 1)])
def test_of_few_rows_one_is_held_out(tmp_path, data_dir, n, train, held_out):
    import_file(tmp_path, data_dir, f"few_{n}", rows(n), problem="choice")
    found = [len(examples(f"explained_few_{n}_answer", split)) for split in ("train", "validation")]
    assert found == [train, held_out]


def test_a_missing_task_is_explained(tmp_path, data_dir):
    import_file(tmp_path, data_dir, "plain", [{"question": "Why?", "answer": "so"}], split="test")
    import_file(tmp_path, data_dir, "open", [{"question": "Why?"}], split="test", answered=False)
    for name, why in {
        "explained_plain_explain_answer": "'plain' has no explanations",
        "explained_plain_answer": "'plain' has no split train, only test",
        "explained_open_answer": "'open' was imported with --unanswered",
        "explained_none_answer": f"datasets in {data_dir}: open, plain; import",
    }.items():
        with pytest.raises(UserError, match=why):
            tokenize.get_task_or_mixture(name, "tasks.questions", str(data_dir))
