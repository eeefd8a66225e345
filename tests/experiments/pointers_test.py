"""Explanations by marks: right, readable and as they are described."""

import random
import re

from experiments.pointers import MARKS, OPERATOR_MARKS, marked
from explainft import listops
from explainft.listops.configs import CONFIGS

MARK = re.compile(r" <extra_id_(\d+)>")


def test_the_example_of_the_description():
    inputs, targets = marked(listops.parse("[MAX 2 [SUM 9 4 ] 1 ]"))
    marks = [int(mark) for mark in MARK.findall(inputs)]
    operators = [marks.pop(2), marks.pop(0)][::-1]
    assert marks == sorted(set(marks)) and len(marks) == 6 and marks[-1] < MARKS
    assert operators == [operators[0], operators[0] + 1] and operators[0] >= MARKS
    marks[:1] = [operators[0], marks[0], operators[1]]
    m = [f" <extra_id_{mark}>" for mark in marks]
    assert inputs == f"{m[0]} [MAX{m[1]} 2{m[2]} [SUM{m[3]} 9{m[4]} 4{m[5]} ]{m[6]} 1{m[7]} ]"
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
    assert seen == set(range(MARKS + OPERATOR_MARKS))


def test_the_expression_and_the_draw_alone_choose_the_marks():
    one, other = listops.parse("[MAX 1 2 ]"), listops.parse("[MAX 2 1 ]")
    assert marked(one) == marked(one, 0) != marked(one, 1)
    assert MARK.findall(marked(one)[0]) != MARK.findall(marked(other)[0])
