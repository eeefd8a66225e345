"""Predictions of imported questions, as the page's explorer shows them: choices, and the explanations side by side."""

import json
from typing import Any

from explainft.data.questions import forms
from explainft.evaluation.targets import QUESTION_FIELDS, Target
from explainft.problems.problem import Example
from explainft.reporting.verdicts import Verdict

MAX_FIELD = 1_000  # characters of a field of the user's own


def question_row(target: Target, output: str, verdict: Verdict) -> dict[str, Any]:
    """Returns what the explorer shows of a prediction."""
    example, form = target.example, str(target.form)
    answer, gold_answer = forms.answer_part(output, form), str(example["answer"])
    stated = form == "answer" or answer != output or output.startswith(forms.STATEMENT)
    row = {
        "question": str(example["question"]),
        "form": form,
        "groups": target.problem.groups(example),
        "choices": _choices(target, verdict.answer),
        "explanation": target.explanation(output),
        "gold": str(example.get("explanation") or ""),
        "final": answer.strip("\n") if stated else "",
        "goldFinal": forms.target_text(form, gold_answer),
        "answer": verdict.answer,
        "goldAnswer": gold_answer,
        "correct": verdict.correct,
        "kind": verdict.kind,
        "step": verdict.step,
        "id": str(example.get("id", "")),
        "fields": _own_fields(example),
    }
    if verdict.place is not None:
        row["place"] = [_utf16_length(row["explanation"][:end]) for end in verdict.place]
    return row


def _choices(target: Target, answer: str | None) -> list[dict[str, Any]]:
    """Each choice with its letter, and whether it is the reference's and the output's answer."""
    equal = target.problem.equal
    return [
        {
            "letter": forms.letter(i),
            "text": choice,
            "gold": target.is_correct(choice),
            "said": answer is not None and equal(choice, answer, target.example),
        }
        for i, choice in enumerate(map(str, target.example.get("choices") or []))
    ]


def _own_fields(example: Example) -> list[tuple[str, str]]:
    """The names and values of the fields that no problem reads, long values cut off."""
    found = []
    for name, value in example.items():
        if name not in QUESTION_FIELDS:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            found.append((name, text if len(text) <= MAX_FIELD else f"{text[:MAX_FIELD]} …"))
    return found


def _utf16_length(text: str) -> int:
    """The length of a text in JavaScript, which counts some characters twice."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
