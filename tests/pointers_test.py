"""Explanations by marks: right, readable and as they are described."""

import random
import re

from experiments.pointers import MARKS, marked
from explainft import listops
from explainft.listops.configs import CONFIGS

MARK = re.compile(r" <extra_id_(\d+)>")


def test_the_example_of_the_description():
    inputs, targets = marked("[MAX 2 [SUM 9 4 ] 1 ]")
    marks = [int(mark) for mark in MARK.findall(inputs)]
    assert marks == sorted(set(marks)) and len(marks) == 8
    m = [f" <extra_id_{mark}>" for mark in marks]
    assert inputs == f"{m[0]} [MAX{m[1]} 2{m[2]} [SUM{m[3]} 9{m[4]} 4{m[5]} ]{m[6]} 1{m[7]} ]"
    assert targets.split("\n") == [
        f"{m[2]} [SUM{m[3]} 9{m[4]} 4{m[5]}], sum is 13{m[2]} 3",
        f"{m[0]} [MAX{m[1]} 2{m[2]} 3{m[6]} 1{m[7]}] is{m[0]} 3",
        "Final answer: 3",
    ]


def test_answers_are_right_and_every_mark_is_drawn():
    rng = random.Random(0)
    seen = set()
    for _ in range(300):
        tree = CONFIGS["tiny_25_96"].train.tree(rng)
        inputs, targets = marked(listops.format(tree))
        assert listops.final_answer(targets) == listops.evaluate(tree)
        assert len(targets.split("\n")) == len(listops.operators(tree)) + 1
        assert MARK.sub("", inputs).strip() == listops.format(tree)
        # What a line looks up stands in the expression, or in a line above.
        seen |= {int(mark) for mark in MARK.findall(inputs)}
        assert set(MARK.findall(targets)) <= set(MARK.findall(inputs))
    assert seen == set(range(MARKS))


def test_the_expression_alone_draws_its_marks():
    assert marked("[MAX 1 2 ]") == marked("[MAX 1 2 ]") != marked("[MAX 2 1 ]")
