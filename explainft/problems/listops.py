"""ListOps as a problem: explanations are checked exactly, step by step."""

import re

from explainft import listops
from explainft.problems.problem import Example, StepCheck

_STATEMENT = re.compile(r"\s*the answer is (-?\d{1,18})\.?\s*", re.I)  # of outputs in the forms of imported questions
CHECKED_STYLES = ("short", "medium", "long")  # "none" has no steps


class ListOps:
    """Nested list operations. `question` is the expression; `style` and `modulus` default to medium and 10."""

    name = "listops"

    def read_answer(self, output: str, example: Example) -> str | None:
        stated = _STATEMENT.fullmatch(output)
        answer = int(stated[1]) if stated else listops.final_answer(output)
        return None if answer is None else str(answer)

    def equal(self, answer: str, other: str, example: Example) -> bool:
        return answer.strip() == other.strip()

    def check(self, explanation: str, example: Example) -> StepCheck | None:
        """Compares each step with the expression's own. Returns None where nothing can be checked."""
        style = str(example.get("style", "medium"))
        tree = _tree(example)
        if style not in CHECKED_STYLES or tree is None:
            return None
        found = listops.check(explanation, tree, style, int(example.get("modulus", 10)))
        wrong = found.steps_total - found.steps_correct  # missing ones count, surplus ones do not
        present = len(listops.lines(explanation)) - (listops.final_answer(explanation) is not None)
        missing = max(0, found.steps_total - present)
        return StepCheck(found.steps_correct, wrong, 0, found.first_wrong_step, missing)

    def groups(self, example: Example) -> dict[str, str]:
        """Returns the root's operator (the last operation before the answer), the depth and a bucket of lengths.

        Buckets hold 5 lengths, from 60 on 10.
        """
        tree = _tree(example)
        if not isinstance(tree, listops.Node):
            return {}
        length = listops.length(tree)
        width = 5 if length < 60 else 10
        start = length - length % width
        return {
            "operator": tree.operator,
            "depth": str(listops.depth(tree)),
            "length": f"{start}-{start + width - 1}",
        }

    def chance(self, example: Example) -> float | None:
        return None


class ListOpsStep:
    """One step of an expression: the answer is the first line of its explanation in the style medium, and it alone."""

    name = "listops_step"

    def read_answer(self, output: str, example: Example) -> str | None:
        return None if _step(output) is None else output.strip()

    def equal(self, answer: str, other: str, example: Example) -> bool:
        step = _step(answer)
        return step is not None and step == _step(other)

    def check(self, explanation: str, example: Example) -> StepCheck | None:
        return None

    def groups(self, example: Example) -> dict[str, str]:
        """Returns the operator of the step."""
        step = _step(str(example["answer"]))
        return {} if step is None else {"operator": step.operator}

    def chance(self, example: Example) -> float | None:
        return None


def _step(text: str) -> listops.Step | None:
    """Returns the step that a text is; None where it is another text, or more than one step."""
    shown = listops.read(text, "medium")
    return shown.steps[0] if len(shown.steps) == 1 and shown.final_answer is None else None


def _tree(example: Example) -> listops.Tree | None:
    try:
        return listops.parse(str(example["question"]))
    except listops.ListOpsError:
        return None
