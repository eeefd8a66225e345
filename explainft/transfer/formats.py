"""The format of an output: which kind of target it is written like.

A model that was trained to write one format may keep to it where another is asked for (format specialization).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from explainft import listops
from explainft.data import multitask
from explainft.data.questions import forms
from explainft.evaluation.targets import Target
from explainft.problems.listops import CHECKED_STYLES
from explainft.problems.problem import Example
from explainft.problems.registry import PROBLEMS, get_problem

NONE = "none"  # the style of an answer alone


class OutputFormat(NamedTuple):
    """A format. `form` is how the targets of questions and of multi-task forms are made, `style` that of ListOps."""

    problem: str
    form: str | None = None
    style: str | None = None

    @property
    def name(self) -> str:
        """The format in a few words: "listops medium", "choice explain_answer"."""
        return " ".join(part for part in self if part)


def format_of_target(target: Target) -> OutputFormat | None:
    """Returns the format that an evaluation asks for; None where it has no rules, as a style of the user's own."""
    return make_format(target.problem.name, target.form, target.example.get("style"))


def make_format(problem: str, form: str | None, style: str | None) -> OutputFormat | None:
    """Returns a format by its parts; None where it has no rules."""
    if multitask.SHUFFLED in (form or ""):
        return None
    if problem != "listops" or form in ("explain_answer", "answer_explain"):
        return OutputFormat(problem, form)
    if form == "answer":  # the number alone, as in the style none
        return OutputFormat(problem, None, NONE)
    return OutputFormat(problem, form, style) if style in (NONE, *CHECKED_STYLES) else None


def formats_of_run(meta: Mapping[str, Any]) -> list[OutputFormat]:
    """Returns the formats that a run was trained to write, by the metadata of its checkpoint: two of a multi-task form.

    The list is empty where they are not known, as of a verifier and of a checkpoint of another program.
    """
    if meta.get("verifier"):
        return []
    explanation, questions = meta.get("explanation") or {}, meta.get("questions") or {}
    problem, style = ("listops", explanation.get("style")) if explanation else (questions.get("problem"), None)
    if problem not in PROBLEMS:
        return []
    form = explanation.get("form") or questions.get("form")
    named = [form] if form not in multitask.FORMS else _parts(form, problem)
    found = []
    for name in named:
        is_answer = form is not None and name is None
        found.append(make_format(problem, name, NONE if is_answer else style))
    return [one for one in found if one is not None]


def _parts(form: str, problem: str) -> list[str | None]:
    """Returns the forms of the outputs of a multi-task form's tasks; the answers of ListOps have none."""
    answer = None if problem == "listops" else "answer"
    return [answer, *(name for name, of in multitask.EXPLANATION_FORMS.items() if of == form)]


def has_format(output: str, wanted: OutputFormat, example: Example) -> bool:
    """Returns whether an output is written in a format, whether or not it is correct.

    `example` is that of the evaluation, which may be of another problem: then the structure alone can be read.
    """
    if wanted.problem == "listops" and wanted.form is None:
        return _has_style(output, wanted.style or NONE)
    if wanted.form == "answer":
        return _is_answer_alone(output, wanted.problem, example)
    target = Target(get_problem(wanted.problem), example, wanted.form)
    explanation, stated = target.explanation(output), _statement(output, str(wanted.form))
    if not explanation.strip() or (stated is not None and not stated.strip()):
        return False
    if wanted.problem != "listops" or wanted.style not in CHECKED_STYLES:
        return True
    return _steps(explanation, wanted.style) > 0


def _has_style(output: str, style: str) -> bool:
    if style == NONE:
        return output.strip().isdecimal()
    return _steps(output, style) > 0 and listops.final_answer(output) is not None


def _steps(text: str, style: str) -> int:
    """Returns the number of steps of an explanation of that style; 0 where a line is not of it."""
    lines = [line for line in text.split("\n") if not line.startswith(forms.STATEMENT)]
    steps = listops.read("\n".join(lines), style).steps
    return 0 if None in steps else len(steps)


def _is_answer_alone(output: str, problem: str, example: Example) -> bool:
    answer = output.strip()
    if not answer or "\n" in answer or answer.startswith(forms.STATEMENT):
        return False
    reader = get_problem(problem)
    read = reader.read_answer(answer, example) or reader.read_answer(forms.STATEMENT + answer, example)
    return read is not None and reader.equal(answer, read, example)


def _statement(output: str, form: str) -> str | None:
    """Returns what states the answer in an output, empty where nothing does; None in a form that states none."""
    if form == f"mt_re_{multitask.EXPLANATION}":
        return None
    if form in multitask.EXPLANATION_FORMS:
        return multitask.split_output(output, form)[1].removeprefix(forms.STATEMENT.rstrip())
    part = forms.answer_part(output, form)
    return part.removeprefix(forms.STATEMENT) if part.startswith(forms.STATEMENT) else ""


class FormatCounts(NamedTuple):
    """Fractions of outputs: in the format that was asked for, and in the trained one where it was not that.

    None where the format has no rules, and `trained` where none other was asked for.
    """

    asked: float | None
    trained: float | None


def count_formats(targets: Sequence[Target], outputs: Sequence[str], trained: Sequence[OutputFormat]) -> FormatCounts:
    """Reads the format of each output."""
    asked_n = asked = other_n = other = 0
    for target, output in zip(targets, outputs, strict=True):
        wanted = format_of_target(target)
        follows = wanted is not None and has_format(output, wanted, target.example)
        if wanted is None:
            continue
        asked_n, asked = asked_n + 1, asked + follows
        others = [one for one in trained if one != wanted]
        if trained and len(others) == len(trained):
            other_n += 1
            other += not follows and any(has_format(output, one, target.example) for one in others)
    return FormatCounts(asked / asked_n if asked_n else None, other / other_n if other_n else None)
