"""Explanations by digits, which generalize to unseen numbers: no step reads more than one digit of a number.

A model that has seen 12 and 25 as wholes learns nothing of the digits of 22. Here every number has two digits, in
inputs too, and the steps compare, sort and add tens and units separately. The compact vocabulary has two sets of
digits, those that begin a word and those that continue it: a token shows whether it is of the tens or the units.

    [MED 12 [MAX 25 07 22 ] 20 08 ]

    [MAX 25 07 22 ] 2: 25 22= 25
    [MED 12 25 20 08 ] 0 1 2 2: 08 12 20 25: 12 20 02 32= 16
    Final answer: 16

MIN and MAX find the tens, then the units of the numbers with these tens. MED sorts the tens, then the numbers, and adds
the middle two, units first, to halve the sum. SUM adds the units alone, whose sum has the last digit of the total.
"""

from explainft.listops.expression import Tree, applications, format, median_values

LARGEST = 49  # two of them added still have two digits


def digits(tree: Tree, draw: int = 0) -> tuple[str, str]:
    """Returns inputs and targets of an expression with numbers up to LARGEST, SUM modulo 10; `draw` is ignored."""
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
