"""Classifies the first error of an explanation, on which later ones may only follow."""

from collections.abc import Sequence
from typing import NamedTuple

from explainft.listops.explain import Step, check, explain, lines, read, steps
from explainft.listops.expression import Tree

# Every kind, with what it means for the first incorrect step; exactly one holds.
ERROR_KINDS = {
    "list": "a step is missing, surplus or out of order: its list is that of another step",
    "operator": "an incorrect operator",
    "copy": "the correct operator over an incorrect list: a value changed, lost, added or moved",
    "arithmetic": "the correct operator and list, but an incorrect sorting, sum or result",
    "malformed": "not a step of the style, or no final answer",
    "answer": "every step is correct, the final answer is not",
}


class FirstError(NamedTuple):
    """A key of ERROR_KINDS, and its zero-based step; None for the final answer."""

    kind: str
    step: int | None


def first_error(text: str, tree: Tree, style: str, modulus: int = 10) -> FirstError | None:
    """Returns the first error of an explanation; None exactly where `check` finds it valid.

    Style "short" shows no lists. There the kind is "list" where the step equals another one and the operators after it
    are out of place.
    """
    checked = check(text, tree, style, modulus)
    shown = read(text, style).steps
    k = checked.first_wrong_step
    if k is None:
        if checked.answer_correct:
            return None
        return FirstError("malformed" if checked.final_answer is None else "answer", None)
    if k >= len(shown):
        return FirstError("malformed" if checked.final_answer is None else "list", k)
    step = shown[k]
    if step is None:
        return FirstError("malformed", k)
    if k >= checked.steps_total:
        return FirstError("list", k)
    return FirstError(_kind(step, k, shown, steps(tree, style, modulus), steps(tree, "long", modulus)), k)


def _kind(step: Step, k: int, shown: Sequence[Step | None], gold: Sequence[Step], full: Sequence[Step]) -> str:
    """Returns the kind for a readable step that differs from `gold`'s; `full` holds the gold steps with their lists."""
    own_list = _has_list_of(step, full[k])
    own_operator = step.operator == full[k].operator
    # Under the correct operator, a list that another operator has too is there by chance.
    candidates = [other for other in full if not own_operator or other.operator == step.operator]
    list_of_another = not own_list and any(_has_list_of(step, other) for other in candidates)
    in_place = [other and other.operator for other in shown[k + 1 :]] == [other.operator for other in gold[k + 1 :]]
    if list_of_another or (step in gold and not in_place):
        return "list"
    if not own_operator:
        return "operator"
    return "arithmetic" if own_list else "copy"


def _has_list_of(step: Step, full: Step) -> bool:
    """Returns whether the list of the step, if it shows any, is that of `full`."""
    if step.arguments:
        return step.arguments == full.arguments
    # The MED of style "medium" shows its list sorted, or tries to.
    return not step.working or sorted(step.working[0]) == sorted(full.arguments)


def lines_of_step(text: str, tree: Tree, style: str, step: int, modulus: int = 10) -> tuple[str | None, str | None]:
    """Returns the gold line of a zero-based step and the line in its place; None where there is no such line."""
    gold = explain(tree, style, modulus).split("\n")[: len(steps(tree, style, modulus))]
    shown = lines(text)[: len(read(text, style).steps)]
    return (gold[step] if step < len(gold) else None, shown[step] if step < len(shown) else None)
