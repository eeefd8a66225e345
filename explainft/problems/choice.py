"""Multiple choice, and yes or no."""

import functools
import re
import unicodedata
from collections.abc import Sequence

from explainft.problems.problem import Example, StepCheck
from explainft.problems.text import normalize, statements

YES_NO = ("yes", "no")  # the choices of a question without any: they have no letters
_TRUTH = {"yes": True, "true": True, "no": False, "false": False}
_TRUTH_WORD = re.compile(r"\b(yes|no|true|false)\b", re.I)
_QUOTES = "\"'`“”‘’"
# A letter alone, in any notation: B, (b), [B], b., b), **B**, 'B', option B.
_BARE = re.compile(
    rf"\s*(?:option\s+|choice\s+)?[(\[*{_QUOTES}]*([a-z])[)\]*{_QUOTES}]*[.:,]?[)\]*{_QUOTES}]*\s*", re.I
)
_LABELLED = re.compile(r"\(([a-z])\)(.+)", re.I)
_ENCLOSED = re.compile(r"[(\[{]([a-z])[)\]}]|(?:^|\s)([a-z])[.:)](?=\s|$)", re.I)
# A capital letter as a word; of "A", which may be an article, only where no noun can follow.
_CAPITAL = re.compile(
    r"(?<![\w'’])([B-HJ-Z])(?![\w'’])|"
    r"(?<![\w'’])(A)(?=\s*(?:$|[.,:;)!?\]}*\"”]|(?:or|and|but|is|was|because|since)\b))"
)
_NEGATION = re.compile(r"(?:\bnot|n['’]t|\bneither|\bnor)(?:\s+(?:an?|the|be|option|choice))*\s+$", re.I)
_NEGATION_LENGTH = 40  # characters before a choice
_SENTENCE_END = re.compile(r"(?<=[\w)\]][\w)\]][.!?])\s")  # not that of "B. aquarium"
_NUMBER_BEFORE = re.compile(r"\d[.,/:]$|(?:^|[\s(=])[-−]$")  # 1.2 and -2 are not 2
_NUMBER_AFTER = re.compile(r"[.,/:]\d")


class Choice:
    """A question with `choices`, answered by the letter or the text of one; without choices, by yes or no.

    Choices of equal text (spaces and case aside) are one answer. Two letters, two texts, or a letter and the text of
    another choice do not count as an answer, unless a last, explicit "the answer is" names one, in its first sentence
    at least. A choice right after "not" is not named.
    """

    name = "choice"

    def read_answer(self, output: str, example: Example) -> str | None:
        """Returns the text of the choice that the output names, as the example has it first, or None."""
        choices = choices_of(example)
        for stated in statements(output):
            named = _named(stated, choices) or _named(_SENTENCE_END.split(stated, maxsplit=1)[0], choices)
            if named is not None or not stated.lower().startswith("not "):
                return named
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
        """Returns 1 / the number of different choices."""
        return 1 / len(set(map(normalize, choices_of(example))))


def choices_of(example: Example) -> Sequence[str]:
    """Returns the choices' texts; yes and no where the example has none."""
    choices = example.get("choices")
    return list(map(str, choices)) if choices else YES_NO


def values_of(choices: Sequence[str]) -> Sequence[str]:
    """Returns the choices' texts, normalized."""
    return _values(tuple(choices))


@functools.lru_cache(maxsize=64)  # one question's are asked for time and again
def _values(choices: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(normalize, choices))


def mentions(text: str, choices: Sequence[str]) -> tuple[set[str], set[str]]:
    """Returns the normalized choices that a text names by letter, and those that it names by their text."""
    values = values_of(choices)
    if set(values) <= set(_TRUTH):
        words = [word for word in _TRUTH_WORD.finditer(text) if not _is_negated(text, word.start())]
        by_text = {value for word in words if (value := _by_truth(word[0].lower(), values)) is not None}
        rest = _TRUTH_WORD.sub(";", text)
    else:
        by_text, rest = _texts(text, values)
    if choices is YES_NO:
        return set(), by_text
    letters = [
        match[1] or match[2]
        for pattern in (_ENCLOSED, _CAPITAL)
        for match in pattern.finditer(rest)
        if not _is_negated(rest, match.start() + match[0].startswith((" ", "\n", "\t")))
    ]
    return {value for letter in letters if (value := _by_letter(letter, values)) is not None}, by_text


def _is_negated(text: str, at: int) -> bool:
    return _NEGATION.search(text, max(0, at - _NEGATION_LENGTH), at) is not None


def _named(text: str, choices: Sequence[str]) -> str | None:
    value = value_of(text, choices) or _labelled(text, choices)
    if value is None:
        by_letter, by_text = mentions(text, choices)
        if len(by_letter) > 1 or len(by_text) > 1 or len(by_letter | by_text) != 1:
            return None
        [value] = by_letter | by_text
    return choices[values_of(choices).index(value)]


def _labelled(text: str, choices: Sequence[str]) -> str | None:
    """Returns the choice of "(b) its text", which `mentions` finds too, more slowly."""
    match = _LABELLED.fullmatch(text)
    value = match and _by_letter(match[1], values_of(choices))
    # A choice such as "b" could be a letter too.
    return value if match and value and len(value) > 1 and value == normalize(match[2]) else None


def value_of(answer: str, choices: Sequence[str]) -> str | None:
    """Returns the normalized choice that an answer is, by its whole text or as a letter alone, or None."""
    values = values_of(choices)
    if answer in choices:
        return values[choices.index(answer)]
    value = normalize(answer)
    if value in values:
        return value
    if set(values) <= set(_TRUTH) and value in _TRUTH:
        return _by_truth(value, values)
    if choices is YES_NO:
        return None
    bare = _BARE.fullmatch(answer if answer.isascii() else unicodedata.normalize("NFKC", answer))
    return _by_letter(bare[1], values) if bare else None


def _by_truth(word: str, values: Sequence[str]) -> str | None:
    return word if word in values else next((value for value in values if _TRUTH[value] is _TRUTH[word]), None)


def _by_letter(letter: str, values: Sequence[str]) -> str | None:
    if not letter.isascii():
        return None  # [a-z] matches ſ and İ too where case does not matter
    place = ord(letter.lower()) - ord("a")
    return values[place] if place < len(values) else None


def _texts(text: str, values: Sequence[str]) -> tuple[set[str], str]:
    """Returns the choices whose text stands in the text, and the text without them.

    Longer ones first: "bank account" names no "bank".
    """
    text, folded = _fold(" ".join(text.split()))
    found = set()
    for value in sorted({v for v in values if v}, key=len, reverse=True):
        if len(value) == 1 and value.isalpha():
            continue  # a choice such as "b" cannot be told from a letter
        starts = _find_all(folded, value)
        if not all(_is_negated(folded, at) for at in starts):
            found.add(value)
        if starts:
            text, folded = _blank(text, starts, len(value)), _blank(folded, starts, len(value))
    return found, text


def _fold(text: str) -> tuple[str, str]:
    """Returns the text in NFKC, and in one case, as `normalize` has it; both have the same places."""
    if text.isascii():
        return text, text.lower()
    text = unicodedata.normalize("NFKC", text)
    folded = text.casefold()
    if len(folded) != len(text):  # ß is ss
        text = "".join(c if len(c.casefold()) == 1 else c.casefold() for c in text)
    return text, folded


def _find_all(folded: str, value: str) -> list[int]:
    """Returns where a value stands in a text as words of its own, or as a number of its own."""
    starts, at = [], folded.find(value)
    while at >= 0:
        end = at + len(value)
        before, after = folded[max(0, at - 2) : at], folded[end : end + 2]
        in_word = before[-1:].isalnum() or after[:1].isalnum()
        in_number = (value[0].isdigit() and _NUMBER_BEFORE.search(before)) or (
            value[-1].isdigit() and _NUMBER_AFTER.match(after)
        )
        if in_word or in_number:
            end = at + 1
        else:
            starts.append(at)
        at = folded.find(value, end)
    return starts


def _blank(text: str, starts: Sequence[int], length: int) -> str:
    parts, end = [], 0
    for start in starts:
        parts += [text[end:start], ";" * length]
        end = start + length
    return "".join([*parts, text[end:]])
