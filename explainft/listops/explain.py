"""Writes, reads and checks explanations of ListOps expressions in four styles.

An explanation has one line per step: an operator after its arguments, whose answers are already substituted. The final
answer follows. One table of templates writes and reads the lines. `medium` is the style of Explained-ListOps-30
(arXiv 2402.07543), byte for byte.
"""

import re
from collections.abc import Callable, Iterable
from itertools import accumulate, zip_longest
from typing import NamedTuple

from explainft.core.errors import nearest
from explainft.listops.expression import ListOpsError, Tree, applications, evaluate, median_values

STYLES = ("none", "short", "medium", "long")

LINES = {
    "none": {},
    "short": {"MIN": "Min, {answer}", "MAX": "Max, {answer}", "MED": "MED, {answer}", "SUM": "SUM, {answer}"},
    "medium": {
        "MIN": "Min, smallest number of [{arguments}] is {answer}",
        "MAX": "Max, largest number of [{arguments}] is {answer}",
        "MED": "MED, sorted list, [{sorted}], MEDIAN is {answer}",
        "SUM": "SUM, add [{arguments}], sum is {sum}, answer is {answer}",
    },
    "long": {
        "MIN": "MIN operator so we have to find the smallest of the numbers [{arguments}], "
        "smallest so far {smallest}, so the answer is {answer}",
        "MAX": "MAX operator so we have to find the largest of the numbers [{arguments}], "
        "largest so far {largest}, so the answer is {answer}",
        "MED": "MED operator so we have to find the median of the numbers [{arguments}], "
        "sorted list [{sorted}], middle {middle}, so the answer is {answer}",
        "SUM": "SUM operator so we have to add the numbers [{arguments}], "
        "running sums {sums}, sum is {sum} so the answer is {answer}",
    },
}
WORKING: dict[str, Callable[[list[int]], tuple[int, ...]]] = {
    "sorted": lambda arguments: tuple(sorted(arguments)),
    "middle": lambda arguments: tuple(median_values(arguments)),
    "sum": lambda arguments: (sum(arguments),),
    "sums": lambda arguments: tuple(accumulate(arguments)),
    "smallest": lambda arguments: tuple(accumulate(arguments, min)),
    "largest": lambda arguments: tuple(accumulate(arguments, max)),
}


class Step(NamedTuple):
    """The numbers of one line of an explanation; () where the style does not show them."""

    operator: str
    arguments: tuple[int, ...]
    working: tuple[tuple[int, ...], ...]  # each list between arguments and answer, in the order of the line
    answer: int


class Explanation(NamedTuple):
    """An explanation as read: a step for each line before the final one, None for a line that is not of the style."""

    steps: tuple[Step | None, ...]
    final_answer: int | None


class Check(NamedTuple):
    """An explanation compared with its expression; it is valid when the answer and every step are correct."""

    final_answer: int | None
    answer_correct: bool
    steps_total: int  # of the expression
    steps_correct: int
    first_wrong_step: int | None  # zero-based; a missing or surplus step counts at its index

    @property
    def valid(self) -> bool:
        return self.answer_correct and self.first_wrong_step is None


# At most 30 digits: room for the sum of many numbers of 18, and far below int()'s limit of 4,300.
_NUMBER = "[0-9]{1,30}"
_FREE_SPACE = re.compile(r"(?<=[,:;\[\]]) | (?=[,:;\[\]])|(?<=;)\n|\n(?=;)")
_BREAK = re.compile(r"[\n;]| (?=(?:SUM|MED|Max|Min),|(?:SUM|MED|MAX|MIN) operator |Final answer)")
_FINAL = re.compile(rf"Final answer:({_NUMBER})\.?")
_BARE = re.compile(_NUMBER)


def _normalize(text: str) -> str:
    """Reduces whitespace: one space or newline for each run, none beside punctuation."""
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return _FREE_SPACE.sub("", "\n".join([line for line in lines if line]))


class _Line:
    """A template that is compiled for writing and for reading."""

    def __init__(self, operator: str, template: str, separator: str):
        names = re.findall(r"\{(\w+)\}", template)
        self.operator = operator
        self.template = re.sub(r"\{\w+\}", "%s", template)
        self.separator = separator
        self.shows_arguments = "arguments" in names
        self.working = [WORKING[name] for name in names if name in WORKING]
        numbers = f"({_NUMBER}(?:{_normalize(separator) or ' '}{_NUMBER})*)"
        fields = [f"({_NUMBER})" if name == "answer" else numbers for name in names]
        literals = map(re.escape, _normalize(self.template).split("%s"))
        self.pattern = re.compile("".join(a + b for a, b in zip_longest(literals, fields, fillvalue="")))

    def step(self, arguments: list[int], answer: int) -> Step:
        shown = tuple(arguments) if self.shows_arguments else ()
        return Step(self.operator, shown, tuple([work(arguments) for work in self.working]), answer)

    def write(self, arguments: list[int], answer: int) -> str:
        lists = [arguments] if self.shows_arguments else []
        lists += [work(arguments) for work in self.working]
        return self.template % (*[self.separator.join(map(str, numbers)) for numbers in lists], answer)

    def read(self, segment: str) -> Step | None:
        match = self.pattern.fullmatch(segment)
        if not match:
            return None
        lists = [tuple(map(int, group.replace(",", " ").split())) for group in match.groups()]
        arguments = lists.pop(0) if self.shows_arguments else ()
        [answer] = lists.pop()
        return Step(self.operator, arguments, tuple(lists), answer)


_WRITERS = {
    style: {name: _Line(name, template, " " if style == "long" else ", ") for name, template in templates.items()}
    for style, templates in LINES.items()
}
# The first three letters select a line's template, so that a long text of garbage costs one look-up a segment.
_READERS = {style: {line.template[:3]: line for line in lines.values()} for style, lines in _WRITERS.items()}


def _lines(style: str) -> dict[str, _Line]:
    if style not in STYLES:
        raise ListOpsError(f"unknown style {style!r}{nearest(style, STYLES)}")
    return _WRITERS[style]


def steps(tree: Tree, style: str = "long", modulus: int = 10) -> list[Step]:
    """Returns the tree's steps with what the style shows of each; none for style "none". "long" shows everything."""
    lines = _lines(style)
    return [lines[name].step(values, answer) for name, values, answer in applications(tree, modulus)] if lines else []


def explain(tree: Tree, style: str, modulus: int = 10) -> str:
    """Returns the gold explanation: one line a step, then `Final answer: N`. Style "none" has the answer alone, `N`."""
    applied = list(applications(tree, modulus))
    return explain_applied(applied, applied[-1][2] if applied else evaluate(tree), style)


def explain_applied(applied: Iterable[tuple[str, list[int], int]], answer: int, style: str) -> str:
    """Returns the `explain` of a tree whose `applications` and answer are given."""
    lines = _lines(style)
    if not lines:
        return str(answer)
    written = [lines[name].write(arguments, value) for name, arguments, value in applied]
    return "\n".join([*written, f"Final answer: {answer}"])


def read(text: str, style: str) -> Explanation:
    """Reads an explanation whose steps are separated by newlines, spaces or ";" (with or without spaces around it).

    Runs of whitespace, whitespace beside punctuation, leading zeros, and a full stop after the final answer do not
    matter. Everything else does.
    """
    _lines(style)
    return _read(_split(text), style)


def final_answer(text: str) -> int | None:
    """Returns the N of the `Final answer: N` at the end of the text, or of a text that is a number alone; else None."""
    return _read(_split(text), "none").final_answer


def lines(text: str) -> list[str]:
    """Splits the unchanged text where `read` does: a line for each step, then that of the final answer, if any."""
    shown = [i for i, character in enumerate(text) if not character.isspace()]  # reading changes whitespace alone
    cut, done = [], 0
    for segment in _split(text):
        size = sum(not character.isspace() for character in segment)
        cut.append(text[shown[done] : shown[done + size - 1] + 1] if size else "")
        done += size
        done += text[shown[done] : shown[done] + 1] == ";" if done < len(shown) else 0
    return cut


def check(text: str, tree: Tree, style: str, modulus: int = 10) -> Check:
    """Compares each step of the text with the tree's own step, so that an incorrect number affects one step only."""
    gold = steps(tree, style, modulus)
    shown, answer = read(text, style)
    correct = [step is not None and step == other for step, other in zip_longest(gold, shown)]
    return Check(
        final_answer=answer,
        answer_correct=answer == evaluate(tree, modulus),
        steps_total=len(gold),
        steps_correct=sum(correct),
        first_wrong_step=correct.index(False) if False in correct else None,
    )


def _split(text: str) -> list[str]:
    """Returns the normalized lines of the text; an empty one where a ";" separates nothing."""
    normalized = _normalize(text)
    return _BREAK.split(normalized) if normalized else []


def _read(segments: list[str], style: str) -> Explanation:
    answer = None
    if segments and segments[-1].startswith("Final answer"):
        match = _FINAL.fullmatch(segments.pop())
        answer = int(match[1]) if match else None
    elif len(segments) == 1 and _BARE.fullmatch(segments[0]):
        answer = int(segments.pop())
    readers = _READERS[style]
    if not readers:
        return Explanation((), answer)
    lines = [(readers.get(segment[:3]), segment) for segment in segments]
    return Explanation(tuple([line.read(segment) if line else None for line, segment in lines]), answer)
