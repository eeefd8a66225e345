"""Explanations that carry to numbers never seen: no step looks at more of a number than one digit.

A network that has seen 12 and 25 whole has no use for the digits of 22. Here every number has two digits, in inputs
too, and the steps compare, sort and add tens and units apart. The compact vocabulary has two sets of digits, those that
begin a word and those that go on with it: the tens and the units, so that a piece says itself which of the two it is.

    [MED 12 [MAX 25 07 22 ] 20 08 ]

    [MAX 25 07 22 ] 2: 25 22= 25
    [MED 12 25 20 08 ] 0 1 2 2: 08 12 20 25: 12 20 02 32= 16
    Final answer: 16

MIN and MAX find the tens, then the units of those that have them; MED sorts the tens, then the numbers, and adds the
middle two, units first, to halve the sum; SUM runs through the units alone, whose sum has the last digit of the whole.
"""

from explainft.listops.expression import Tree, applications, format, median_values

LARGEST = 49  # two of them added still have two digits


def digits(tree: Tree, draw: int = 0) -> tuple[str, str]:
    """Inputs and targets of an expression with numbers up to LARGEST, SUM modulo 10; every `draw` gives the same."""
    del draw
    inputs = " ".join(token if token[0] in "[]" else f"{int(token):02}" for token in format(tree).split())
    lines = [_line(operator, arguments, answer) for operator, arguments, answer in applications(tree)]
    return inputs, "\n".join([*lines, f"Final answer: {lines[-1][-2:]}"])


def _line(operator: str, arguments: list[int], answer: int) -> str:
    return f"[{operator} {_two(arguments)} ]{_working(operator, arguments)}= {answer:02}"


def _working(operator: str, arguments: list[int]) -> str:
    if operator == "SUM":
        return " " + _two(sum(arguments[: i + 1]) % 10 for i in range(len(arguments)))
    if operator == "MED":
        middle = median_values(arguments)
        ordered = sorted(arguments)
        added = [sum(n % 10 for n in middle), sum(middle)] if len(middle) == 2 else []
        return f" {' '.join(str(n // 10) for n in ordered)}: {_two(ordered)}: {_two([*middle, *added])}"
    tens = (min if operator == "MIN" else max)(n // 10 for n in arguments)
    return f" {tens}: {_two(n for n in arguments if n // 10 == tens)}"


def _two(numbers) -> str:
    return " ".join(f"{n:02}" for n in numbers)
