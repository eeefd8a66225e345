"""Exact numbers in text: rationals without rounding, and arithmetic over them."""

import re
import unicodedata
from fractions import Fraction

MAX_DIGITS = 200  # of a number or an exponent's result: longer ones are not read
MAX_EXPRESSION = 400  # characters of arithmetic
_DECIMAL = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)?(?:\.(\d+))?(?:e([-+]?\d{1,2}))?", re.I)
_TOKEN = re.compile(r"\s*(?:(\d[\d,]*\.?\d*|\.\d+)(%?)|([-+*/()]))")
_MINUS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/", "∕": "/", "⁄": "/"})


def parse(text: str) -> Fraction | None:
    """Returns the value of a number as people write it, or None.

    Reads signs, thousands commas, decimals, exponents (`1e-05`), `a/b`, mixed numbers (`1 1/2`), Unicode fractions and
    digits. A superscript is not a digit.
    """
    text = _ascii_digits(text).translate(_MINUS).strip()
    if not text or len(text) > MAX_DIGITS:
        return None
    sign = 1
    if text[0] in ("+", "-"):
        sign = -1 if text[0] == "-" else 1
        text = text[1:].lstrip()  # a second sign makes it unreadable
    value = _unsigned(text)
    return None if value is None else sign * value


def evaluate(expression: str) -> Fraction | None:
    """Returns the exact value of arithmetic (+ - * / and parentheses; x, × and ÷ too), or None where it is none."""
    text = re.sub(r"(?<=[\d)\s])[xX](?=[\s\d(])", "*", _ascii_digits(expression).translate(_MINUS))
    text = text.replace("$", "")
    if len(text) > MAX_EXPRESSION:
        return None
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        if match[1]:
            number = _unsigned(match[1].rstrip("."))
            if number is None:
                return None
            tokens.append(number / 100 if match[2] else number)
        else:
            tokens.append(match[3])
        at = match.end()
    return _reduce(tokens)


_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2, "neg": 3}


class _Malformed(Exception):
    """The tokens are not arithmetic, or divide by zero."""


class _Stacks:
    """Operators and values that wait for their operands (Dijkstra's shunting yard): no recursion to exhaust."""

    def __init__(self):
        self.values: list[Fraction] = []
        self.operators: list[str] = []

    def push(self, operator: str) -> None:
        """Pushes a binary operator, after those before it that bind at least as tightly were applied."""
        while self.operators and self.operators[-1] != "(" and _BINDS[self.operators[-1]] >= _BINDS[operator]:
            self.apply()
        self.operators.append(operator)

    def close(self) -> None:
        """Applies the operators since the last open parenthesis."""
        while self.operators and self.operators[-1] != "(":
            self.apply()
        if not self.operators:
            raise _Malformed
        self.operators.pop()

    def apply(self) -> None:
        """Applies the last operator to the last values."""
        operator = self.operators.pop()
        if operator == "(" or len(self.values) < (1 if operator == "neg" else 2):
            raise _Malformed
        right = self.values.pop()
        if operator == "neg":
            self.values.append(-right)
            return
        left = self.values.pop()
        if operator == "/":
            if not right:
                raise _Malformed
            self.values.append(left / right)
        else:
            self.values.append({"+": left + right, "-": left - right, "*": left * right}[operator])


def _reduce(tokens: list[Fraction | str]) -> Fraction | None:
    """Evaluates infix tokens, or returns None where they are not arithmetic."""
    stacks, wants_value = _Stacks(), True
    try:
        for token in tokens:
            if isinstance(token, Fraction):
                if not wants_value:
                    return None
                stacks.values.append(token)
                wants_value = False
            elif token == "(":
                if not wants_value:  # 2 (3 + 4)
                    stacks.push("*")
                stacks.operators.append(token)
                wants_value = True
            elif wants_value:
                if token not in ("-", "+"):
                    return None
                if token == "-":
                    stacks.operators.append("neg")
            elif token == ")":
                stacks.close()
            else:
                stacks.push(token)
                wants_value = True
        if wants_value:
            return None
        while stacks.operators:
            stacks.apply()
    except _Malformed:
        return None
    return stacks.values[0]


def _unsigned(text: str) -> Fraction | None:
    mixed = re.fullmatch(r"(\d+)\s+(\d+\s*/\s*\d+)|(\d*)([¼-¾⅐-⅞↉])", text)
    if mixed and mixed[2]:
        whole, part = Fraction(int(mixed[1])), _unsigned(mixed[2])
        return None if part is None else whole + part
    if mixed:
        return Fraction(int(mixed[3] or 0)) + Fraction(unicodedata.numeric(mixed[4])).limit_denominator(10)
    above, slash, below = text.partition("/")
    if slash:
        numerator, denominator = _unsigned_decimal(above.strip()), parse(below)
        return numerator / denominator if numerator is not None and denominator else None
    return _unsigned_decimal(text)


def _unsigned_decimal(text: str) -> Fraction | None:
    match = _DECIMAL.fullmatch(text)
    if not match or not text or len(text) > MAX_DIGITS:
        return None
    if match[1] is None and match[2] is None:
        return None
    exponent = f"e{match[3]}" if match[3] else ""
    return Fraction((match[1] or "0").replace(",", "") + "." + (match[2] or "0") + exponent)


def _ascii_digits(text: str) -> str:
    """Returns the text with the decimal digits of any script as 0-9. `²` is not a decimal digit and stays."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() else str(unicodedata.decimal(c, c)) for c in text)
