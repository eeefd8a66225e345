"""Free text: exact match after a stated normalization."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from explainft.problems.problem import Example, StepCheck

STATEMENT = re.compile(
    r"\banswer(?:\s+choice)?(?:\s+(?:is|was|would\s+be|should\s+be|must\s+be)\b(?:\s*:)?|\s*[:=])", re.I
)
_EDGES = " \t\r\n.,;:!?\"'`“”‘’()[]{}*"


def normalize(text: str) -> str:
    """Returns the text in NFKC, lower case, with single spaces, without punctuation or quotes at its ends.

    A text of nothing else, such as "?", keeps them.
    """
    text = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    text = " ".join(text.split())
    return text.strip(_EDGES) or text


def first_equal(texts: Sequence[str]) -> tuple[str, str] | None:
    """Returns the first two texts that are equal after normalization; None where all differ."""
    seen: dict[str, str] = {}
    for text in texts:
        value = normalize(text)
        if value in seen:
            return seen[value], text
        seen[value] = text
    return None


def last_statement(output: str) -> str | None:
    """Returns what follows the last explicit "the answer is" on its line, or None where nothing does."""
    return next(statements(output), None)


def statements(output: str) -> Iterator[str]:
    """Yields what follows each explicit "the answer is" on its line, before the next one; the last first."""
    folded = output.replace("İ", "i").lower()  # the one letter whose lower case is two: places would shift
    at, end = folded.rfind("answer"), len(output)  # much faster than to search for the pattern
    while at >= 0:
        match = STATEMENT.match(output, at)
        stated = output[match.end() : end].lstrip(" \t\r\n:*").split("\n", 1)[0].strip() if match else ""
        if stated:
            yield stated
            end = at
        at = folded.rfind("answer", 0, at)


class Text:
    """Any question whose answer is a short text. The answer is what "the answer is" names, else the last line."""

    name = "text"

    def read_answer(self, output: str, example: Example) -> str | None:
        stated = last_statement(output)
        if stated is None:
            lines = [line for line in output.split("\n") if line.strip()]
            stated = lines[-1] if lines else ""
        return stated.strip() if normalize(stated) else None

    def equal(self, answer: str, other: str, example: Example) -> bool:
        return normalize(answer) == normalize(other)

    def check(self, explanation: str, example: Example) -> StepCheck | None:
        return None

    def groups(self, example: Example) -> dict[str, str]:
        return {}

    def chance(self, example: Example) -> float | None:
        return None
