"""Pointer marks: explanations that generalize to longer expressions, because every step names where it looks.

A model that has learned to find tokens by position fails in an expression longer than it has seen. Here each token of
the expression has a mark, sampled at random: an ascending choice from a random range of MARKS, so that short
expressions train all marks, far apart and as close together as in long ones. Operators have marks of another kind,
consecutive from a random one on: the mark before is known without a search. An explanation takes the operators from the
last bracket to the first. The arguments of each are then adjacent, except for operators whose lines are already
generated. Each step needs only the token next to a mark, or what followed the same mark before.

    o5 [MAX m7 2 o6 [SUM m20 9 m21 4 m40 ] m41 1 m90 ]

    o6 [SUM m20 9 m21 4 m40], running sums 9 3 o6 3 m41
    o5 [MAX m7 2 o6 3 m41 1 m90] is o5 3
    Final answer: 3

A line ends with its operator's mark, its answer, and the mark where the enclosing operator continues. Marks are the
vocabulary's sentinels, one token each.
"""

import random
from itertools import count

from explainft.listops.expression import Tree, apply, format

MARKS = 120
OPERATOR_MARKS = 40  # the sentinels after them


def marked(tree: Tree, draw: int = 0) -> tuple[str, str]:
    """Returns inputs and targets of an expression, SUM modulo 10; each `draw` gives other marks.

    An expression has at most MARKS tokens and OPERATOR_MARKS operators.
    """
    expression = format(tree)
    tokens = expression.split()
    marks = _marks(tokens, random.Random(f"{draw} {expression}"))
    inputs = "".join(f"{_sentinel(mark)} {token}" for mark, token in zip(marks, tokens, strict=True))
    values: dict[int, int] = {}  # of the operator at each position
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
        values[start], ends[start] = apply(operator, arguments, 10), place
        line += f"{_sentinel(marks[place])}{_working(operator, arguments)}{_sentinel(marks[start])} {values[start]}"
        lines.append(line + "".join(_sentinel(mark) for mark in marks[place + 1 : place + 2]))
    return inputs, "\n".join([*lines, f"Final answer: {values[0]}"])


def _marks(tokens: list[str], rng: random.Random) -> list[int]:
    operators = sum(token.startswith("[") for token in tokens)
    others = len(tokens) - operators
    stretch = rng.randint(others, MARKS)
    first = rng.randint(0, MARKS - stretch)
    of_others = iter(sorted(rng.sample(range(first, first + stretch), others)))
    of_operators = count(MARKS + rng.randint(0, OPERATOR_MARKS - operators))
    return [next(of_operators if token.startswith("[") else of_others) for token in tokens]


def _working(operator: str, arguments: list[int]) -> str:
    """In words of the styles that are tokens of the vocabulary; sums modulo 10 from the first on."""
    if operator == "SUM":
        return "], running sums" + "".join(f" {sum(arguments[: i + 1]) % 10}" for i in range(len(arguments)))
    if operator == "MED":
        return f"MED, sorted list, [{', '.join(map(str, sorted(arguments)))}], MEDIAN is"
    return "] is"


def _sentinel(mark: int) -> str:
    return f" <extra_id_{mark}>"
