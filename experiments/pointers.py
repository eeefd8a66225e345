"""Explanations that carry to longer expressions: each token has a mark, and every step says where it looks.

A network that has learned to find things by their place loses its place in an expression longer than it has seen. Here
each token of the expression has a mark of its own, drawn at random and in no order, so that nothing but the mark itself
can be learned of it. A second mark of an operator is that of the operator before it. An explanation takes the operators
from the last bracket to the first. The arguments of each stand in a row then, but for operators whose lines are written
already, and each step asks only for what stands next to a mark, or what followed the same mark before.

    m3 [MAX m7 2 m20 m3 [SUM m5 9 m21 4 m40 ] m8 1 m1 ]

    m20 [SUM m5 9 m21 4 m40], running sums 9 3 m20 3 m8
    m3 [MAX m7 2 m20 3 m8 1 m1] is m3 3
    Final answer: 3

A line ends with its operator's mark, its answer, and the mark where the operator round it goes on. Marks are the
vocabulary's sentinels, one piece each.
"""

import random
from itertools import pairwise

from explainft.listops.expression import Tree, apply, format

MARKS = 128


def marked(tree: Tree, draw: int = 0) -> tuple[str, str]:
    """Inputs and targets of an expression of at most MARKS tokens, SUM modulo 10; each `draw` gives other marks."""
    expression = format(tree)
    tokens = expression.split()
    marks = random.Random(f"{draw} {expression}").sample(range(MARKS), len(tokens))
    operators = [place for place, token in enumerate(tokens) if token.startswith("[")]
    before = dict(pairwise(reversed(operators)))
    inputs = ""
    for place, token in enumerate(tokens):
        inputs += _sentinel(marks[place]) + (_sentinel(marks[before[place]]) if place in before else "") + f" {token}"
    values: dict[int, int] = {}  # of each bracket's place that was passed
    ends: dict[int, int] = {}  # and where its operator ends
    lines = []
    for start in reversed(operators):
        line = f"{_sentinel(marks[start])} {tokens[start]}"
        arguments = []
        place = start + 1
        while tokens[place] != "]":
            arguments.append(values[place] if place in values else int(tokens[place]))
            line += f"{_sentinel(marks[place])} {arguments[-1]}"
            place = ends.get(place, place) + 1
        operator = tokens[start][1:]
        values[start], ends[start] = apply(operator, arguments, 10), place
        line += f"{_sentinel(marks[place])}{_working(operator, arguments)}{_sentinel(marks[start])} {values[start]}"
        lines.append(line + "".join(_sentinel(mark) for mark in marks[place + 1 : place + 2]))
    return inputs, "\n".join([*lines, f"Final answer: {values[0]}"])


def _working(operator: str, arguments: list[int]) -> str:
    """In words of the styles that the vocabulary has as pieces; sums modulo 10 from the first on."""
    if operator == "SUM":
        return "], running sums" + "".join(f" {sum(arguments[: i + 1]) % 10}" for i in range(len(arguments)))
    if operator == "MED":
        return f"MED, sorted list, [{', '.join(map(str, sorted(arguments)))}], MEDIAN is"
    return "] is"


def _sentinel(mark: int) -> str:
    return f" <extra_id_{mark}>"
