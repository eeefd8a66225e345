"""Multiple choice, and yes or no."""

import functools
import re
from collections.abc import Sequence

from explainft.problems.problem import Example, StepCheck
from explainft.problems.text import last_statement, normalize

YES_NO = ("yes", "no")
_TRUTH = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
_TRUTH_WORD = re.compile(r"\b(yes|no|true|false)\b", re.I)
# A letter alone, in any dress: B, (b), [B], b., b), **B**, option B.
_BARE = re.compile(r"\s*(?:option\s+|choice\s+)?[(\[*]*([a-z])[)\]*]*[.:,]?[)\]*]*\s*", re.I)
_LABELLED = re.compile(r"\(([a-z])\)(.+)", re.I)
_DRESSED = re.compile(r"[(\[]([a-z])[)\]]|(?:^|\s)([a-z])[.:)](?=\s|$)", re.I)
_CAPITAL = re.compile(r"(?<![\w'’])([B-HJ-Z])(?![\w'’])|(?<![\w'’])(A)(?=\s*(?:$|[.,:;)!?]|(?:or|and)\b))")


class Choice:
    """A question with `choices`, answered by the letter or the text of one; without choices, by yes or no.

    Choices of equal text (spaces and case aside) are one answer. Two letters, two texts, or a letter and the text of
    another choice do not count as an answer, unless a last, explicit "the answer is" names one.
    """

    name = "choice"

    def read_answer(self, output: str, example: Example) -> str | None:
        """Return the text of the choice that the output names, as the example has it first, or None."""
        choices = choices_of(example)
        stated = last_statement(output)
        if stated is not None:
            return _named(stated, choices)
        return _named(output, choices)

    def equal(self, answer: str, other: str, example: Example) -> bool:
        choices = choices_of(example)
        if answer == other and answer in choices:
            return True
        first, second = value_of(answer, choices), value_of(other, choices)
        return first is not None and first == second

    def check(self, explanation: str, example: Example) -> StepCheck | None:
        return None

    def groups(self, example: Example) -> dict[str, str]:
        return {"choices": str(len(set(values_of(choices_of(example)))))}

    def chance(self, example: Example) -> float | None:
        """Return 1 / the number of different choices."""
        return 1 / len(set(map(normalize, choices_of(example))))


def choices_of(example: Example) -> Sequence[str]:
    """Return the choices' texts; yes and no where the example has none."""
    return list(map(str, example.get("choices") or YES_NO))


def values_of(choices: Sequence[str]) -> Sequence[str]:
    """Return the choices' texts, normalized."""
    return _values(tuple(choices))


@functools.lru_cache(maxsize=64)  # one question's are asked for time and again
def _values(choices: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(normalize, choices))


def mentions(text: str, choices: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the normalized choices that a text names by letter, and those that it names by their text."""
    values = values_of(choices)
    if set(values) <= set(YES_NO):
        found = {_TRUTH[word.lower()] for word in _TRUTH_WORD.findall(text)}
        return set(), found & set(values)
    by_text, rest = _texts(text, values)
    letters = [one or two for one, two in _DRESSED.findall(rest)] + [one or two for one, two in _CAPITAL.findall(rest)]
    return {value for letter in letters if (value := _by_letter(letter, values)) is not None}, by_text


def _named(text: str, choices: Sequence[str]) -> str | None:
    value = value_of(text, choices) or _labelled(text, choices)
    if value is None:
        by_letter, by_text = mentions(text, choices)
        if len(by_letter) > 1 or len(by_text) > 1 or len(by_letter | by_text) != 1:
            return None
        [value] = by_letter | by_text
    return choices[values_of(choices).index(value)]


def _labelled(text: str, choices: Sequence[str]) -> str | None:
    """Return the choice of "(b) its text", which `mentions` finds too, more slowly."""
    match = _LABELLED.fullmatch(text)
    value = match and _by_letter(match[1], values_of(choices))
    # A choice such as "b" could be a letter too.
    return value if match and value and len(value) > 1 and value == normalize(match[2]) else None


def value_of(answer: str, choices: Sequence[str]) -> str | None:
    """Return the normalized choice that an answer is, by its whole text or as a letter alone, or None."""
    values = values_of(choices)
    if answer in choices:
        return values[choices.index(answer)]
    value = normalize(answer)
    if value in values:
        return value
    if set(values) <= set(YES_NO):
        truth = _TRUTH.get(value)
        return truth if truth in values else None
    bare = _BARE.fullmatch(answer)
    return _by_letter(bare[1], values) if bare else None


def _by_letter(letter: str, values: Sequence[str]) -> str | None:
    place = ord(letter.lower()) - ord("a")
    return values[place] if place < len(values) else None


def _texts(text: str, values: Sequence[str]) -> tuple[set[str], str]:
    """Return the choices whose text stands in the text, and the text without them.

    Longer ones first: "bank account" names no "bank".
    """
    text, found = " ".join(text.split()), set()
    for value in sorted({v for v in values if v}, key=len, reverse=True):
        if len(value) == 1 and value.isalpha():
            continue  # a choice such as "b" cannot be told from a letter
        at = _find(text, value)
        while at is not None:
            found.add(value)
            text = f"{text[:at]};{text[at + len(value) :]}"
            at = _find(text, value)
    return found, text


def _find(text: str, value: str) -> int | None:
    """Return where a value stands in a text as words of its own, case aside, or None."""
    folded = text.lower()
    if len(folded) != len(text):
        folded = text  # a letter whose lower case is two: places would shift
    at = folded.find(value)
    while at >= 0:
        before, after = folded[at - 1 : at], folded[at + len(value) : at + len(value) + 1]
        if not (before.isalnum() or after.isalnum()):
            return at
        at = folded.find(value, at + 1)
    return None
