"""The account at the end: what was accepted, what was not and why, what came back broken, and what it cost."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

from explainft.problems.problem import Problem
from explainft.teaching.judging import ACCEPTED, FAILED, OUTCOMES, Verdict
from explainft.teaching.outputs import letter_and_text
from explainft.teaching.prices import Price
from explainft.teaching.requests import Answer, Request

# How statements of answers go on after the letter of a choice, see outputs.letter_and_text.
_AGREEMENT = {
    "agree": "have its text",
    "disagree": "have that of another",
    "unknown": "have what is not a choice",
    "several": "name several",
    "alone": "have the letter alone",
}


@dataclasses.dataclass
class Account:
    """The outcomes of each method's requests, and of what they say."""

    problem: Problem
    outcomes: dict[str, Counter[str]] = dataclasses.field(default_factory=dict)  # by method
    agreement: Counter[str] = dataclasses.field(default_factory=Counter)
    checked: Counter[str] = dataclasses.field(default_factory=Counter)
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, request: Request, answer: Answer | None, verdict: Verdict) -> None:
        self.outcomes.setdefault(request.method, Counter())[verdict.outcome] += 1
        if answer is None or answer.text is None:
            return
        example = request.question.example()
        if self.problem.name == "choice" and request.method == "cote":
            self.agreement[letter_and_text(answer.text, example) or "none"] += 1
        if verdict.outcome == ACCEPTED and (check := self.problem.check(verdict.explanation, example)) is not None:
            self.checked["valid" if check.valid else "steps" if check.total else "no steps"] += 1

    def add_tokens(self, answers: Iterable[Answer]) -> None:
        """Counts the tokens of answers, each once."""
        for answer in answers:
            self.prompt_tokens += answer.prompt_tokens or 0
            self.completion_tokens += answer.completion_tokens or 0

    @property
    def accepted(self) -> Counter[str]:
        """The numbers of explanations by source."""
        return Counter({method: found[ACCEPTED] for method, found in self.outcomes.items()})

    @property
    def failed(self) -> int:
        """The number of requests without a response."""
        return sum(found[FAILED] for found in self.outcomes.values())

    def report(self) -> dict[str, Any]:
        """Returns the counts as JSON values; outcomes that did not occur are zeros."""
        return {
            "outcomes": {method: {name: found[name] for name in OUTCOMES} for method, found in self.outcomes.items()},
            "letter and text": dict(sorted(self.agreement.items())),
            "steps": dict(sorted(self.checked.items())),
            "faults": dict(sorted(self.faults.items())),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }

    def lines(self, price: Price | None) -> list[str]:
        """Returns the account, a line each."""
        lines = []
        for method, found in self.outcomes.items():
            counts = ", ".join(f"{found[outcome]:,} {outcome}" for outcome in OUTCOMES)
            lines.append(f"{method}: {found.total():,} asked; {counts}")
        if len(self.outcomes) == 2:
            lines.append(f"fell back to rp: {self.outcomes['rp'].total():,}, {self.accepted['rp']:,} of them accepted")
        if named := sum(self.agreement[kind] for kind in _AGREEMENT):
            counts = ", ".join(f"{self.agreement[kind]:,} {words}" for kind, words in _AGREEMENT.items())
            lines.append(f"letter and text: of {named:,} answers that name a choice by its letter, {counts}")
        if total := self.checked.total():
            lines.append(f"steps: all correct in {self.checked['valid']:,} of {total:,} accepted explanations")
        if self.faults:
            counts = ", ".join(f"{n:,} {kind}" for kind, n in self.faults.most_common())
            lines.append(f"responses of this run without a usable answer: {counts}")
        if self.prompt_tokens or self.completion_tokens:
            tokens = f"tokens: {self.prompt_tokens:,} of prompts, {self.completion_tokens:,} of answers"
            cost = f"; cost: ${price.of(self.prompt_tokens, self.completion_tokens):,.2f}" if price else ""
            lines.append(tokens + cost)
        return lines
