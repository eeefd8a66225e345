"""Arithmetic steps of explanations."""

import pytest

from explainft.problems import equations
from explainft.problems.problem import StepCheck


@pytest.mark.parametrize(
    "text",
    [
        "48 / 2 = 24",
        "(4 + 5) * 2 = 18",
        "2(3 + 4) = 14",
        "He has 12. 4 + 5 = 9 apples.",
        "She pays $3 x 4 = $12.",
        "3 × 4 = 12",
        "12 ÷ 4 = 3",
        "5 − 7 = −2",
        "10/3 = 3.33",
        "1,000 + 2 = 1,002",
        "50% * 30 = 15",
        "100 - 60 = 40%",
        "(3 + 4 = 7)",
        "<<16-3-4=9>>9",
        "<<+8=8>>8",
    ],
)
def test_correct_step(text):
    assert equations.check(text) == StepCheck(correct=1)
    assert equations.check(text).valid


@pytest.mark.parametrize("text", ["48 / 2 = 25", "10/3 = 3.34", "9 - 1 = 7", "<<2*3=5>>", "1 + 1 = 3 apples"])
def test_incorrect_step(text):
    assert equations.check(text) == StepCheck(incorrect=1, first_wrong_step=0)


@pytest.mark.parametrize("text", ["<<2*x=4>>", "1/0 = 3", "<<1+=2>>"])
def test_unreadable_step(text):
    assert equations.check(text) == StepCheck(unreadable=1)
    assert not equations.check(text).valid


@pytest.mark.parametrize(
    "text",
    [
        "2x + 4 = 10",
        "3 x + 4 = 28",
        "x = 5",
        "a - 3 = 2",
        "2^3 = 8",
        "$x^2 + 1 = 0$",
        "a_1 + 1 = 3",
        "f(-1) = 16",
        r"2 \cdot (-1) = 20",
        "no steps",
        "5 = 5",
        "",
    ],
)
def test_no_step(text):
    assert equations.check(text) == StepCheck()


def test_chain_and_first_wrong_step():
    found = equations.check("5 * 2 = 4 + 6 = 10.\nThen 10 + 1 = 12, and 12 + 1 = 14.")
    assert found == StepCheck(correct=2, incorrect=2, first_wrong_step=2)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("He has 12. 4 + 5 = 9 apples.", [("4 + 5 = 9", True)]),
        ("So (3 + 4 = 8).", [("3 + 4 = 8", False)]),
        ("She pays $3 x 4 = $12.", [("$3 x 4 = $12", True)]),
        ("5 * 2 = 4 + 6 = 11, then", [("5 * 2 = 4 + 6", True), ("4 + 6 = 11", False)]),
        ("16 - 3 = <<16-3=12>>12 and <<2*x=4>>", [("<<16-3=12>>", False), ("<<2*x=4>>", None)]),
        ("2 + (1 + 1) = 4.", [("2 + (1 + 1) = 4", True)]),
        ("x = 5 and 1/0 = 3 - he said", [("1/0 = 3", None)]),
        (f"{'word ' * 100}2(3 + 4) = 15 units", [("2(3 + 4) = 15", False)]),
        ("no steps", []),
    ],
)
def test_places_of_steps(text, steps):
    found = equations.find_steps(text)
    assert [(text[step.start : step.end], step.holds) for step in found] == steps


def test_marks_are_checked_instead_of_the_text_around_them():
    assert equations.check("2 + 2 = <<2+2=4>>5").correct == 1
