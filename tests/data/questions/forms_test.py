import pytest

from explainft.data.questions import forms

EXPLANATION = "Fish live in water.\nThe answer is water, one might think."


@pytest.mark.parametrize("form", forms.FORMS)
@pytest.mark.parametrize("explanation", [EXPLANATION, "one line", ""])
def test_parts_of_a_target_are_what_it_was_made_of(form, explanation):
    target = forms.target_text(form, "aquarium", explanation)
    stated = "aquarium" if form == "answer" else "The answer is aquarium"
    assert forms.answer_part(target, form) == stated
    assert forms.explanation_part(target, form) == ("" if form == "answer" else explanation)


def test_texts():
    assert forms.input_text("Where?", ["sea", "tank"]) == "Where?\n(a) sea\n(b) tank"
    assert forms.target_text("explain_answer", "tank", "Small fish.") == "Small fish.\nThe answer is tank"
    assert forms.target_text("answer_explain", "tank", "Small fish.") == "The answer is tank\nSmall fish."
    assert forms.letter(25) == "(z)" and forms.letter(26) == "(27)"


@pytest.mark.parametrize("form", forms.FORMS)
@pytest.mark.parametrize("output", ["", "\n", "no statement here", "x\ny"])
def test_an_output_without_a_statement_is_all_answer(form, output):
    assert forms.answer_part(output, form) == output
