"""A line at a time: the network reads an expression and writes the line that comes first in its explanation.

The list of that line, replaced by its answer, leaves a shorter expression, which it reads next, until a number is left.

    [MED 6 [SUM 7 5 ] [MAX 9 6 ] ]      SUM, add [7, 5], sum is 12, answer is 2
    [MED 6 2 [MAX 9 6 ] ]               Max, largest number of [9, 6] is 9
    [MED 6 2 9 ]                        MED, sorted list, [2, 6, 9], MEDIAN is 6
    6                                   Final answer: 6

The lines together are the explanation of the style medium. Each is found by the same look at what is read, the list
that closes first, so that an expression twice as long asks for more lines and for nothing new. All that is done outside
the network is to put an answer in the place of the list that its line names.
"""

import functools
import re

from explainft import listops
from explainft.listops import Tree

_LIST = re.compile(r"\[([A-Z]+)((?: [0-9]+)+) \]")


def step(tree: Tree, number: int = 0) -> tuple[str, str]:
    """Inputs and targets of a line, counted from 0; the last is the final answer's."""
    return _steps(tree)[number]


@functools.lru_cache(maxsize=1)  # the lines of a tree are asked for one after the other
def _steps(tree: Tree) -> list[tuple[str, str]]:
    lines = listops.explain(tree, "medium").split("\n")
    inputs = [listops.format(tree)]
    for line in lines[:-1]:
        inputs.append(next_input(inputs[-1], line) or "")
    return list(zip(inputs, lines, strict=True))


def far_step(tree: Tree, number: int = 0) -> tuple[str, str]:
    """The same of lines that are drawn more often, the longer their inputs have a stretch in which nothing closes.

    There a list is far from what tells it from the first, the last bracket that closed. Short expressions have few such
    stretches, longer ones more.
    """
    return _far_steps(tree)[number]


def far_count(tree: Tree) -> int:
    """How often lines of the expression are drawn by far_step."""
    return len(_far_steps(tree))


@functools.lru_cache(maxsize=1)
def _far_steps(tree: Tree) -> list[tuple[str, str]]:
    return [step for step in _steps(tree) for _ in range(2 ** (_stretch(step[0]) // 2))]


def _stretch(inputs: str) -> int:
    """The most tokens between a closing bracket and the next."""
    return max((len(between.split()) for between in inputs.split("]")[1:-1]), default=0)


def whole(tree: Tree, number: int = 0) -> tuple[str, str]:
    """The whole explanation, which the lines of all steps are held against."""
    del number
    return listops.format(tree), listops.explain(tree, "medium")


def count(tree: Tree) -> int:
    """Lines of the explanation."""
    return len(listops.operators(tree)) + 1


def next_input(inputs: str, line: str) -> str | None:
    """The expression with the line's answer in the place of its list, the first where there are more; None if it has
    no such list, as after the final answer.

    MED's line has the list sorted: lists count as equal in any order.
    """
    [found] = listops.read(line, "medium").steps[:1] or [None]
    if found is None:
        return None
    numbers = sorted(found.arguments or found.working[0])
    for match in _LIST.finditer(inputs):
        if match[1] == found.operator and sorted(map(int, match[2].split())) == numbers:
            return f"{inputs[: match.start()]}{found.answer}{inputs[match.end() :]}"
    return None


def next_input_or_resample(inputs: str, line: str) -> str | None:
    """The same, but a line that names no list of what is read is to be written again: it cannot be right.

    What is right of a list that is there, nobody is asked.
    """
    left = next_input(inputs, line)
    return inputs if left is None and "[" in inputs else left
