"""Arithmetic steps of an explanation: calculator marks and written equations, checked exactly."""

import re
from fractions import Fraction
from typing import NamedTuple

from explainft.problems import numbers
from explainft.problems.problem import StepCheck

MAX_SIDE = 200  # characters of one side of a written equation
_MARK = re.compile(r"<<([^<>=]{0,400})=([^<>=]{0,100})>>")
_TOKEN = re.compile(r"\$?(?:\d[\d,]*\.?\d*|\.\d+)%?|[-+*/()×÷−·]|(?<=[\d)\s])x(?=[\s\d($])|\s+")
_VARIABLE = re.compile(r"x (?:[-+*/)×÷−]|$)")  # "3 x + 4": no multiplication sign
_BOUND = re.compile(r"[\^_]$|\\[A-Za-z]+\s*$")  # what follows is an exponent, an index or part of a LaTeX term
_OPERATOR = re.compile(r"[-+*/×÷−·x]")


class Step(NamedTuple):
    """An equation: its place in the text, text[start:end], and whether it holds; None where that cannot be read."""

    start: int
    end: int
    holds: bool | None


def check(explanation: str) -> StepCheck:
    """Counts the steps of `find_steps`."""
    verdicts = [step.holds for step in find_steps(explanation)]
    first_wrong = verdicts.index(False) if False in verdicts else None
    return StepCheck(verdicts.count(True), verdicts.count(False), verdicts.count(None), first_wrong)


def find_steps(explanation: str) -> list[Step]:
    """Returns the calculator marks (`<<48/2=24>>`) where there are some, else the written equations (`48 / 2 = 24`).

    A step is correct where both sides are equal exactly, where the right one is the left rounded to its decimals, and
    where a percentage is the left as it stands (`100 - 60 = 40%`). An equation with a variable is not a step. The steps
    of a chain, `2 + 3 = 4 + 1 = 5`, overlap.
    """
    marks = [Step(*mark.span(), _holds(mark[1], mark[2])) for mark in _MARK.finditer(explanation)]
    return marks or _written(explanation)


def _holds(left: str, right: str) -> bool | None:
    value, shown = numbers.evaluate(left), numbers.evaluate(right)
    if value is None or shown is None:
        return None
    if right.strip().endswith("%") and value == 100 * shown:
        return True
    decimals = len(right.strip().rstrip("%").partition(".")[2])
    return value == shown or (decimals > 0 and abs(value - shown) <= Fraction(1, 2 * 10**decimals))


def _written(text: str) -> list[Step]:
    parts = text.split("=")
    found, at = [], 0
    for before, after in zip(parts, parts[1:], strict=False):
        left, right, equals = _left(before), _right(after), at + len(before)
        if left and right:
            found.append(Step(at + left[1], equals + 1 + right[1], _holds(left[0], right[0])))
        at = equals + 1
    return found


def _left(before: str) -> tuple[str, int] | None:
    """The arithmetic at the end of a text, numbers joined by at least one operator, and where it starts."""
    window = before[-MAX_SIDE:]
    tokens, starts, start, following = [], [], len(window), len(window)
    for token in reversed(list(_TOKEN.finditer(window))):
        if token.end() != start:
            break
        start = token.start()
        if not token[0].isspace():
            is_number = _is_number(token[0])
            if is_number and tokens and _is_number(tokens[-1]):
                if token[0].endswith((".", ",")) or "\n" in window[token.end() : following]:
                    break  # the number of a sentence before
                return None
            following = token.start()
            tokens.append(token[0])
            starts.append(token.start())
    tokens.reverse()
    starts.reverse()
    while tokens and tokens[0] == "(" and tokens.count("(") > tokens.count(")"):
        del tokens[0], starts[0]
    if not tokens or not any(map(_OPERATOR.fullmatch, tokens[1:])) or _VARIABLE.search(" ".join(tokens)):
        return None
    if not (_is_number(tokens[0]) or tokens[0] in "(-−") or not (_is_number(tokens[-1]) or tokens[-1] == ")"):
        return None  # a variable stands before or after it
    if tokens[0] in "-−" and re.search(r"[A-Za-z)\]}]\s*$", window[:start]):
        return None
    if _BOUND.search(window[: starts[0]]) or (tokens[0] == "(" and re.search(r"[A-Za-z]$", window[: starts[0]])):
        return None
    return " ".join(tokens), len(before) - len(window) + starts[0]


def _right(after: str) -> tuple[str, int] | None:
    """The arithmetic at the beginning of a text, where no letter or power follows it, and where it ends."""
    window = after[:MAX_SIDE]
    tokens, ends, end = [], [], 0
    for token in _TOKEN.finditer(window):
        if token.start() != end or (_is_number(token[0]) and tokens and _is_number(tokens[-1])):
            break
        end = token.end()
        if not token[0].isspace():
            tokens.append(token[0])
            ends.append(end)
    while tokens.count("(") > tokens.count(")"):
        del tokens[len(tokens) - 1 - tokens[::-1].index("(") :]
    while tokens and not (_is_number(tokens[-1]) or tokens[-1] == ")"):
        tokens.pop()  # the dash or bracket of a sentence
    while tokens and tokens[-1] == ")" and tokens.count(")") > tokens.count("("):
        tokens.pop()
    if not tokens or (not window[end - 1].isspace() and re.match(r"[\w^²³]", window[end:])):
        return None
    last = tokens[-1]
    tokens[-1] = last.rstrip(".,")  # of the sentence
    return " ".join(tokens), ends[len(tokens) - 1] - len(last) + len(tokens[-1])


def _is_number(token: str) -> bool:
    return token.lstrip("$")[:1].isdigit() or (token[:1] == "." and len(token) > 1)
