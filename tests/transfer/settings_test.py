"""What defines a matrix, and the errors in it."""

import pytest

from explainft.core.errors import UserError
from explainft.transfer.columns import without_shots
from explainft.transfer.matrix import is_own
from explainft.transfer.settings import Transfer, default_labels

RUNS = {"a": "runs/a"}
TASK = "explained_tiny_medium_eval_test"
FEW = "explained_quiz_answer_{shots}_shot_eval_test"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runs": {}}, "give each run a label"),
        ({"runs": {"a": {"step": 2}}}, "run 'a' must be the path of a run"),
        ({"runs": {"a": {"path": "runs/a", "stepp": 2}}}, "did you mean 'step'?"),
        ({"evaluations": {}}, "name a group"),
        ({"evaluations": {"": {}}}, "must map labels to the names"),
        ({"evaluations": {"": {"few": FEW}}}, "give such as --shots=0,2,4"),
        ({"shots": (0, 2)}, "needs {shots} in the name of an evaluation"),
        ({"evaluations": {"": {"few": FEW}}, "shots": (2, 2)}, "names a number twice"),
        ({"evaluations": {"": {"few": FEW}}, "shots": (-1,)}, "shots=-1 must be an integer of at least 0"),
        ({"num_examples": 0}, "num_examples=0 must be an integer of at least 1"),
    ],
)
def test_errors_name_the_value_and_the_fix(settings, message):
    with pytest.raises(UserError) as error:
        Transfer(**{"runs": RUNS, "evaluations": {"": {"test": TASK}}, **settings})
    assert message in error.value.line and "\n" not in error.value.line


def test_module_may_stand_before_a_task():
    transfer = Transfer(RUNS, {"g": {"a": TASK, "b": f"tasks.few_shot:{FEW}"}}, shots=(0, 2))
    assert [(e.group, e.label, e.module) for e in transfer.list_evaluations()] == [
        ("g", "a", "tasks"),
        ("g", "b", "tasks.few_shot"),
    ]


def test_labels_are_short_where_they_differ():
    names = [TASK, "explained_tiny_medium_eval_larger_numbers_compact", FEW]
    assert list(default_labels(names)) == ["tiny medium test", "tiny medium larger numbers", "quiz answer test"]
    assert list(default_labels([TASK, f"{TASK}_compact"])) == [TASK, f"{TASK}_compact"]


@pytest.mark.parametrize(
    ("task", "own"),
    [
        (TASK, True),
        ("explained_tiny_medium_eval_validation_compact", True),
        ("explained_tiny_medium_4_shot_reworded_eval_test_compact", True),
        ("explained_tiny_medium_eval_longer_compact", False),
        ("explained_tiny_none_eval_test", False),
        ("explained_tiny_25_96_medium_eval_test", False),
    ],
)
def test_own_task_is_that_of_training_at_any_number_of_shots(task, own):
    assert is_own(task, ["explained_tiny_medium_2_shot_compact"]) is own


def test_without_shots():
    assert without_shots("explained_quiz_answer_2_shot_sampled_0") == "explained_quiz_answer"
    assert without_shots("explained_shot_answer") == "explained_shot_answer"
