"""Inference's edges; its way through a real run is in main_test."""

import dataclasses
import json

import pytest

from explainft import listops
from explainft.checkpoints.progress import Progress
from explainft.core.errors import UserError
from explainft.evaluation import infer
from explainft.evaluation.infer import Prediction
from tests.helpers.run_directories import shipped


def prediction(expression, explanation):
    tree = listops.parse(expression)
    return Prediction(expression, explanation, listops.check(explanation, tree, "medium"))


def test_text_shows_the_explanation_and_what_is_wrong_with_it():
    right = prediction("[SUM 7 5 ]", "SUM, add [7, 5], sum is 12, answer is 2\nFinal answer: 2")
    assert right.text() == (
        "[SUM 7 5 ]\n  SUM, add [7, 5], sum is 12, answer is 2\n  Final answer: 2\n"
        "answer: 2 (correct; 1 of 1 steps correct)"
    )
    wrong = prediction("[SUM 7 5 ]", "SUM, add [7, 5], sum is 13, answer is 3\nFinal answer: 3")
    assert wrong.text().endswith("answer: 3 (wrong, it is 2; 0 of 1 steps correct, first wrong step 1)")
    assert "answer: none (wrong, it is 2;" in prediction("[SUM 7 5 ]", "SUM SUM").text()


def test_json():
    found = prediction("[SUM 7 5 ]", "SUM, add [7, 5], sum is 12, answer is 2\nFinal answer: 2").json()
    assert json.loads(json.dumps(found)) == {
        "expression": "[SUM 7 5 ]",
        "answer": 2,
        "explanation": "SUM, add [7, 5], sum is 12, answer is 2\nFinal answer: 2",
        "check": {"answer_correct": True, "steps_total": 1, "steps_correct": 1, "first_wrong_step": None},
    }


@pytest.mark.parametrize(
    ("task", "config"),
    [
        ("explained_listops30_medium", "listops30"),
        ("explained_listops30_50_100_long_compact", "listops30_50_100"),
        ("explained_tiny_none_compact", "tiny"),
        ("somebody_elses_task", None),
    ],
)
def test_the_problem_of_a_task(task, config):
    found = infer._config(task)
    assert (found.name if found else None) == config


def test_the_shipped_model_is_small_enough_to_ship():
    sizes = [path.stat().st_size for path in infer.PRETRAINED.rglob("*") if path.is_file()]
    assert 0 < sum(sizes) <= 3_000_000


def test_the_shipped_model_solves_unseen_expressions():
    from explainft.listops.configs import CONFIGS, candidates, digest, split_of

    trees = [tree for chunk in range(20) for tree in candidates(CONFIGS["tiny"], "train", chunk)]
    texts = [listops.format(tree) for tree in trees]
    unseen = [text for text in texts if split_of("train", digest(text)) == "test"]
    predictions = infer.infer(infer.PRETRAINED, unseen)
    assert len(unseen) > 20
    assert sum(p.check.valid for p in predictions) / len(predictions) > 0.85


def test_the_control_is_checked_by_its_answer(tmp_path):
    run = shipped(tmp_path / "run", explanation={"style": "shuffled", "modulus": 10})
    [answered] = infer.infer(run, ["[MAX 2 9 ]"])
    assert answered.check.answer_correct and answered.check.steps_total == 0


def test_a_long_expression_is_answered_with_a_note(capsys):
    [answered] = infer.infer(infer.PRETRAINED, ["[MAX " + "1 " * 40 + "]"])
    assert answered.check.steps_total == 1
    assert "trained on at most 25: expect mistakes" in capsys.readouterr().err


def test_a_function_that_cannot_be_imported_is_named(tmp_path):
    run = shipped(tmp_path / "run", next_input={"name": "not_here:follow", "kwargs": {}, "max_rounds": 9})
    with pytest.raises(UserError, match="the task needs follow of not_here .*; run where that module can be imported"):
        infer.infer(run, ["[MAX 2 9 ]"])


def test_the_best_of_a_run_that_was_never_evaluated(tmp_path):
    run = shipped(tmp_path / "run", progress=dataclasses.asdict(Progress()))
    with pytest.raises(UserError, match="was never evaluated, so none of its checkpoints is the best"):
        infer.infer(run, ["[MAX 2 9 ]"], step="best")
