"""Verdicts on predictions: the first error of an output, by the problem of its example."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from explainft import listops
from explainft.evaluation.targets import Target
from explainft.problems import equations
from explainft.problems.listops import CHECKED_STYLES

VALID, CORRECT, WRONG_STEP, WRONG_ANSWER, NO_ANSWER, CUT = "valid", "correct", "step", "answer", "unanswered", "cut"


class Kind(NamedTuple):
    """A kind of verdict, as tables, charts and legends show it."""

    label: str
    colour: str
    meaning: str


# In the order in which they are shown. The colours are Okabe and Ito's, which the colour-blind can tell apart; kinds of
# one colour are alike, and those of one problem differ.
KINDS = {
    VALID: Kind(
        "valid",
        "#c9d3dc",
        "every step and the final answer are correct; where a task has no steps to check (style none, and styles of "
        "one's own), the final answer alone is checked",
    ),
    CORRECT: Kind("correct", "#c9d3dc", "the final answer is correct, and no step that can be checked is incorrect"),
    "operator": Kind("wrong operator", "#D55E00", listops.ERROR_KINDS["operator"]),
    "list": Kind("wrong list", "#56B4E9", listops.ERROR_KINDS["list"]),
    "copy": Kind("copy error", "#E69F00", listops.ERROR_KINDS["copy"]),
    "arithmetic": Kind("wrong arithmetic", "#0072B2", listops.ERROR_KINDS["arithmetic"]),
    "malformed": Kind("malformed", "#000000", listops.ERROR_KINDS["malformed"]),
    WRONG_STEP: Kind("wrong step", "#0072B2", "a step is incorrect, whatever the final answer is"),
    WRONG_ANSWER: Kind("wrong answer", "#CC79A7", "the final answer is incorrect, and no step that can be checked is"),
    NO_ANSWER: Kind("no answer", "#000000", "no final answer can be read from the output"),
    CUT: Kind("cut", "#F0E442", "cut at the length limit before any error, and without a correct answer"),
}


class Verdict(NamedTuple):
    """A key of KINDS, with the answer that was read and whether it is correct.

    `step` is the zero-based first wrong step, and `place` its position in the explanation, where that is known.
    """

    kind: str
    answer: str | None
    correct: bool
    step: int | None = None
    place: tuple[int, int] | None = None


def judge(target: Target, output: str, cut: bool = False) -> Verdict:
    """Returns the verdict on an output; `cut` specifies that it was cut at the length limit.

    The first wrong step counts before the answer. An output that was cut has the kind CUT where its error lies in what
    was cut off or in the line that the cut went through; an error before that counts as it is, and so does a correct
    output.
    """
    return _judge_listops(target, output, cut) if is_listops(target) else _judge_question(target, output, cut)


def is_listops(target: Target) -> bool:
    """Returns whether a target is of a ListOps task, whose explanations are compared with the expression's own."""
    return target.form is None


def occurring(kinds: Iterable[str]) -> dict[str, Kind]:
    """Returns those of KINDS that occur, in their order."""
    found = set(kinds)
    return {name: kind for name, kind in KINDS.items() if name in found}


def checked_style(example: Mapping[str, Any]) -> str:
    """The style by which an output is checked; "none", the answer alone, where it is none of those with rules."""
    return example["style"] if example["style"] in CHECKED_STYLES else "none"


def _judge_listops(target: Target, output: str, cut: bool) -> Verdict:
    example = target.example
    style, answer = checked_style(example), target.read_answer(output)
    correct = target.is_correct(answer)
    error = listops.first_error(output, listops.parse(example["question"]), style, example["modulus"])
    if error is None:
        return Verdict(VALID, answer, correct)
    if cut:
        steps = len(listops.read(output, style).steps)
        whole = steps if len(listops.lines(output)) > steps else steps - 1  # the cut went through the last line
        if error.step is None or error.step >= whole:
            return Verdict(CUT, answer, correct, error.step)
    return Verdict(error.kind, answer, correct, error.step)


def _judge_question(target: Target, output: str, cut: bool) -> Verdict:
    answer = target.read_answer(output)
    correct = target.is_correct(answer)
    check = target.check(output)
    if check is not None and check.first_wrong_step is not None:
        place = _place(target, output, check.first_wrong_step)
        if not (cut and place and _ends_output(target, output, place[1])):
            return Verdict(WRONG_STEP, answer, correct, check.first_wrong_step, place)
    if correct:
        return Verdict(CORRECT, answer, correct)
    if cut:
        return Verdict(CUT, answer, correct)
    return Verdict(NO_ANSWER if answer is None else WRONG_ANSWER, answer, correct)


def _place(target: Target, output: str, step: int) -> tuple[int, int] | None:
    if target.problem.name != "math":
        return None
    found = equations.find_steps(target.explanation(output))[step]
    return found.start, found.end


def _ends_output(target: Target, output: str, end: int) -> bool:
    """Returns whether the cut may have gone through the step that ends there: the last number of an equation."""
    explanation = target.explanation(output).rstrip()
    return end >= len(explanation) and not explanation.endswith(">") and output.rstrip().endswith(explanation)
