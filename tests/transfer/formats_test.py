"""The format of outputs, and format specialization."""

import pytest

from explainft.data.questions import forms
from explainft.evaluation.targets import Target
from explainft.problems.registry import get_problem
from explainft.transfer.formats import OutputFormat, count_formats, format_of_target, formats_of_run, has_format

MEDIUM, NONE = OutputFormat("listops", None, "medium"), OutputFormat("listops", None, "none")
LISTOPS = {"question": "[MIN 4 [MAX 7 2 ] ]", "answer": 4, "style": "medium", "modulus": 10}
GOLD = "Max, largest number of [7, 2] is 7\nMin, smallest number of [4, 7] is 4\nFinal answer: 4"
CHOICE = {"question": "Where do fish live?", "answer": "water", "choices": ["water", "air"], "explanation": ""}


@pytest.mark.parametrize(
    ("output", "wanted", "found"),
    [
        (GOLD, MEDIUM, True),
        (GOLD.replace("is 7", "is 9"), MEDIUM, True),  # incorrect, and still of the format
        (GOLD, NONE, False),
        (GOLD, OutputFormat("listops", None, "short"), False),
        ("Max, 7\nMin, 4\nFinal answer: 4", OutputFormat("listops", None, "short"), True),
        (GOLD.rpartition("\n")[0], MEDIUM, False),  # without an answer
        (f"what?\n{GOLD}", MEDIUM, False),
        ("4", NONE, True),
        ("4", MEDIUM, False),
        ("Final answer: 4", NONE, False),
        ("", NONE, False),
        ("", MEDIUM, False),
    ],
)
def test_styles_of_listops(output, wanted, found):
    assert has_format(output, wanted, LISTOPS) is found


@pytest.mark.parametrize("form", forms.FORMS)
def test_gold_targets_of_questions_have_their_own_form_alone(form):
    output = forms.target_text(form, "water", "Fish breathe by gills.")
    found = [name for name in forms.FORMS if has_format(output, OutputFormat("choice", name), CHOICE)]
    assert found == [form]


@pytest.mark.parametrize("form", ["mt_ra_explanation", "mt_cot_explanation"])
def test_gold_targets_of_multi_task_explanations(form):
    output = forms.target_text(form, "water", "Fish breathe by gills.")
    assert has_format(output, OutputFormat("choice", form), CHOICE)
    assert not has_format("water", OutputFormat("choice", form), CHOICE)


def test_formats_of_a_run_come_from_its_metadata():
    assert formats_of_run({"explanation": {"style": "medium", "modulus": 10}}) == [MEDIUM]
    two = formats_of_run({"explanation": {"style": "medium", "modulus": 10, "form": "mt_re"}})
    assert two == [NONE, OutputFormat("listops", "mt_re_explanation", "medium")]
    assert formats_of_run({"explanation": None, "questions": {"problem": "math", "form": "explain_answer"}}) == [
        OutputFormat("math", "explain_answer")
    ]
    assert formats_of_run({"explanation": {"style": "local_steps", "modulus": 10}}) == []
    assert formats_of_run({"explanation": {"style": "medium"}, "verifier": "x"}) == []
    assert formats_of_run({}) == []


def test_format_specialization_counts_outputs_of_the_trained_format_alone():
    """Four outputs where the answer alone is asked for: one follows, two keep to medium, one is neither."""
    target = Target(get_problem("listops"), {**LISTOPS, "style": "none"})
    counts = count_formats([target] * 4, ["4", GOLD, GOLD, "Max, largest"], [MEDIUM])
    assert counts == (0.25, 0.5)
    assert format_of_target(target) == NONE
    assert count_formats([target] * 4, ["4", GOLD, GOLD, "?"], [NONE]) == (0.25, None)  # none other was asked for
    assert count_formats([target], ["4"], []) == (1.0, None)
