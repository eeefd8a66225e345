"""Whether an answer of a teacher becomes an explanation of its question."""

from typing import Any, NamedTuple

from explainft.problems.problem import Problem
from explainft.problems.text import last_statement
from explainft.teaching.exemplars import Template
from explainft.teaching.outputs import explanation_of, without_hint
from explainft.teaching.requests import CUT, Answer, Request

ACCEPTED = "accepted"
OTHER_ANSWER, NO_ANSWER, NO_EXPLANATION = "with another answer", "without an answer", "without an explanation"
WAS_CUT, FAILED = "cut", "without a response"
OUTCOMES = (ACCEPTED, OTHER_ANSWER, NO_ANSWER, NO_EXPLANATION, WAS_CUT, FAILED)


class Verdict(NamedTuple):
    """One of OUTCOMES; where the output has an explanation and an answer, these. `answer` is gold where accepted."""

    outcome: str
    explanation: str = ""
    answer: str = ""


def judge(problem: Problem, template: Template, request: Request, answer: Answer | None) -> Verdict:
    """Accepts what explains the gold answer.

    COTE: the output's answer equals it. RP: the output states no other answer, and has more than the hint of the
    prompt, which is left out.
    """
    if answer is None:
        return Verdict(FAILED)
    if answer.finish_reason == CUT or answer.text is None:
        return Verdict(WAS_CUT)
    example = request.question.example()
    hinted = request.method == "rp"
    found = problem.read_answer(answer.text, example)
    if found is None and not hinted:
        return Verdict(NO_ANSWER)
    states = not hinted or last_statement(answer.text) is not None
    explanation = explanation_of(answer.text, template.statement)
    if hinted:
        explanation = without_hint(explanation, template.hint_words)
    if states and found is not None and not problem.equal(found, request.question.answer, example):
        return Verdict(OTHER_ANSWER, explanation, found)
    return Verdict(ACCEPTED, explanation, request.question.answer) if explanation else Verdict(NO_EXPLANATION)


def make_row(request: Request, answer: Answer, verdict: Verdict, number: int) -> dict[str, Any]:
    """Returns a row for `data import`: of several explanations, each has an id of its own."""
    question = request.question
    source = request.method if verdict.outcome == ACCEPTED else "unfiltered"
    own = {
        "id": question.id if number == 1 else f"{question.id}/{request.index}",
        "answer": verdict.answer,
        "explanation": verdict.explanation,
        "source": source,
        "model": request.settings.model,
        "request_id": answer.request_id,
    }
    return {**question.example(), **own}
