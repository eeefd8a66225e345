"""Samples of `infer`, of SeqIO's evaluations and of other programs."""

import json

import pytest

from explainft.core.errors import UserError
from explainft.evaluation.targets import postprocess_listops
from explainft.samples.files import example_id
from explainft.samples.foreign import Fields
from explainft.samples.layouts import read_any

FIELDS = Fields("output", answer="label", id="uid", score="reward", correct="ok")
STEPS = "Min, smallest number of [4, 7] is 4\nMax, largest number of [2, 4] is 4\nFinal answer: 4"


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "samples.jsonl"


def numbers(problem):
    return [(sample.text, sample.answer, sample.correct, sample.score) for sample in problem.samples]


def test_lists_objects_and_single_lines_are_the_same(file):
    texts, rewards, labels = ["so 7", "8"], [3.5, -1.0], [True, False]
    listed = {"uid": 3, "label": 7, "output": texts, "reward": [[r] for r in rewards], "ok": labels}
    objects = {
        "uid": 3,
        "label": 7.0,
        "output": [{"text": t, "reward": r, "ok": k} for t, r, k in zip(texts, rewards, labels, strict=True)],
    }
    single = [
        {"uid": 3, "label": "7", "output": t, "reward": r, "ok": k}
        for t, r, k in zip(texts, rewards, labels, strict=True)
    ]
    expected = [("so 7", "7", True, 3.5), ("8", "8", False, -1.0)]
    for rows in ([listed], [objects], single):
        [problem] = read_any(write(file, *rows), "math", None, FIELDS)
        assert problem.id == "3" and numbers(problem) == expected


def test_single_lines_without_ids_are_joined_by_their_question(file):
    rows = [{"question": q, "answer": "1", "output": text} for q, text in (("a", "1"), ("b", "2"), ("a", "3"))]
    found = read_any(write(file, *rows), "math", None, Fields("output"))
    assert {p.id: [s.text for s in p.samples] for p in found} == {
        example_id(None, "a"): ["1", "3"],
        example_id(None, "b"): ["2"],
    }
    with pytest.raises(UserError, match="line 1 has one sample and neither id nor question"):
        read_any(write(file, {"answer": "1", "output": "1"}), "math", None, Fields("output"))


def test_gold_solutions_are_read_for_their_answer(file):
    rows = [{"question": "?", "answer": "2 + 2 = 4\n#### 4", "output": ["4", "2"]}]
    [problem] = read_any(write(file, *rows), "math", None, Fields("output"))
    assert [sample.correct for sample in problem.samples] == [True, False]


def test_problems_without_ids_stay_apart_in_any_order(file):
    rows = [{"label": "1", "output": ["1", "2"]}, {"label": "1", "output": ["3", "2"]}, {"label": "2", "output": ["2"]}]
    ids = {
        p.id: sorted(s.text for s in p.samples)
        for p in read_any(write(file, *rows), "math", None, Fields("output", "label"))
    }
    again = [{**row, "output": row["output"][::-1]} for row in rows[::-1]]
    assert len(ids) == 3
    assert ids == {
        p.id: sorted(s.text for s in p.samples)
        for p in read_any(write(file, *again), "math", None, Fields("output", "label"))
    }


def test_evaluations_of_seqio_are_samples(file):
    example = {"expression": "[MAX 2 [MIN 4 7 ] ]", "answer": 4}
    target = postprocess_listops("", example, is_target=True, style="medium")
    rows = [{"input": {}, "target": target, "prediction": text} for text in (STEPS, "Final answer: 7", "x")]
    [problem] = read_any(write(file, *rows))
    assert [(s.answer, s.correct, s.valid) for s in problem.samples] == [
        ("4", True, True),
        ("7", False, False),
        (None, False, False),
    ]


def test_inferences_are_samples(file):
    steps = {"steps_total": 2, "steps_correct": 2, "first_wrong_step_number": None}
    row = {"expression": "[MIN 4 7 ]", "answer": 4, "explanation": STEPS, "check": {"answer_correct": True, **steps}}
    none = {**row, "answer": None, "check": {**row["check"], "answer_correct": False}}
    [problem] = read_any(write(file, row, none))
    assert problem.id == example_id(None, "[MIN 4 7 ]")  # as `sample` has it
    with pytest.raises(UserError, match="names its problem"):
        read_any(file, "math")
    assert [(s.answer, s.correct, s.valid) for s in problem.samples] == [("4", True, True), (None, False, False)]

    row = {
        "id": "q",
        "question": "2 + 2?",
        "answer": "4",
        "prediction": {"answer": "4.0", "text": "4.0", "correct": True},
    }
    with pytest.raises(UserError, match="does not name its problem; give --problem"):
        read_any(write(file, row))
    [problem] = read_any(file, "math")
    assert [(s.answer, s.correct) for s in problem.samples] == [("4.0", True)]


GOOD = {"uid": 1, "label": 7, "output": ["7", "8"], "reward": [0.5, 0.1], "ok": [True, False]}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"output": []}, "line 2 has no samples in 'output'"),
        ({"reward": [0.5]}, "line 2 has 2 samples in 'output' and 1 in 'reward'"),
        ({"reward": [0.5, float("nan")]}, "line 2, sample 2: score=nan must be a finite number"),
        ({"reward": [[0.5], ["high"]]}, "line 2, sample 2: score='high' must be"),
        ({"reward": [0.5, None]}, "line 2, sample 2: score=None must be"),
        ({"ok": [True, "yes"]}, "line 2, sample 2: correct='yes' must be true or false"),
        ({"output": ["7", None]}, "line 2, sample 2 is None; expected a text"),
        ({"uid": 1}, "line 2: id '1' is in line 1 too"),
    ],
)
def test_unusable_lines_are_named(file, changed, words):
    with pytest.raises(UserError, match=words):
        read_any(write(file, GOOD, {**GOOD, "uid": 2, **changed}), "math", None, FIELDS)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (Fields("outputs"), "no field 'outputs' .*did you mean 'output'"),
        (Fields("output", answer="labels"), "lacks the gold answer 'labels'; did you mean 'label'"),
        (Fields("output", answer="empty"), "the gold answer 'empty' is None"),
        (Fields("output", answer="label", score="rewards"), "no field 'rewards' .*did you mean 'reward'"),
    ],
)
def test_unknown_fields_name_the_nearest(file, fields, words):
    with pytest.raises(UserError, match=words):
        read_any(write(file, {**GOOD, "empty": None}), "math", None, fields)


def test_lines_of_one_problem_agree_on_its_answer(file):
    rows = [{"uid": 1, "label": label, "output": "7"} for label in (7, 8)]
    with pytest.raises(UserError, match="line 2: id '1' has another gold answer than line 1"):
        read_any(write(file, *rows), "math", None, Fields("output", answer="label", id="uid"))
