"""Mathematics: answers by value, and arithmetic steps that are checked exactly."""

import functools
import re
from fractions import Fraction

from explainft.problems import equations, latex, numbers, symbolic
from explainft.problems.problem import Example, StepCheck
from explainft.problems.text import statements

_NUMBER = re.compile(
    r"[-+−]?[$€£]?(?:\d+\s+\d+\s*/\s*\d+(?!\d)|\d*[¼-¾⅐-⅞]|"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,2}(?!\w))?(?:\s*/\s*\d+)?%?)"
    r"(?![⁰¹²³⁴-⁹])"
)
_EQUATION = re.compile(r"[-\d\s.,$%()+*/×÷−=]*=\s*(?=[-−$\d])")  # "8 - 3 = 5": the value comes last
MAX_LIST = 500  # characters of a tuple, an interval or a set that is compared item by item
MAX_EXPRESSION = 300  # characters of an answer without a box
_COMMAND = re.compile(r"\\(?:text|textbf|mbox|mathrm)\{[^{}]*\}|\\[A-Za-z]+(?:\{[a-z]*\})?")  # \begin{pmatrix} too
_LETTERS = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"\b(?:am|an|as|at|be|by|do|go|he|if|in|is|it|me|my|no|of|on|or|so|to|up|us|we)\b", re.I)
_LETTER = re.compile(r"[\s$(*]*([A-Za-z])[\s$).*]*")  # an output of one letter: a variable or a name
_NAMED = re.compile(r"([a-z](?:\([a-z]\))?)=")  # x=5 is 5, and so is f(x)=5


class Math:
    """A question whose answer is a number or an expression.

    The answer of an output is its last boxed one, else what follows the last `####`, else the last "the answer is"; of
    that, or of an output with none of them, all where it is an expression without words, else a number: the first of a
    statement, the last of an output, or the one letter that is all of an output. A statement that begins with "not"
    names what follows "but", or nothing.

    Numbers are equal by exact value; a percent sign and units are not compared (50% equals 50). Other LaTeX is compared
    as normalized text, and with the extra `math` by Math-Verify.
    """

    name = "math"

    def read_answer(self, output: str, example: Example) -> str | None:
        boxed = latex.last_boxed(output)
        if boxed is not None:
            return boxed.strip() or None
        if "####" in output:
            return output.rpartition("####")[2].strip().split("\n", 1)[0].strip() or None
        denied = False
        for stated in statements(output):
            denied = stated.lower().startswith("not ")
            if not denied:
                return _read_statement(stated)
            if after := stated.partition(" but ")[2]:
                return _read_statement(after)
        return None if denied else _read_output(output)

    def equal(self, answer: str, other: str, example: Example) -> bool:
        return equal(answer, other)

    def check(self, explanation: str, example: Example) -> StepCheck | None:
        """Checks the explanation's arithmetic; see equations.check."""
        return equations.check(explanation)

    def groups(self, example: Example) -> dict[str, str]:
        return {name: str(example[name]) for name in ("subject", "level") if name in example}

    def chance(self, example: Example) -> float | None:
        return None


def _read_statement(stated: str) -> str:
    first = re.match(r"\$([^$]+)\$", stated)
    if first:
        return first[1]
    if equation := _EQUATION.match(stated):
        stated = stated[equation.end() :]
    found = None if _is_expression(stated) else _NUMBER.search(stated)
    return found[0] if found else stated.rstrip(" .*")


def _read_output(output: str) -> str | None:
    if _is_expression(output) or _value(output, latex.normalize(output)) is not None:
        return output.strip().strip("*").rstrip(" .")
    found = _NUMBER.findall(output)
    if found:
        return found[-1]
    letter = _LETTER.fullmatch(output)
    return letter[1] if letter else None


def equal(answer: str, other: str) -> bool:
    """Returns whether two answers have the same value: numbers exactly, lists item by item, else as LaTeX."""
    (first, value), (second, other_value) = _normal_form(answer), _normal_form(other)
    if first == second:
        return bool(first)
    if value is not None and other_value is not None:
        return value == other_value
    names = [_NAMED.match(text) for text in (first, second)]
    if names[0] and names[1] and names[0][1] != names[1][1]:
        return False
    if any(names):
        return equal(_NAMED.sub("", first, count=1), _NAMED.sub("", second, count=1))
    lists = [_items(text) for text in (first, second)]
    if None not in lists:
        (open_1, items_1, close_1), (open_2, items_2, close_2) = lists  # pyright: ignore[reportGeneralTypeIssues]
        if (open_1, close_1) != (open_2, close_2) or len(items_1) != len(items_2):
            return False
        if not open_1 or open_1 == "\\{":
            items_1, items_2 = sorted(items_1), sorted(items_2)
        return all(equal(a, b) for a, b in zip(items_1, items_2, strict=True))
    return symbolic.equal(answer, other)


def _is_expression(text: str) -> bool:
    """Returns whether a text is one line of mathematics: no words, and an equation only where it has variables."""
    text = text.strip()
    if len(text) > MAX_EXPRESSION or "\n" in text:
        return False
    without_commands = _COMMAND.sub(" ", text)
    longest = max(map(len, _LETTERS.findall(without_commands)), default=0)
    if longest > 2 or _WORD.search(without_commands) or ("=" in text and longest != 1):
        return False
    has_operator = longest == 1 and any(character in text for character in "+-*/^=")
    return has_operator or without_commands != text or any(character.isdigit() for character in text)


@functools.lru_cache(maxsize=4096)  # a vote compares each answer with all others
def _normal_form(answer: str) -> tuple[str, Fraction | None]:
    """Returns an answer in one spelling, and its value where it is a number."""
    normalized = latex.normalize(answer)
    return normalized, _value(answer, normalized)


def _value(answer: str, normalized: str) -> Fraction | None:
    value = numbers.parse(answer)  # "3 1/2" before its space goes
    return numbers.parse(latex.as_number_text(normalized)) if value is None else value


@functools.lru_cache(maxsize=4096)
def _items(text: str) -> tuple[str, list[str], str] | None:
    """Splits `(a,b]`, `\\{a,b\\}` or `a,b` at its top-level commas; None where there are none."""
    if len(text) > MAX_LIST:
        return None
    match = re.fullmatch(r"(\(|\[|\\\{)(.*)(\)|\]|\\\})", text, re.S)
    opening, inner, closing = match.groups() if match else ("", text, "")
    depth, start, items = 0, 0, []
    for at, character in enumerate(inner):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            items.append(inner[start:at])
            start = at + 1
        if depth < 0:
            return None
    items.append(inner[start:])
    return (opening, items, closing) if len(items) > 1 and all(items) else None
