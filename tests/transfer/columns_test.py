"""The columns of a matrix."""

import pytest

from explainft.core.errors import UserError
from explainft.transfer.columns import make_columns
from explainft.transfer.settings import Transfer

FEW = "explained_quiz_answer_{shots}_shot_eval_test"
MIXTURE = "explained_quiz_answer_eval"


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """A mixture of two tasks; any other name is a task."""
    names = {MIXTURE: [f"{MIXTURE}_{split}" for split in ("test", "validation")]}
    monkeypatch.setattr("explainft.data.token_cache.task_names", lambda name, *_: names.get(name, [name]))


def columns(named, shots=()):
    return make_columns(Transfer({"a": "runs/a"}, {"g": named}, shots=shots), None)


def test_shots_fill_the_name_and_the_title():
    found = columns({"few": FEW, "zero": "explained_quiz_answer_eval_test"}, (0, 1, 4))
    assert [(c.task, c.shots, c.title) for c in found] == [
        ("explained_quiz_answer_0_shot_eval_test", 0, "few, 0 shots"),
        ("explained_quiz_answer_1_shot_eval_test", 1, "few, 1 shot"),
        ("explained_quiz_answer_4_shot_eval_test", 4, "few, 4 shots"),
        ("explained_quiz_answer_eval_test", None, "zero"),
    ]


def test_mixture_is_a_column_for_each_task():
    assert [c.label for c in columns({"quiz": MIXTURE})] == [f"quiz: {MIXTURE}_test", f"quiz: {MIXTURE}_validation"]


def test_task_of_two_labels_is_refused():
    with pytest.raises(UserError, match="2 evaluations have the task"):
        columns({"quiz": MIXTURE, "test": f"{MIXTURE}_test"})
