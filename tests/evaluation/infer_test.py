"""Inference's edges; its way through a real run is in main_test."""

import dataclasses
import json
import re

import pytest

from explainft import listops
from explainft.checkpoints.progress import Progress
from explainft.core.errors import UserError
from explainft.evaluation import infer
from explainft.evaluation.infer import Prediction
from explainft.evaluation.inference_inputs import ListOpsReader
from explainft.generation.generator import Output
from tests.helpers.run_directories import shipped


def prediction(expression, explanation, cut=False):
    [parsed] = ListOpsReader("medium", 10, None, 64).parse([expression])
    return Prediction(parsed, Output(explanation, cut))


def test_text_and_json_count_steps_from_1():
    found = prediction("[MAX [SUM 7 5 ] 1 ]", "SUM, add [7, 5], sum is 12, answer is 2\nMax, 3\nFinal answer: 3")
    assert "first wrong step 2)" in found.text() and found.json()["check"]["first_wrong_step_number"] == 2


def test_text_shows_the_explanation_and_its_check():
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
        "check": {"answer_correct": True, "steps_total": 1, "steps_correct": 1, "first_wrong_step_number": None},
    }


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
    assert answered.correct and answered.check is None and answered.json()["check"]["steps_total"] == 0


@pytest.mark.parametrize(
    ("arguments", "found"),
    [([40], "input has 43 tokens"), ([2], "input has 5 tokens"), ([6, 2, 40], "2 of 3 .* 5 to 43")],
)
def test_lengths_not_trained_on_are_answered_with_a_note(capsys, arguments, found):
    expressions = [f"[MAX {'1 ' * n}]" for n in arguments]
    assert len(infer.infer(infer.PRETRAINED, expressions)) == len(arguments)
    [note] = capsys.readouterr().err.splitlines()
    assert re.search(rf"note: .*{found}", note) and "expect errors" in note


def test_lengths_trained_on_need_no_note(capsys):
    infer.infer(infer.PRETRAINED, [f"[MAX {'1 ' * 12}]"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("not_here", "task unregistered is registered by not_here .*; run where that module can be imported"),
        ("json", "json does not register unregistered for iterative decoding"),
    ],
)
def test_a_missing_registration_is_named(module, message, tmp_path):
    run = shipped(tmp_path / "run", next_input={"task": "unregistered", "module": module})
    with pytest.raises(UserError, match=message):
        infer.infer(run, ["[MAX 2 9 ]"])


def test_the_best_of_a_run_that_was_never_evaluated(tmp_path):
    run = shipped(tmp_path / "run", progress=dataclasses.asdict(Progress()))
    with pytest.raises(UserError, match="was never evaluated, so none of its checkpoints is the best"):
        infer.infer(run, ["[MAX 2 9 ]"], step="best")
