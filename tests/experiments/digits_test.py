"""Explanations by digits: right, as they are described, and with each step's numbers in the step."""

import random

import pytest

from experiments.digits import digits
from explainft import listops
from explainft.listops.configs import CONFIGS


def test_the_example_of_the_description():
    inputs, targets = digits(listops.parse("[MED 12 [MAX 25 7 22 ] 20 8 ]"))
    assert inputs == "[MED 12 [MAX 25 07 22 ] 20 08 ]"
    assert targets.split("\n") == [
        "[MAX 25 07 22 ] 2: 25 22= 25",
        "[MED 12 25 20 08 ] 0 1 2 2: 08 12 20 25: 12 20 02 32= 16",
        "Final answer: 16",
    ]


@pytest.mark.parametrize(
    ("expression", "line"),
    [
        ("[MIN 14 29 11 ]", "[MIN 14 29 11 ] 1: 14 11= 11"),
        ("[SUM 3 17 26 ]", "[SUM 03 17 26 ] 03 00 06= 06"),
        ("[MED 20 4 11 ]", "[MED 20 04 11 ] 0 1 2: 04 11 20: 11= 11"),
    ],
)
def test_each_operator(expression, line):
    assert digits(listops.parse(expression))[1].split("\n")[0] == line


def test_answers_are_right_and_every_number_has_two_digits():
    rng = random.Random(0)
    for _ in range(300):
        tree = CONFIGS["tiny_gaps"].larger_numbers.tree(rng)
        inputs, targets = digits(tree)
        assert listops.parse(inputs) == tree
        assert listops.final_answer(targets) == listops.evaluate(tree)
        for line, (operator, arguments, answer) in zip(
            targets.split("\n"), listops.expression.applications(tree), strict=False
        ):
            assert listops.parse(line[: line.index("]") + 1]) == listops.Node(operator, tuple(arguments))
            assert int(line[-2:]) == answer
