"""The protocol of a problem. Metrics, voting, verifiers, reports and servers use it alone."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

Example = Mapping[str, Any]  # a row: id, question, choices (where it has some), answer, explanation, free fields


@dataclasses.dataclass(frozen=True)
class StepCheck:
    """The steps of an explanation, counted.

    `incorrect` has the `missing` ones too. `first_wrong_step` is zero-based, the first incorrect, missing or surplus
    step; None where there is none.
    """

    correct: int = 0
    incorrect: int = 0
    unreadable: int = 0
    first_wrong_step: int | None = None
    missing: int = 0

    @property
    def total(self) -> int:
        return self.correct + self.incorrect + self.unreadable

    @property
    def valid(self) -> bool:
        """Whether there are steps, all of them are correct, and none is missing or surplus."""
        return self.correct > 0 and not self.incorrect and not self.unreadable and self.first_wrong_step is None

    @property
    def valid_so_far(self) -> bool:
        """Whether there are steps and all of them are correct; more may be missing."""
        return self.correct > 0 and self.incorrect == self.missing and not self.unreadable


class Problem(Protocol):
    """What a kind of question is. No method raises on any text."""

    name: str

    def read_answer(self, output: str, example: Example) -> str | None:
        """Returns the final answer of an output, or None where there is none."""
        ...

    def equal(self, answer: str, other: str, example: Example) -> bool:
        """Returns whether two answers have the same value."""
        ...

    def check(self, explanation: str, example: Example) -> StepCheck | None:
        """Checks an explanation step by step, or returns None where this problem has no exact check."""
        ...

    def groups(self, example: Example) -> dict[str, str]:
        """Returns the groups that the example's metrics are broken down by."""
        ...

    def chance(self, example: Example) -> float | None:
        """Returns the accuracy of a random choice, or None where there is nothing to choose from."""
        ...


def correct(problem: Problem, output: str, example: Example) -> bool:
    """Returns whether the final answer of an output equals the example's answer."""
    answer = problem.read_answer(output, example)
    return answer is not None and problem.equal(answer, str(example["answer"]), example)
