"""Explanations by marks: right, readable and as they are described."""

import random
import re

from experiments.pointers import MARKS, marked
from explainft import listops
from explainft.listops.configs import CONFIGS

MARK = re.compile(r" <extra_id_(\d+)>")


def test_the_example_of_the_description():
    inputs, targets = marked(listops.parse("[MAX 2 [SUM 9 4 ] 1 ]"))
    m = [f" <extra_id_{mark}>" for mark in dict.fromkeys(MARK.findall(inputs))]
    assert len(m) == 8
    assert inputs == f"{m[0]} [MAX{m[1]} 2{m[2]}{m[0]} [SUM{m[3]} 9{m[4]} 4{m[5]} ]{m[6]} 1{m[7]} ]"
    assert targets.split("\n") == [
        f"{m[2]} [SUM{m[3]} 9{m[4]} 4{m[5]}], running sums 9 3{m[2]} 3{m[6]}",
        f"{m[0]} [MAX{m[1]} 2{m[2]} 3{m[6]} 1{m[7]}] is{m[0]} 3",
        "Final answer: 3",
    ]


def test_answers_are_right_and_every_mark_is_drawn():
    rng = random.Random(0)
    seen = set()
    for _ in range(300):
        tree = CONFIGS["tiny_25_96"].train.tree(rng)
        inputs, targets = marked(tree)
        assert listops.final_answer(targets) == listops.evaluate(tree)
        assert len(targets.split("\n")) == len(listops.operators(tree)) + 1
        assert MARK.sub("", inputs).strip() == listops.format(tree)
        # What a line looks up stands in the expression, or in a line above.
        seen |= {int(mark) for mark in MARK.findall(inputs)}
        assert set(MARK.findall(targets)) <= set(MARK.findall(inputs))
    assert seen == set(range(MARKS))


def test_the_expression_and_the_draw_alone_choose_the_marks():
    one, other = listops.parse("[MAX 1 2 ]"), listops.parse("[MAX 2 1 ]")
    assert marked(one) == marked(one, 0) != marked(one, 1)
    assert MARK.findall(marked(one)[0]) != MARK.findall(marked(other)[0])
