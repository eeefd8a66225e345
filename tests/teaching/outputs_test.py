"""What is kept of a teacher's output, and what it says of its answer."""

import pytest

from explainft.data.questions.examples import Question
from explainft.problems.registry import get_problem
from explainft.teaching.exemplars import read_prompts
from explainft.teaching.judging import judge
from explainft.teaching.outputs import cut_at_stop, explanation_of, letter_and_text, without_hint
from explainft.teaching.requests import Answer, Settings, make_requests

PETS = Question("q", "Where do fish live?", ("sea", "air", "ice cream ", "sea"), "sea", "", "{}")


@pytest.mark.parametrize(
    ("output", "statement", "explanation"),
    [
        ("Fish swim. So the answer is (a) sea.", "So the answer is", "Fish swim."),
        ("Fish swim. so the\nanswer  is (a) sea.", "So the answer is", "Fish swim."),
        ("The answer must be wet. So the answer is (a).", "So the answer is", "The answer must be wet."),
        ("Fish swim. Therefore, the answer is (a).", "So the answer is", "Fish swim."),
        ("Fish swim. The answer is B. aquarium", "So the answer is", "Fish swim."),
        ("Fish swim.\nIn water.\nFinal answer: 4", "", "Fish swim.\nIn water."),
        ("The answer is (a). Fish swim.", "So the answer is", "The answer is (a). Fish swim."),
        ("So the answer is (a).", "So the answer is", ""),
        ("", "So the answer is", ""),
    ],
)
def test_the_explanation_ends_before_the_answer(output, statement, explanation):
    assert explanation_of(output, statement) == explanation


@pytest.mark.parametrize(
    ("explanation", "kept"),
    [
        ("The correct answer is (a) sea. Fish swim.", "Fish swim."),
        ("Fish swim. As given, the CORRECT answer  is: sea!\nThey do.", "Fish swim. They do."),
        ("Fish swim in a sea.", "Fish swim in a sea."),
        ("The correct answer is (a) sea.", ""),
    ],
)
def test_sentences_that_repeat_the_hint_go(explanation, kept):
    assert without_hint(explanation, "The correct answer is") == kept


def test_an_output_ends_before_the_first_stop():
    assert cut_at_stop(" a.\n\nQ: b?\n\nExpression: c", ["\n\nExpression:", "\n\nQ:"]) == ("a.", True)
    assert cut_at_stop("a. Q: b", ["\n\nQ:"]) == ("a. Q: b", False)
    assert cut_at_stop("a\ud800", []) == ("a\ufffd", False)


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("So the answer is (a) sea.", "agree"),
        ("So the answer is (d) sea.", "agree"),  # the same text twice
        ("So the answer is (c) ice cream.", "agree"),
        ("So the answer is (b) sea.", "disagree"),
        ("So the answer is (a) a lake.", "unknown"),
        ("So the answer is either (a) sea or (b) air.", "several"),
        ("So the answer is (a).", "alone"),
        ("So the answer is sea.", None),
        ("Fish swim.", None),
    ],
)
def test_letter_and_text_are_compared(output, found):
    assert letter_and_text(output, PETS.example()) == found


@pytest.mark.parametrize(
    ("method", "text", "outcome", "explanation"),
    [
        ("cote", "They swim. So the answer is (a) sea.", "accepted", "They swim."),
        ("cote", "They fly. So the answer is (b) air.", "with another answer", ""),
        ("cote", "They swim or fly.", "without an answer", ""),
        ("cote", "So the answer is (a) sea.", "without an explanation", ""),
        ("rp", "They swim.", "accepted", "They swim."),
        ("rp", "They swim in any sea, not in the air.", "accepted", "They swim in any sea, not in the air."),
        ("rp", "They swim. So the answer is (a).", "accepted", "They swim."),
        ("rp", "They fly. So the answer is (b) air.", "with another answer", ""),
        ("rp", "The correct answer is (a) sea.", "without an explanation", ""),
    ],
)
def test_only_what_explains_the_gold_answer_is_accepted(method, text, outcome, explanation):
    prompts = read_prompts("csqa")
    [request] = make_requests([PETS], method, 1, prompts, Settings("m"))
    found = judge(get_problem("choice"), prompts.templates[method], request, Answer(text, "stop", 9))
    assert found.outcome == outcome and (found.outcome != "accepted" or found[1:] == (explanation, "sea"))
