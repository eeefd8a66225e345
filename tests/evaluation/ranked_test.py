"""Choices ranked by likelihood: from an imported file to the files of an evaluation."""

import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf

from explainft.checkpoints import run_checkpoint
from explainft.core.jsonl import read_jsonl
from explainft.data import label_rows, token_cache, tokenize
from explainft.data.questions.importing import Import, import_questions
from explainft.model.t5 import T5
from tasks import questions
from tasks.ranked import add_ranked
from tasks.vocabularies import COMPACT_VOCABULARY
from tests.helpers.command import outcome
from tests.helpers.questions import rows, write_jsonl
from tests.helpers.run_directories import shipped

TASK = "explained_places_answer"
RANKED = f"{TASK}_eval_test_ranked"
DOUBLE = {"id": "double", "question": "Where?", "choices": ["sea", "air", "Sea"], "answer": "air"}


@pytest.fixture
def places(tmp_path, registries, seqio_unchanged, monkeypatch):
    """The directory of a dataset, and of a run of the shipped model in its vocabulary."""
    monkeypatch.setattr(questions, "T5_QUESTIONS", COMPACT_VOCABULARY)
    made = [{**row, "id": f"q{i}"} for i, row in enumerate(rows(8))]
    for row in made[::2]:  # of another number of choices
        row["choices"] = [row["answer"], *(choice for choice in row["choices"] if choice != row["answer"])][:3]
    import_file(tmp_path, "places", [*made, DOUBLE])
    shipped(tmp_path / "run", task=TASK, module="tasks.questions", evaluation=RANKED)
    return tmp_path


def import_file(directory, name, made):
    import_questions(Import(name, "choice", {"test": write_jsonl(directory / f"{name}.jsonl", made)}), directory)


def teacher_forced(run):
    """Returns a function of an input and a label: log p of the label with EOS, and its number of tokens."""
    weights = run_checkpoint.open_run(run, None)
    model, params, vocabulary = T5(weights.architecture()), weights.tree(), weights.tokenizer()
    logits_of = jax.jit(lambda *tokens: model.apply({"params": params}, *tokens))

    def score(tokens, label):
        ids = [*vocabulary.encode(label), 1]
        source, targets = np.zeros((1, 96), np.int32), np.zeros((1, 16), np.int32)
        source[0, : len(tokens)], targets[0, : len(ids)] = tokens, ids
        logits = np.asarray(logits_of(source, np.pad(targets[:, :-1], ((0, 0), (1, 0))), targets), np.float64)[0]
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return sum(log_p[i, token] for i, token in enumerate(ids)), len(ids)

    return score


def test_scores_equal_a_brute_force_sum_and_choose_the_best(places, capfd):
    run = places / "run"
    code, out, err = outcome(capfd, "eval", run, "--mixture", RANKED, "--tfds_data_dir", places)
    assert code == 0 and f"{RANKED}: 1 of 9 examples {label_rows.EQUAL} and are left out: double" in err
    lines = read_jsonl(run / "inference_eval" / f"{RANKED}-004000.jsonl", {})
    cache, score = token_cache.load(RANKED, "validation", "tasks.questions", str(places)), teacher_forced(run)
    assert len(lines) == len(cache) == 8 and {len(line["labels"]) for line in lines} == {3, 4}
    correct = {"exact_match": 0, "exact_match_normalized": 0}
    for i, line in enumerate(lines):
        assert [scored["label"] for scored in line["labels"]] == line["input"]["choices"]
        found = {choice: score(cache.inputs[i], choice) for choice in line["input"]["choices"]}
        for scored in line["labels"]:
            total, n = found[scored["label"]]
            assert scored["log_likelihood"] == pytest.approx(total, abs=1e-3) and scored["tokens"] == n
        assert line["prediction"] == max(found, key=lambda choice: found[choice][0])
        normalized = max(found, key=lambda choice: found[choice][0] / found[choice][1])
        correct["exact_match"] += line["prediction"] == line["input"]["answer"]
        correct["exact_match_normalized"] += normalized == line["input"]["answer"]
    [metrics] = read_jsonl(run / "inference_eval" / f"{RANKED}-metrics.jsonl", {})
    assert {name: metrics[name] for name in correct} == {name: n / 8 for name, n in correct.items()}
    assert metrics["left_out"] == 1 and metrics["n"] == 8 and metrics["parseable"] == 1.0
    assert 0 < metrics["gold_probability"] < 1 and metrics["gold_log_likelihood"] < 0
    assert "exact_match_normalized" in out


def test_yes_and_no_are_ranked_for_a_question_without_choices(places):
    import_file(places, "even", [{"question": f"Is {i} even?", "answer": i % 2 == 0} for i in range(4)])
    task = "explained_even_answer_eval_test"
    cache, plain = (
        token_cache.load(name, "validation", "tasks.questions", str(places)) for name in (f"{task}_ranked", task)
    )
    assert cache.labels() == [("yes", "no")] * 4 and cache.left_out() == []
    assert plain.labels() is None


def test_a_task_of_other_inputs_is_ranked_too(places):
    """As few-shot tasks are: demonstrations before the question, and the same targets."""
    task = f"{TASK}_2_shot_eval_test"
    tokenize.get_task_or_mixture(RANKED, "tasks.questions", str(places))  # registers those of the dataset
    plain = seqio.TaskRegistry.get(f"{TASK}_eval_test")
    question, *following = plain.preprocessors
    seqio.TaskRegistry.add_provider(task, plain.replace(name=task, preprocessors=[question, demonstrate, *following]))
    add_ranked(task)
    few_shot, ranked = (
        token_cache.load(name, "validation", "tasks.questions", str(places)) for name in (f"{task}_ranked", RANKED)
    )
    assert few_shot.labels() == ranked.labels() and few_shot.num_left_out() == 1
    for i, record in enumerate(few_shot.records):
        assert record["inputs_pretokenized"].startswith("Where?\nair\n\n")
        assert few_shot.targets[i].tolist() == ranked.targets[i].tolist()


def demonstrate(dataset):
    return dataset.map(lambda row: {**row, "inputs": tf.strings.join(["Where?\nair\n\n", row["inputs"]])})


def test_labels_that_are_equal_are_refused_in_one_line(places, tmp_path, capfd):
    given = (
        "score",
        places / "run",
        places / "places.jsonl",
        "--output",
        tmp_path / "scored.jsonl",
        "--labels",
        "sea,Sea",
    )
    code, _, err = outcome(capfd, *given)
    assert code == 2 and err.strip().split("\n")[-1] == (
        "explainft: error: labels 'sea' and 'Sea' are equal after normalization; remove one"
    )
