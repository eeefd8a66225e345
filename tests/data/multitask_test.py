"""The texts of the multi-task forms, and how outputs are read."""

import pytest

from explainft.core.errors import UserError
from explainft.data import multitask
from explainft.data.multitask import EXPLANATION_FORMS, FORMS, Context
from explainft.data.questions import forms
from explainft.evaluation.targets import Target
from explainft.problems.registry import get_problem

QUESTION = {"question": "Where?", "choices": ["in a pond", "a tree"], "answer": "in a pond", "explanation": "It swims."}
TARGETS = {
    "mt_re": "It swims.",
    "mt_ra": "The answer is in a pond. Explanation: It swims.",
    "mt_cot": "It swims. Therefore, the answer is in a pond",
}


@pytest.mark.parametrize("form", TARGETS)
def test_targets(form):
    assert multitask.target_text(form, "explanation", "in a pond", "It swims.") == TARGETS[form]
    assert multitask.target_text(form, "answer", "in a pond", "It swims.") == "in a pond"
    shuffled = f"{form}_shuffled"
    assert FORMS[shuffled] == FORMS[form] and multitask.target_text(shuffled, "answer", "x", "") == "x"


def test_the_prompts_of_a_form_differ():
    for texts in FORMS.values():
        assert len({task.prompt for task in texts.values()}) == len(texts)
    assert set(FORMS["single"]) == {"answer"}


@pytest.mark.parametrize("form", EXPLANATION_FORMS)
def test_gold_outputs_are_read(form):
    target = Target(get_problem("choice"), QUESTION, form)
    output = forms.target_text(form, "in a pond", "It swims.")
    assert target.explanation(output) == "It swims."
    stated = EXPLANATION_FORMS[form].removesuffix("_shuffled") != "mt_re"
    assert (target.read_answer(output) == "in a pond") == stated


@pytest.mark.parametrize(
    ("form", "output", "parts"),
    [
        ("mt_re_explanation", "a b", ("a b", "")),
        ("mt_ra_explanation", "The answer is 2", ("", "The answer is 2")),
        ("mt_ra_explanation", "The answer is 2. Explanation: x Explanation:", ("x Explanation:", "The answer is 2.")),
        ("mt_cot_explanation", "a b", ("a b", "")),
        ("mt_cot_explanation", "a. Therefore, b. Therefore, the answer is 3", ("a. Therefore, b.", "The answer is 3")),
        ("mt_cot_explanation", "", ("", "")),
    ],
)  # fmt: skip
def test_outputs_are_split(form, output, parts):
    assert multitask.split_output(output, form) == parts


@pytest.mark.parametrize("form", ["mt_ra_explanation", "mt_cot_explanation"])
@pytest.mark.parametrize("answer", ["2", "3"])
def test_steps_and_answer_of_listops_are_read_apart(form, answer):
    example = {"question": "[MAX 2 [SUM 7 5 ] ]", "answer": 2, "style": "medium", "modulus": 10}
    target = Target(get_problem("listops"), example, form)
    steps = "SUM, add [7, 5], sum is 12, answer is 2\nMax, largest number of [2, 2] is 2"
    output = forms.target_text(form, answer, steps)
    assert target.read_answer(output) == answer and target.is_correct(answer) == (answer == "2")
    assert target.check(output).valid
    assert not target.check(output.replace("sum is 12", "sum is 13")).valid


def test_permuted_words_are_not_checked():
    example = {"question": "[MAX 2 7 ]", "answer": 7, "style": "medium", "modulus": 10}
    target = Target(get_problem("listops"), example, "mt_cot_shuffled_explanation")
    assert target.check("number Max, of 7] [2, largest is 7 Therefore, the answer is 7") is None


def test_contexts():
    assert multitask.context("mt_ra", "explanation") == Context("The answer is", ".", " Explanation:")
    assert multitask.context("mt_cot_shuffled", "explanation") == Context("", " Therefore,", " the answer is")
    assert multitask.context("mt_re", "explanation") is multitask.context("mt_cot", "answer") is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("tiney", "medium", "mt_re", "t5"), "DATASET='tiney' must be one of listops10, "),
        (("tiny", "none", "mt_re", "t5"), "STYLE='none' must be one of short, medium, long"),
        (("tiny", "short", "mt_rex", "t5"), "FORM='mt_rex' must be one of single, mt_re, .* did you mean 'mt_re'"),
        (("tiny", "short", "mt_re", "T5"), "MULTITASK_VOCABULARY='T5' must be one of t5, compact"),
    ],
)
def test_wrong_settings_are_refused(given, words):
    with pytest.raises(UserError, match=words):
        multitask.training_task(*given)


def test_task_names():
    assert multitask.training_task("tiny", "short", "mt_re", "t5") == "explained_tiny_short_mt_re"
    assert multitask.training_task("tiny", "short", "single", "t5") == "explained_tiny_none_single"
    found = multitask.validation_task("tiny", "medium", "mt_cot", "compact")
    assert found == "explained_tiny_medium_mt_cot_eval_validation_compact"
