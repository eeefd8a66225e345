"""The prompts of teachers: a TOML file with the templates of both methods and the exemplars that they share.

    problem = "choice"
    stop = ["\\n\\nQ:"]

    [cote]
    question = "Q: {question}\\n{choices}\\nA:"
    answer = " {explanation} So the answer is {answer}."

    [rp]
    hint = "The correct answer is {answer}."
    question = "Q: {question}\\n{choices}\\n{hint}\\nWhy?"
    answer = " {explanation}"

    [[exemplars]]
    question = "Where do fish live?"
    choices = ["sea", "air"]
    answer = "sea"
    explanation = "Fish breathe in water."

A prompt is the method's `instruction`, where it has one, then `question` and `answer` of each exemplar, then `question`
alone, with an empty line between them. A line of `{choices}` is left out where a question has none. Outputs end before
any text of `stop`.

The packaged files: csqa, gsm8k, listops, obqa, strategyqa.
"""

import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explainft.core.errors import UserError, nearest
from explainft.data.questions import forms
from explainft.problems.registry import get_problem

SETS = tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.toml")))
METHODS = ("cote", "rp")
_KEYS = {"problem", "stop", "exemplars", *METHODS}
_TEMPLATE_KEYS = {"instruction", "question", "answer", "hint"}
_EXEMPLAR_KEYS = {"question", "choices", "answer", "explanation"}
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


@dataclasses.dataclass(frozen=True)
class Exemplar:
    """A question with its gold answer and an explanation."""

    question: str
    answer: str
    explanation: str = ""
    choices: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Template:
    """How a method writes a question, its answer and, in RP, its hint."""

    question: str
    answer: str
    instruction: str = ""
    hint: str = ""

    @property
    def statement(self) -> str:
        """The words between the explanation and the answer, such as "So the answer is"; RP needs none."""
        between, found, _ = self.answer.partition("{explanation}")[2].partition("{answer}")
        return between.strip() if found else ""

    @property
    def hint_words(self) -> str:
        """The words of the hint beside the answer: an explanation that has them repeats the hint."""
        before, _, after = self.hint.partition("{answer}")
        return before.strip() or after.strip()

    def fill_question(self, one: Exemplar) -> str:
        return _fill(self.question, one, self.fill_hint(one))

    def fill_answer(self, one: Exemplar) -> str:
        return _fill(self.answer, one, "")

    def fill_hint(self, one: Exemplar) -> str:
        """Returns the words that give the gold answer away."""
        return _fill(self.hint, one, "")


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The templates of the methods by name, and the exemplars."""

    problem: str | None
    templates: Mapping[str, Template]
    exemplars: Sequence[Exemplar]
    stop: Sequence[str] = ()

    def prompt(self, method: str, one: Exemplar) -> str:
        """Returns the prompt of a question: only RP's shows its answer."""
        template = self.templates[method]
        shown = [template.fill_question(exemplar) + template.fill_answer(exemplar) for exemplar in self.exemplars]
        parts = [template.instruction] if template.instruction else []
        return "\n\n".join([*parts, *shown, template.fill_question(one)])


# The input that a model of this project was trained on.
NO_EXEMPLARS = Prompts(None, {"cote": Template("{question}\n{choices}", "{explanation}\nThe answer is {answer}")}, ())


def _fill(template: str, one: Exemplar, hint: str) -> str:
    if not one.choices:
        template = "\n".join(line for line in template.split("\n") if line.strip() != "{choices}")
    values = {
        "question": one.question,
        "choices": "\n".join(f"{forms.letter(i)} {choice}" for i, choice in enumerate(one.choices)),
        "answer": _lettered(one.answer, one.choices),
        "explanation": one.explanation,
        "hint": hint,
    }
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)  # braces inside of values stay


def _lettered(answer: str, choices: Sequence[str]) -> str:
    return f"{forms.letter(list(choices).index(answer))} {answer}" if answer in choices else answer


def read_prompts(name: str) -> Prompts:
    """Returns the packaged prompts of that name or those of a file; for `none` the question alone. Raises UserError."""
    if name == "none":
        return NO_EXEMPLARS
    path = Path(__file__).parent / f"{name}.toml" if name in SETS else Path(name)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        known = f"give none, {', '.join(SETS)} or a TOML file"
        raise UserError(f"cannot read --exemplars={name} ({reason}); {known}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML ({error}); correct it") from error
    return _prompts(path, found)


def _prompts(path: Path, found: Mapping[str, Any]) -> Prompts:
    _check_keys(path, "the file", found, _KEYS)
    problem, stop, rows = found.get("problem"), found.get("stop", []), found.get("exemplars", [])
    if not isinstance(problem, str):
        raise UserError(f'{path}: problem={problem!r} must name a problem, as in problem = "choice"')
    get_problem(problem)
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise UserError(f"{path}: stop={stop!r} must be a list of texts")
    if not isinstance(rows, list):
        raise UserError(f"{path}: exemplars must be tables, each under [[exemplars]]")
    templates = {method: _template(path, method, found[method]) for method in METHODS if method in found}
    if not templates:
        raise UserError(f"{path} has neither [cote] nor [rp]; add the templates of a method")
    return Prompts(problem, templates, [_exemplar(path, i, row) for i, row in enumerate(rows, 1)], stop)


def _template(path: Path, method: str, found: Any) -> Template:
    where = f"{path}: [{method}]"
    _check_keys(path, f"[{method}]", found, _TEMPLATE_KEYS)
    for name, text in found.items():
        if not isinstance(text, str):
            raise UserError(f"{where} {name}={text!r} must be a text")
    template = Template(**{"question": "", "answer": "", **{name: text.strip("\n") for name, text in found.items()}})
    template = dataclasses.replace(template, answer=found.get("answer", ""))  # it may begin with a newline
    allowed = {
        "question": {"question", "choices"} | ({"hint"} if method == "rp" else set()),
        "answer": {"explanation", "answer"},
        "hint": {"answer"} if method == "rp" else set(),
    }
    for name, known in allowed.items():
        for placeholder in _PLACEHOLDER.findall(getattr(template, name)):
            if placeholder not in known:
                listed = ", ".join(f"{{{one}}}" for one in sorted(known)) or "none"
                raise UserError(f"{where} {name} has {{{placeholder}}}; it may have {listed}")
    needed = {"question": ["{question}"], "answer": ["{explanation}"]}
    needed |= {"question": ["{question}", "{hint}"], "hint": ["{answer}"]} if method == "rp" else {}
    for name, placeholders in needed.items():
        for placeholder in placeholders:
            if placeholder not in getattr(template, name):
                raise UserError(f"{where} {name} must have {placeholder}")
    if method == "cote" and not template.statement:
        raise UserError(f"{where} answer must have {{explanation}}, then words, then {{answer}}")
    if method == "rp" and not template.hint_words:
        raise UserError(f"{where} hint={template.hint!r} must have words beside {{answer}}, by which it is recognized")
    return template


def _exemplar(path: Path, number: int, row: Any) -> Exemplar:
    _check_keys(path, f"exemplar {number}", row, _EXEMPLAR_KEYS)
    choices = row.get("choices", [])
    texts = [row.get(name) for name in ("question", "answer", "explanation")]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise UserError(f"{path}: exemplar {number} must have question, answer and explanation as texts")
    if not isinstance(choices, list) or not all(isinstance(text, str) for text in choices):
        raise UserError(f"{path}: exemplar {number} has choices={choices!r}, which must be a list of texts")
    if choices and row["answer"] not in choices:
        raise UserError(f"{path}: exemplar {number} has the answer {row['answer']!r}, which must be one of its choices")
    return Exemplar(row["question"].strip(), row["answer"].strip(), row["explanation"].strip(), tuple(choices))


def _check_keys(path: Path, what: str, found: Any, known: set[str]) -> None:
    if not isinstance(found, Mapping):
        raise UserError(f"{path}: {what} must be a table")
    for name in found:
        if name not in known:
            raise UserError(f"{path}: {what} has the unknown field {name!r}{nearest(name, known)}")
