"""What a teacher's output says: the part that explains, without the answer, the hint and what was invented after it."""

import re
from collections.abc import Sequence

from explainft.problems import choice
from explainft.problems.problem import Example
from explainft.problems.text import statements

# A sentence that does nothing but state the answer; a step of ListOps ends in "answer is 4" too.
_STATEMENT = re.compile(
    r"\W*(?:(?:so|and|thus|hence|therefore)\b\W*)*(?:the\s+)?(?:\w+\s+)?answer(?:\s+(?:is|was)\b|\s*[:=])", re.I
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r".+?(?:(?<=[\w)\]\"'>][\w)\]\"'>][.!?])\s+|\n+|$)", re.S)  # "B. aquarium" is within one


def cut_at_stop(output: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Returns the output up to the first text of `stop`, and whether one was found.

    Language models run on and invent the next question.
    """
    output = _SURROGATE.sub("\ufffd", output)  # half of a character, which no file can have
    places = [at for text in stop if (at := output.find(text)) >= 0]
    return (output[: min(places)] if places else output).strip(), bool(places)


def explanation_of(output: str, statement: str) -> str:
    """Returns what stands before the statement of the answer.

    `statement` is how the prompt's exemplars introduce the answer. Where it is missing, a last sentence that states the
    answer in other words is left out.
    """
    if statement:
        words = r"\s+".join(map(re.escape, statement.split()))
        found = list(re.finditer(words, output, re.I))
        if found:
            return output[: found[-1].start()].strip()
    sentences = _SENTENCE.findall(output)
    if sentences and _STATEMENT.match(sentences[-1]):
        sentences.pop()
    return "".join(sentences).strip()


def without_hint(explanation: str, hint_words: str) -> str:
    """Returns the explanation without the sentences that repeat the hint of the prompt."""
    words = _words(hint_words)
    return "".join(part for part in _SENTENCE.findall(explanation) if words not in _words(part)).strip()


def _words(text: str) -> str:
    return " ".join(["", *_WORD.findall(text.casefold()), ""])


def letter_and_text(output: str, example: Example) -> str | None:
    """Returns how a statement that names a choice by its letter goes on; None where it names none by a letter.

    "agree": with the text of that choice; "disagree": with that of another; "unknown": with what is not a choice;
    "several": it names several choices; "alone": with nothing.
    """
    choices = choice.choices_of(example)
    stated = next(statements(output), "")
    by_letter, by_text = choice.mentions(stated, choices)
    if not by_letter:
        return None
    if len(by_letter) > 1 or len(by_text) > 1:
        return "several"
    if by_text:
        return "agree" if by_letter == by_text else "disagree"
    return "alone" if len(_WORD.findall(stated)) == 1 else "unknown"
