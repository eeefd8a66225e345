"""The first mistake of an explanation, by kind: what went wrong before anything else could."""

from collections.abc import Sequence
from typing import NamedTuple

from explainft.listops.explain import Step, check, read, steps
from explainft.listops.expression import Tree

# Every kind, with what it says of the first wrong step; exactly one holds.
ERROR_KINDS = {
    "list": "a step is missing, surplus or out of turn: its list is that of another step",
    "operator": "another operator than the right one",
    "copy": "the right operator over a wrong list: a value changed, lost, added or moved",
    "arithmetic": "the right operator and list, and a wrong sorting, sum or result",
    "malformed": "no step of the style, or no final answer",
    "answer": "every step is right, the final answer is not",
}


class FirstError(NamedTuple):
    """A key of ERROR_KINDS, and the zero-based step it is in; None for the final answer."""

    kind: str
    step: int | None


def first_error(text: str, tree: Tree, style: str, modulus: int = 10) -> FirstError | None:
    """The first mistake of an explanation; None exactly where `check` finds it valid.

    Style "short" shows no lists. There a step counts as another's, kind "list", where it equals one and the operators
    of the rest stand out of place.
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
    """Of a step that can be read and is not that of `gold`; `full` are the same steps with their lists in any style."""
    own_list = _about(step, full[k])
    own_operator = step.operator == full[k].operator
    # Under its own operator, a list that stands under another one too is there by chance.
    others = [other for other in full if not own_operator or other.operator == step.operator]
    anothers_list = not own_list and any(_about(step, other) for other in others)
    in_place = [other and other.operator for other in shown[k + 1 :]] == [other.operator for other in gold[k + 1 :]]
    if anothers_list or (step in gold and not in_place):
        return "list"
    if not own_operator:
        return "operator"
    return "arithmetic" if own_list else "copy"


def _about(step: Step, full: Step) -> bool:
    """Whether the list that the step shows, if it shows any, is that of the other one."""
    if step.arguments:
        return step.arguments == full.arguments
    # The MED of style "medium" shows its list sorted, or means to.
    return not step.working or sorted(step.working[0]) == sorted(full.arguments)
