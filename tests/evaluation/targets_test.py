import json

import numpy as np
import pytest

from explainft.evaluation.metrics import score
from explainft.evaluation.targets import Target, postprocess_question, read_target
from explainft.problems.registry import get_problem

RECORD = {
    "id": "q1",
    "question": "Where do fish live?",
    "choices": ["sea", "hive"],
    "answer": "sea",
    "explanation": "Water.",
    "fields": '{"level": 3}',
}


def target(problem="choice", form="explain_answer", **fields):
    return postprocess_question("unused", {**RECORD, **fields}, is_target=True, problem=problem, form=form)


def test_target_is_the_same_from_records_and_from_json():
    as_bytes = {name: value.encode() for name, value in RECORD.items() if name != "choices"}
    as_bytes["choices"] = np.array([b"sea", b"hive"], dtype=object)
    found = target()
    assert found == postprocess_question(b"unused", as_bytes, is_target=True, problem="choice", form="explain_answer")
    assert found == json.loads(json.dumps(found))
    assert found["example"]["level"] == 3


@pytest.mark.parametrize(
    ("form", "output", "answer"),
    [
        ("answer", "sea", "sea"),
        ("answer", "(b)", "hive"),
        ("explain_answer", "The answer is hive, some say.\nThe answer is sea", "sea"),
        ("answer_explain", "The answer is sea\nSome say: the answer is hive", "sea"),
        ("explain_answer", "No statement, but sea", "sea"),
        ("answer_explain", "", None),
    ],
)
def test_the_answer_is_read_where_the_form_states_it(form, output, answer):
    found = read_target(target(form=form))
    assert found is not None and found.read_answer(output) == answer
    assert found.is_correct(answer) == (answer == "sea")


@pytest.mark.parametrize(
    "kept",
    [None, "text", {"label": 1}, {"problem": "chess", "form": "answer", "example": RECORD},
     {"problem": "choice", "form": "rhyme", "example": RECORD}, {"problem": "choice", "form": "answer", "example": {}}],
)  # fmt: skip
def test_a_target_of_another_postprocessor_is_none(kept):
    assert read_target(kept) is None
    with pytest.raises(ValueError, match="must be what a postprocessor"):
        score([kept], ["sea"])


def test_steps_of_mathematics_count():
    gold = target("math", choices=[], answer="24", explanation="", fields='{"subject": "Algebra", "level": "2"}')
    outputs = [
        "<<48/2=24>> apples.\nThe answer is 24",  # valid
        "<<48/2=23>> apples.\nThe answer is 24",  # an incorrect step, a correct answer
        "<<48/2=24>> apples.\nThe answer is 23",  # correct steps, an incorrect answer
        "<<48/x=24>> apples.\nThe answer is 24",  # an unreadable step
        "No step at all.\nThe answer is 24",
    ]
    found = score([gold] * 5, outputs)
    assert found["exact_match"] == 4 / 5 and found["valid"] == 1 / 5
    assert found["step_accuracy"] == 2 / 4 and found["steps_unreadable"] == 1 / 4
    assert found["exact_match/subject/Algebra"] == 4 / 5 and found["n/level/2"] == 5
    assert "chance" not in found


def test_a_word_alone_is_the_answer_of_the_form_answer():
    target = Target(get_problem("math"), {"question": "Where?", "answer": "east"}, "answer")
    assert target.is_correct(target.read_answer("east"))
    assert not target.is_correct(target.read_answer("west"))
    assert target.read_answer("so 3 + 4 = 7") == "7"
    assert Target(get_problem("math"), target.example, "explain_answer").read_answer("nothing here") is None
