"""Verdicts on predictions: the first error of an output, and what a cut took away."""

import pytest

from explainft import listops
from explainft.evaluation.targets import read_target
from explainft.reporting import verdicts
from explainft.reporting.verdicts import KINDS, judge
from tests.helpers.question_runs import BUS, DATASETS, FOX, OWL, PEN, target
from tests.helpers.run_directories import prediction

TREE = "[SUM 7 [MIN 4 6 ] ]"
GOLD = "Min, smallest number of [4, 6] is 4\nSUM, add [7, 4], sum is 11, answer is 1\nFinal answer: 1"


def judge_question(row: dict, problem: str, text: str, cut: bool = False, form: str = "explain_answer"):
    return judge(read_target(target(row, problem, form)), text, cut)


def judge_listops(text: str, cut: bool, style: str = "medium"):
    return judge(read_target(prediction(TREE, 1, text, style)["target"]), text, cut)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))
def test_kind_of_a_question(dataset):
    found = [judge_question(row, dataset.problem, *output).kind for _, row, output in dataset.outputs]
    assert found == [kind for kind, _, _ in dataset.outputs]


def test_answer_is_compared_by_the_problem():
    found = judge_question(OWL, "choice", "Owls sleep.\nThe answer is (b)")
    assert (found.answer, found.correct) == ("a tree", True)
    found = judge_question(PEN, "math", "The answer is 12.00")
    assert (found.kind, found.answer, found.correct) == ("correct", "12.00", True)
    found = judge_question(FOX, "text", "The answer is A DEN.")
    assert (found.kind, found.correct) == ("correct", True)


def test_first_wrong_step_comes_before_the_answer():
    text = "So 12 - 5 = 7.\nThen 7 - 2 = 4, and 1 + 1 = 3.\nThe answer is 5"
    found = judge_question(BUS, "math", text)
    assert (found.kind, found.correct, found.step) == ("step", True, 1)
    assert text[slice(*found.place)] == "7 - 2 = 4"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("So 12 - 5 = 7.\nThen 7 - 2 = ", "cut"),
        ("So 12 - 5 = 7.\nThen 17 - 2 = 1", "cut"),  # of 15, perhaps
        ("So 12 - 5 = 8.\nThen 7 - 2 = ", "step"),
        ("So 12 - 5 = 8.\nThen 7 - 2 = 5", "step"),
        ("So <<12-5=8>>", "step"),  # a mark that is closed is complete
        ("So 12 - 5 = 8\nThe answer is 5", "step"),
        ("So 12 - 5 = 7.\nThe answer is 5", "correct"),
        ("So 12 - 5 = 7.\nThe answer is 9", "cut"),
        ("", "cut"),
    ],
)
def test_cut_counts_where_nothing_is_wrong_before_it(text, kind):
    assert judge_question(BUS, "math", text, cut=True).kind == kind
    assert judge_question(BUS, "math", text).kind != "cut"


def test_explanation_after_a_correct_answer_may_be_cut():
    found = judge_question(BUS, "math", "The answer is 5\nSo 12 - 5 = 7.\nThen 17 - 2 = 1", True, "answer_explain")
    assert (found.kind, found.correct) == ("correct", True)


@pytest.mark.parametrize(
    ("text", "kind", "uncut"),
    [
        (GOLD, "valid", "valid"),
        (GOLD[:-1], "cut", "malformed"),
        (GOLD.split("Final")[0], "cut", "malformed"),
        (GOLD[:60], "cut", "malformed"),  # in the second step
        (GOLD[:60].replace("is 4", "is 6"), "arithmetic", "arithmetic"),
        (GOLD[:24], "cut", "malformed"),  # in the first
        (GOLD.replace("is 11", "is 12")[:-1], "arithmetic", "arithmetic"),
        (GOLD.replace("[7, 4]", "[7, 5]"), "copy", "copy"),
    ],
)
def test_cut_of_a_listops_explanation(text, kind, uncut):
    assert (judge_listops(text, True).kind, judge_listops(text, False).kind) == (kind, uncut)


def test_cut_answer_without_explanation():
    assert [judge_listops(text, True, "none").kind for text in ("", "3", "1")] == ["cut", "cut", "valid"]


def test_every_kind_has_a_look():
    assert {verdicts.VALID, *listops.ERROR_KINDS, "correct", "step", "unanswered", "cut"} == KINDS.keys()
    of_listops = [verdicts.VALID, *listops.ERROR_KINDS, "cut"]
    of_questions = ["correct", "step", "answer", "unanswered", "cut"]
    for kinds in (of_listops, of_questions):  # those of one problem differ
        assert len({KINDS[kind].colour for kind in kinds}) == len({KINDS[kind].label for kind in kinds}) == len(kinds)


def test_only_kinds_that_occur():
    assert list(verdicts.occurring(["cut", "step", "step", "valid"])) == ["valid", "step", "cut"]
