"""Requests to runs of imported questions, whose answers are read by their problem."""

import random

import pytest

from explainft.data.compact_vocabulary import COMPACT
from explainft.data.vocabulary import Vocabulary
from explainft.evaluation.inference_inputs import QuestionReader
from explainft.serving.answers import check
from explainft.serving.batch import Limits
from explainft.serving.errors import ApiError
from explainft.serving.requests import RequestReader
from tests.serving.fuzz import value
from tests.serving.requests import MODEL, completion

VOCABULARY = Vocabulary(COMPACT)
LIMITS = Limits(rows=4, input_length=400, output_length=50, usual=(16, 16))


def reader(problem, trained=20):
    questions = QuestionReader(problem, "explain_answer", trained)
    return RequestReader(MODEL, VOCABULARY, 160, LIMITS, 16, questions)


def test_a_choice_is_read_by_its_letter():
    given = {"question": "Where does a fox live?", "choices": ["a nest", "a den"], "answer": "a den"}
    [one] = reader("choice").completion(completion(explainft=given)).checked
    assert check(one, "Foxes dig.\nThe answer is (b)", False) == {"answer": "a den", "correct": True}
    assert check(one, "The answer is (a)", False) == {"answer": "a nest", "correct": False}
    assert check(one, "Foxes dig.", True) == {"answer": None, "correct": False}


def test_without_a_gold_answer_only_the_answer_is_read():
    [one] = reader("math").completion(completion(prompt="What is 3 + 4?", explainft={})).checked
    found = check(one, "So 3 + 4 = 7.\nThe answer is 7", False)
    assert found["answer"] == "7" and "correct" not in found and found["check"]["steps_correct"] == 1


def test_the_default_length_is_that_of_infer():
    assert reader("math").completion(completion(prompt="What?")).prompts[0].max_tokens == 20
    assert reader("math", trained=90).completion(completion(prompt="What?")).prompts[0].max_tokens == 50
    assert reader("math").completion(completion(prompt=[5, 1])).prompts[0].max_tokens == 50


def test_a_checkpoint_without_a_problem_refuses_checks():
    bare = RequestReader(MODEL, VOCABULARY, 160, LIMITS, 16, None)
    with pytest.raises(ApiError) as refused:
        bare.completion(completion(explainft={}))
    assert (refused.value.status, refused.value.param) == (400, "explainft")


@pytest.mark.parametrize("problem", ["choice", "math", "text"])
def test_any_question_is_read_or_refused(problem):
    random_, read = random.Random(0), 0
    for _ in range(2000):
        given = {name: value(random_) for name in ("question", "choices", "answer") if random_.random() < 0.6}
        try:
            [one] = reader(problem).completion(completion(explainft=given)).checked
            check(one, "The answer is 3", False)
            read += 1
        except ApiError as error:
            assert error.status == 400 and error.param == "explainft"
    assert read > 100
