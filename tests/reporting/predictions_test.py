"""Predictions that are read from run directories."""

import pytest

from explainft.core.errors import UserError
from explainft.evaluation.targets import read_target
from explainft.reporting.predictions import read_predictions
from explainft.reporting.runs import read_run
from tests.helpers.question_runs import HOMES_OUTPUTS, OWL, question_prediction, write_questions
from tests.helpers.run_directories import TEST, VALIDATION, prediction, write_lines, write_two_configs


def test_the_last_predictions_of_each_task(medium):
    folder = medium / "inference_eval"
    rows = [prediction("[MIN 4 7 ]", 4, "4"), prediction("[MAX 4 7 ]", 7, "7")]
    write_lines(folder / f"{TEST}-000900.jsonl", rows[:1])
    write_lines(folder / f"{TEST}-1000000.jsonl", rows)
    write_lines(folder / f"{VALIDATION}--00001.jsonl", rows[1:])  # SeqIO's name of a step that it was not told
    found = {predictions.task: predictions for predictions in read_predictions(read_run(medium))}
    assert found.keys() == {TEST, VALIDATION}
    assert (found[TEST].step, found[TEST].texts) == (1000000, ["4", "7"])
    assert (found[TEST].label, found[TEST].split) == ("medium", "test")
    assert found[TEST].targets == [read_target(row["target"]) for row in rows]
    assert (found[VALIDATION].step, found[VALIDATION].texts) == (-1, ["7"])


def test_predictions_come_row_by_row_in_the_order_of_the_splits(tmp_path):
    found = read_predictions(read_run(write_two_configs(tmp_path)))
    assert [(predictions.label, predictions.split) for predictions in found] == [
        ("medium", "test"),
        ("medium", "larger numbers"),
        ("medium", "tiny_25_96 validation"),
        ("medium", "tiny_25_96 test"),
        ("medium", "tiny_25_96 larger numbers"),
        ("medium explained_tiny_without_sum", "test"),
    ]


def test_predictions_of_an_unknown_problem_are_left_out(t5x):
    folder = t5x / "inference_eval"
    row = prediction("[MIN 4 7 ]", 4, "4")
    write_lines(folder / "squad-000100.jsonl", [{"input": {}, "target": {"answers": ["a"]}, "prediction": "a"}])
    write_lines(folder / "rank-000100.jsonl", [row | {"prediction": 0.5}, {"input": {}}])
    write_lines(folder / "algebra-000100.jsonl", [prediction("(x + 1)", 4, "4")])
    assert read_predictions(read_run(t5x)) == []
    write_lines(folder / "mixed-000100.jsonl", [{"input": {}, "target": "4", "prediction": "4"}, row])
    [found] = read_predictions(read_run(t5x))
    assert (found.task, found.texts) == ("mixed", ["4"])


def test_corrupt_line_of_predictions_is_named(t5x):
    file = t5x / "inference_eval/a-000100.jsonl"
    whole = '{"input": {}}'
    file.write_text(f"{whole}\n[]\n{whole}\n")
    with pytest.raises(UserError, match='line 2 is corrupt; expected a JSON object with "input"') as error:
        read_predictions(read_run(t5x))
    assert str(file) in str(error.value)
    file.write_text(f"{whole}\n{whole[:5]}")  # cut off by a kill
    assert read_predictions(read_run(t5x)) == []


def test_predictions_of_imported_questions(tmp_path):
    found = read_predictions(read_run(write_questions(tmp_path, "homes")))
    assert [(predictions.label, predictions.split) for predictions in found] == [
        ("homes", "validation"),
        ("homes", "test"),
    ]
    assert [verdict.kind for verdict in found[1].verdicts] == [kind for kind, _, _ in HOMES_OUTPUTS]
    assert found[1].cut == [False, False, False, False, True]


def test_problems_may_be_mixed_and_bad_choices_are_left_out(t5x):
    rows = [question_prediction(OWL, "choice", ("a tree", False)), prediction("[MIN 4 7 ]", 4, "4")]
    bad = question_prediction(OWL, "choice", ("a tree", False))
    bad["target"]["example"]["choices"] = 3
    unknown = question_prediction(OWL, "choice", ("a tree", False))
    unknown["target"]["problem"] = "riddle"
    write_lines(t5x / "inference_eval/mixed-000100.jsonl", [bad, *rows, unknown])
    [found] = read_predictions(read_run(t5x))
    assert [target.problem.name for target in found.targets] == ["choice", "listops"]
    assert [verdict.kind for verdict in found.verdicts] == ["correct", "list"]
