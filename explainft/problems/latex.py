"""LaTeX as it stands in answers: what is boxed, and one spelling of what means the same."""

import re

_SPACES = re.compile(r"\\[,;:!> ]|~|\\quad|\\qquad|\s+")
_SIZES = re.compile(r"\\(?:left|right|bigl?|bigr|Bigl?|Bigr|displaystyle|limits)(?![a-zA-Z])")
_TEXT = re.compile(r"\\(?:text|mbox|textrm|textbf|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|(\w))\s*(?:\{([^{}]*)\}|(\w))")
_BOX_OR_BRACE = re.compile(r"(?P<box>\\(?:fbox|boxed)\s*\{)|\\boxed\s+(?P<bare>[^\s{}]+)|\\.|[{}]", re.S)
_SHORT_ROOT = re.compile(r"\\sqrt\s*(\w)")
# Words after a number that are units, not values.
_UNIT = re.compile(
    r"(?<=[\d}])\\?(?:text\{)?(?:\^?\{?\\?circ\}?|°|degrees?|cm|mm|km|inch(?:es)?|feet|ft|units?|square|cubic|dollars?|cents?|"
    r"meters?|miles?|hours?|minutes?|seconds?|days?|weeks?|months?|years?|"
    r"kg|kilograms?|grams?|pounds?|lbs?|ounces?|oz|gallons?|lit(?:er|re)s?|yards?|percent|people|points?|mph|st|nd|rd|th)+(?:\^\{?\d\}?)?\}?(?=$|[^a-zA-Z])"
)


def last_boxed(text: str) -> str | None:
    r"""Returns what the last complete `\boxed{...}` or `\fbox{...}` holds, nested braces included, or None."""
    last, last_start = None, -1
    openings: list[int | None] = []  # of each open brace: where its box begins, or None
    for token in _BOX_OR_BRACE.finditer(text):
        if token[0] == "}":
            start = openings.pop() if openings else None
            if start is not None and start > last_start:
                last, last_start = text[start : token.start()], start
        elif token["box"] or token[0] == "{":
            openings.append(token.end() if token["box"] else None)
        elif token["bare"]:  # \boxed 5
            last, last_start = token["bare"].rstrip("$."), token.start()
    return last


def normalize(answer: str) -> str:
    """Returns an answer in one spelling: no spaces, sizes, dollar signs, units or text wrappers; plain fractions."""
    text = re.sub(r"\\?[$]|[€£]", "", answer.strip().rstrip(".")).replace("\\%", "%").replace("−", "-")
    text = re.sub(r"\\[()\[\]]", "", text)
    text = re.sub(r"(?<=\d),\s*(?:\\!\s*)+(?=\d{3})", "", text)  # 900,\!000
    text = re.sub(r"(?<=\d)\{,\}(?=\d{3})", "", text)
    text = re.sub(r"(?<=\d)\s+(\d+)\s*/\s*(\d+)$", r"\\frac{\1}{\2}", text)  # 3 1/2 is not 31/2
    text = re.sub(r"(?<=\d)\s+(?=\d)(?!\d{3}(?!\d))", ";", text)  # 1 2 is not 12, and 1 000 is 1000
    text = _SIZES.sub("", text)
    text = re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", text)
    text = _TEXT.sub(r"\1", text)
    text = _SHORT_ROOT.sub(r"\\sqrt{\1}", text)
    text = _SPACES.sub("", text)
    text = _SHORT_FRACTION.sub(lambda m: f"\\frac{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", text)
    text = re.sub(r"\^\{?\\?circ\}?|°", "", text)
    text = _UNIT.sub("", text)
    text = re.sub(r"\^\{(\w)\}", r"^\1", text)
    text = re.sub(r"_\{(\w)\}", r"_\1", text)
    return text.rstrip(".,;").casefold()


def as_number_text(normalized: str) -> str:
    r"""Returns `\frac{a}{b}` of plain numbers as a/b and without a trailing percent sign, for numbers.parse."""
    match = re.fullmatch(r"([-+]?)(\d*)\\frac\{([-+]?[\d.]+)\}\{([\d.]+)\}", normalized)
    if match:
        sign, whole, above, below = match.groups()
        return f"{sign}{whole} {above}/{below}" if whole else f"{sign}{above}/{below}"
    return normalized.removesuffix("%")
