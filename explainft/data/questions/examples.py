"""A row of any layout as an example of a problem, or the reason why it cannot be one."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from explainft.data.questions.layouts import LAYOUTS, Unreadable, as_text
from explainft.problems import choice
from explainft.problems.problem import Problem
from explainft.problems.text import normalize

_SURROGATE = re.compile("[\ud800-\udfff]")


class Question(NamedTuple):
    """An example as it is stored. `fields` is the JSON object of all other fields of the row."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: str
    explanation: str
    fields: str

    def content(self) -> int:
        """Returns a digest of everything but the id."""
        return digest("\x1f".join((self.question, *self.choices, "\x1e", self.answer, self.explanation)))

    def question_digest(self) -> int:
        """Returns a digest of the normalized question and its choices: the same question in another spelling has it."""
        return digest("\x1f".join((normalize(self.question), *sorted(choice.values_of(self.choices)))))

    def example(self) -> dict[str, Any]:
        """Returns the row as problems read it."""
        choices = {"choices": list(self.choices)} if self.choices else {}
        own = {"id": self.id, "question": self.question, "answer": self.answer, "explanation": self.explanation}
        fields = {} if self.fields == "{}" else json.loads(self.fields)
        return fields | own | choices


def digest(text: str) -> int:
    """Returns 64 bits that stand for a text. Lone surrogates count too."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def question_of(
    problem: Problem, layout: str, row: Any, name: str, *, answered: bool, labels: Sequence[str] = ()
) -> Question:
    """Returns the example of a row. Raises Unreadable with the reason where it has none.

    `name` is the id of a row without one. With `answered`, an answer must stand there, and of choices it must be one.
    `labels` are the choices of every row.
    """
    if not isinstance(row, Mapping):
        raise Unreadable("not a JSON object")
    found = LAYOUTS[layout](row)
    question = _text(found, "question")
    if not question.strip():
        raise Unreadable("empty question")
    choices = tuple(labels or found.get("choices") or ())
    given = _present(found.get("answer"))
    if given is None or (isinstance(given, str) and not given.strip()):
        if answered:
            raise Unreadable("missing or null answer" if given is None else "empty answer")
        answer = ""
    else:
        answer = _answer(problem, given, choices)
    number = _present(found.get("id"))
    number = name if number is None else as_text(number)
    for what, texts in (("id", (number,)), ("answer", (answer,)), ("choices", choices)):
        for text in texts:
            _require_characters(what, text)
    return Question(
        id=number,
        question=question,
        choices=choices,
        answer=answer,
        explanation=_text(found, "explanation"),
        fields=json.dumps(fields, sort_keys=True) if (fields := found.get("fields")) else "{}",
    )


def _answer(problem: Problem, given: Any, choices: tuple[str, ...]) -> str:
    answer = as_text(given)
    if problem.name != "choice":
        if isinstance(given, Mapping):
            raise Unreadable("answer is an object")
        return answer.strip()
    texts = choices or choice.YES_NO
    named = {choice.value_of(as_text(item), texts) for item in (given if isinstance(given, list) else [answer])}
    if len(named) > 1:
        raise Unreadable("answer names two choices")
    if None in named or not named:
        raise Unreadable("answer is not a choice")
    [value] = named
    return texts[choice.values_of(texts).index(value)]


def _present(value: Any) -> Any:
    """Returns a value, or None for NaN and infinity: tables write NaN where a value is missing."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(found: Mapping[str, Any], name: str) -> str:
    value = _present(found.get(name))
    if value is None:
        return ""
    if isinstance(value, str):
        text = value
    elif isinstance(value, list):
        text = " ".join(map(as_text, value))
    elif isinstance(value, int | float):
        text = as_text(value)
    else:
        raise Unreadable(f"{name} is not a text")
    _require_characters(name, text)
    return text


def _require_characters(name: str, text: str) -> None:
    if not text.isascii() and _SURROGATE.search(text):
        raise Unreadable(f"{name} holds a lone surrogate, which is not a character")
