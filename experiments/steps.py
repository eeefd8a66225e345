"""One line per round: the model reads an expression and generates the first line of its explanation.

That line's list, replaced by its answer, leaves a shorter expression: the next input, until a number is left.

    [MED 6 [SUM 7 5 ] [MAX 9 6 ] ]      SUM, add [7, 5], sum is 12, answer is 2
    [MED 6 2 [MAX 9 6 ] ]               Max, largest number of [9, 6] is 9
    [MED 6 2 9 ]                        MED, sorted list, [2, 6, 9], MEDIAN is 6
    6                                   Final answer: 6

The lines together are the explanation of the style medium. Each round does the same: it finds the list that closes
first. An expression twice as long takes more rounds and no new skill. Code outside the model only replaces the list
that a line names by the line's answer.
"""

import functools
import re

from explainft import listops
from explainft.listops import Tree

_LIST = re.compile(r"\[([A-Z]+)((?: [0-9]+)+) \]")


def step(tree: Tree, index: int = 0) -> tuple[str, str]:
    """Returns inputs and targets of a round, counted from 0; the last is the final answer's."""
    return _steps(tree)[index]


def num_steps(tree: Tree) -> int:
    """Returns the number of rounds, which is that of the explanation's lines."""
    return len(listops.operators(tree)) + 1


@functools.lru_cache(maxsize=1)  # the rounds of a tree are read one after the other
def _steps(tree: Tree) -> list[tuple[str, str]]:
    lines = listops.explain(tree, "medium").split("\n")
    inputs = [listops.format(tree)]
    for line in lines[:-1]:
        inputs.append(next_input(inputs[-1], line) or "")
    return list(zip(inputs, lines, strict=True))


def oversampled_step(tree: Tree, index: int = 0) -> tuple[str, str]:
    """Returns one of the rounds, which are repeated the more, the longer their inputs' longest stretch without a `]`.

    There a list is far from the last bracket that closed, by which it is found. Such stretches are few in short
    expressions and more in long ones.
    """
    return _oversampled_steps(tree)[index]


def num_oversampled_steps(tree: Tree) -> int:
    """Returns the number of rounds, repetitions included."""
    return len(_oversampled_steps(tree))


@functools.lru_cache(maxsize=1)
def _oversampled_steps(tree: Tree) -> list[tuple[str, str]]:
    return [step for step in _steps(tree) for _ in range(2 ** (_longest_stretch(step[0]) // 2))]


def _longest_stretch(inputs: str) -> int:
    """Returns the maximum number of tokens between a closing bracket and the next."""
    return max((len(between.split()) for between in inputs.split("]")[1:-1]), default=0)


def explanation(tree: Tree, index: int = 0) -> tuple[str, str]:
    """Returns the expression and its full explanation, the gold target of all rounds together."""
    del index
    return listops.format(tree), listops.explain(tree, "medium")


def next_input(inputs: str, line: str) -> str | None:
    """Returns the expression with the line's list replaced by its answer; None where it holds no such list.

    Of several equal lists the first is replaced. MED's line has its list sorted: lists are equal in any order.
    """
    [found] = listops.read(line, "medium").steps[:1] or [None]
    if found is None:
        return None
    numbers = sorted(found.arguments or found.working[0])
    for match in _LIST.finditer(inputs):
        if match[1] == found.operator and sorted(map(int, match[2].split())) == numbers:
            return f"{inputs[: match.start()]}{found.answer}{inputs[match.end() :]}"
    return None


def next_input_or_reject(inputs: str, line: str) -> str | None:
    """Returns `next_input`, but rejects a line that names no list of the expression: it cannot be correct.

    Whether the answer for a list is correct is not checked.
    """
    following = next_input(inputs, line)
    return inputs if following is None and "[" in inputs else following
