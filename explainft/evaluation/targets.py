"""What a task's postprocessor keeps of an example, and how metrics and reports read it: as JSON in prediction files."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from explainft.data import multitask
from explainft.data.questions import forms
from explainft.problems.problem import Example, Problem, StepCheck
from explainft.problems.registry import PROBLEMS, get_problem

QUESTION_FIELDS = ("id", "question", "choices", "answer", "explanation")


def postprocess_listops(
    text: str | bytes,
    example: Mapping[str, Any] | None = None,
    is_target: bool = False,
    *,
    style: str,
    modulus: int = 10,
    form: str | None = None,
) -> Any:
    """Postprocesses as SeqIO asks. A prediction stays text; a target becomes what metrics need of its example.

    The example has the fields `expression` and `answer`, as numpy values, bytes or JSON. The gold text is not used:
    every step is derived from the expression. Of a multi-task `form` it has the field `task` too.
    """
    if not is_target:
        return _text(text)
    if example is None:
        raise ValueError("a target needs its example: the fields expression and answer")
    explains = form is not None and _text(example["task"]) == multitask.EXPLANATION
    return {
        "expression": _text(example["expression"]),
        "answer": int(example["answer"]),
        "style": style if form is None or explains else "none",
        "modulus": modulus,
        **({"form": f"{form}_{multitask.EXPLANATION}"} if explains else {}),
    }


def postprocess_question(
    text: str | bytes, example: Mapping[str, Any] | None = None, is_target: bool = False, *, problem: str, form: str
) -> Any:
    """Postprocesses as SeqIO asks: a prediction stays text, a target becomes its question with all of its fields.

    `problem` names one of explainft.problems, `form` how the targets of the task are made (questions.forms, or
    data.multitask, whose rows have the field `task`). The example has QUESTION_FIELDS and `fields`, a JSON object of
    the others.
    """
    if not is_target:
        return _text(text)
    if example is None:
        raise ValueError("a target needs its example: the fields of an imported question")
    choices = [_text(choice) for choice in example["choices"]]
    own = {name: _text(example[name]) for name in QUESTION_FIELDS if name != "choices"}
    fields = json.loads(_text(example["fields"]))
    if form in multitask.FORMS:
        explains = _text(example["task"]) == multitask.EXPLANATION
        form = f"{form}_{multitask.EXPLANATION}" if explains else "answer"
    return {"problem": problem, "form": form, "example": {**fields, **own, **({"choices": choices} if choices else {})}}


def postprocess_sample(
    text: str | bytes, example: Mapping[str, Any] | None = None, is_target: bool = False, **generator: Any
) -> Any:
    """Postprocesses as SeqIO asks: a prediction stays text, a target becomes what its example has as `target`.

    `generator` is kept in checkpoints: by it the outputs of a run that generates are read, see metadata.describe.
    """
    if not is_target:
        return _text(text)
    if example is None:
        raise ValueError("a target needs its example: the field target of a sample")
    return json.loads(_text(example["target"]))


@dataclasses.dataclass(frozen=True)
class Target:
    """A gold example with its problem.

    `form`, one of forms.READABLE, is how outputs are read: None where whole, as those of ListOps are.
    """

    problem: Problem
    example: Example
    form: str | None = None

    def read_answer(self, output: str) -> str | None:
        """Returns the final answer of an output, or None where there is none."""
        part = output if self.form is None else forms.answer_part(output, self.form)
        answer = self.problem.read_answer(part, self.example)
        if answer is None and self.form is not None and part.startswith(forms.STATEMENT):  # read alone by some problems
            return self.problem.read_answer(part.removeprefix(forms.STATEMENT).rstrip(". \n"), self.example)
        if answer is None and self.form == "answer" and "\n" not in part:  # a word, where a number was looked for
            return self.problem.read_answer(forms.STATEMENT + part, self.example)
        return answer

    def is_correct(self, answer: str | None) -> bool:
        """Returns whether an answer equals the gold one."""
        return answer is not None and self.problem.equal(answer, str(self.example["answer"]), self.example)

    def explanation(self, output: str) -> str:
        """Returns the part of an output that explains."""
        return output if self.form is None else forms.explanation_part(output, self.form)

    def check(self, output: str) -> StepCheck | None:
        """Checks the steps of an output; None where there are none to check, as of permuted words."""
        if multitask.SHUFFLED in (self.form or ""):
            return None
        return self.problem.check(self.explanation(output), self.example)


def read_target(target: Any) -> Target | None:
    """Returns what a postprocessor of this module kept; None for anything else, as tasks of the user's own keep it."""
    if not isinstance(target, Mapping):
        return None
    if isinstance(target.get("example"), Mapping) and target.get("problem") in PROBLEMS:
        if target.get("form") not in forms.READABLE or not {"question", "answer"} <= set(target["example"]):
            return None
        return Target(get_problem(target["problem"]), target["example"], target["form"])
    kinds = {"expression": str, "answer": int, "style": str, "modulus": int}
    if all(isinstance(target.get(name), kind) for name, kind in kinds.items()):
        example = {"question": target["expression"], **{name: target[name] for name in ("answer", "style", "modulus")}}
        form = target.get("form")
        return Target(get_problem("listops"), example, form if form in multitask.EXPLANATION_FORMS else None)
    return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
