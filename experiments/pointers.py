"""Explanations that carry to longer expressions: each token has a mark, and every step says where it looks.

A network that has learned to find things by their place loses its place in an expression longer than it has seen. Here
each token of the expression has a mark of its own, drawn anew for each expression: an ascending choice from a
random stretch of MARKS, so that short expressions train all of them, far apart and as close together as they are in
long ones. An explanation takes the operators from the last bracket to the first. The
arguments of each stand in a row then, but for operators whose lines are written already, and each step asks only for
what stands next to a mark, or what followed the same mark before.

    m3 [MAX m7 2 m8 [SUM m20 9 m21 4 m40 ] m41 1 m90 ]

    m8 [SUM m20 9 m21 4 m40], sum is 13 m8 3
    m3 [MAX m7 2 m8 3 m41 1 m90] is m3 3
    Final answer: 3

`]` of an inner operator ends its line's list, and the outer one goes on behind that mark. Marks are the vocabulary's
sentinels, one piece each.
"""

import random

from explainft.listops.expression import apply

MARKS = 200


def marked(expression: str, modulus: int = 10) -> tuple[str, str]:
    """Inputs and targets of an expression in bracket form of at most MARKS tokens; the expression draws its marks."""
    tokens = expression.split()
    draw = random.Random(expression)
    stretch = draw.randint(len(tokens), MARKS)
    first = draw.randint(0, MARKS - stretch)
    marks = sorted(draw.sample(range(first, first + stretch), len(tokens)))
    inputs = "".join(f"{_sentinel(mark)} {token}" for mark, token in zip(marks, tokens, strict=True))
    values: dict[int, int] = {}  # of each bracket's place that was passed
    ends: dict[int, int] = {}  # and where its operator ends
    lines = []
    for start in reversed(range(len(tokens))):
        if not tokens[start].startswith("["):
            continue
        line = f"{_sentinel(marks[start])} {tokens[start]}"
        arguments = []
        place = start + 1
        while tokens[place] != "]":
            arguments.append(values[place] if place in values else int(tokens[place]))
            line += f"{_sentinel(marks[place])} {arguments[-1]}"
            place = ends.get(place, place) + 1
        operator = tokens[start][1:]
        values[start], ends[start] = apply(operator, arguments, modulus), place
        line += f"{_sentinel(marks[place])}{_working(operator, arguments)}{_sentinel(marks[start])} {values[start]}"
        lines.append(line)
    return inputs, "\n".join([*lines, f"Final answer: {values[0]}"])


def _working(operator: str, arguments: list[int]) -> str:
    """In the words of the style medium, which the vocabulary has as pieces."""
    if operator == "SUM":
        return f"], sum is {sum(arguments)}"
    if operator == "MED":
        return f"MED, sorted list, [{', '.join(map(str, sorted(arguments)))}], MEDIAN is"
    return "] is"


def _sentinel(mark: int) -> str:
    return f" <extra_id_{mark}>"
