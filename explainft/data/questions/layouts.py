"""The layouts that `explainft data import` reads. Each maps a row to id, question, choices, answer, explanation."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from explainft.problems import latex

Row = Mapping[str, Any]
FIELDS = ("id", "question", "choices", "answer", "explanation")


class Unreadable(Exception):
    """A row that has not the layout. The message is the reason that the import counts it under."""


def own(row: Row) -> dict[str, Any]:
    """`id, question, choices, answer, explanation`; all other fields are kept beside them."""
    fields = {name: row[name] for name in FIELDS if name in row}
    if "choices" in fields:
        fields["choices"] = choice_texts(fields["choices"])
    if len(fields) < len(row):
        fields["fields"] = {name: value for name, value in row.items() if name not in FIELDS}
    return fields


def csqa(row: Row) -> dict[str, Any]:
    """CommonsenseQA and OpenbookQA: `id, question.{stem, choices[{label, text}]}, answerKey`; `fact1` explains."""
    question = row.get("question")
    if not isinstance(question, Mapping):
        raise Unreadable("no question.stem")
    choices = question.get("choices")
    texts = choice_texts(choices)
    fields = {"id": row.get("id"), "question": question.get("stem"), "choices": texts}
    key = row.get("answerKey")
    if key is not None:
        labelled = zip(_choice_labels(choices), texts, strict=False)
        fields["answer"] = next((text for label, text in labelled if label == key), key)
    if "fact1" in row:
        fields["explanation"] = row["fact1"]
    return fields


def strategyqa(row: Row) -> dict[str, Any]:
    """StrategyQA: `qid, question, answer` as a boolean; the facts are the explanation, one after the other."""
    facts = row.get("facts")
    explanation = {"explanation": " ".join(map(str, facts))} if isinstance(facts, list) and facts else {}
    answer = {"answer": row["answer"]} if "answer" in row else {}
    return {"id": row.get("qid"), "question": row.get("question"), **answer, **explanation}


def gsm8k(row: Row) -> dict[str, Any]:
    """GSM8K: `question, answer`: the solution with its calculator marks, then a last line `#### N`."""
    solution = row.get("answer")
    fields = {"id": row.get("id"), "question": row.get("question")}
    if solution is None:
        return fields
    explanation, mark, answer = str(solution).rpartition("####")
    if not mark:
        raise Unreadable("no line '#### ANSWER'")
    return fields | {"answer": answer.strip(), "explanation": explanation.strip()}


def math(row: Row) -> dict[str, Any]:
    r"""MATH: `problem, solution, answer`; without `answer`, what the solution's last `\boxed{}` holds."""
    solution = row.get("solution")
    answer = row.get("answer")
    if answer is None and isinstance(solution, str):
        answer = latex.last_boxed(solution)
    fields = {"id": row.get("unique_id", row.get("id")), "question": row.get("problem"), "explanation": solution}
    kept = {name: row[name] for name in ("subject", "level", "type") if name in row}
    return fields | ({} if answer is None else {"answer": answer}) | {"fields": kept}


LAYOUTS: dict[str, Callable[[Row], dict[str, Any]]] = {
    "jsonl": own,
    "csqa": csqa,
    "obqa": csqa,
    "strategyqa": strategyqa,
    "gsm8k": gsm8k,
    "math": math,
}


def choice_texts(choices: Any) -> list[str]:
    """Returns the texts of choices: a list of texts or of {label, text}, or {label: [...], text: [...]}."""
    if isinstance(choices, Mapping) and isinstance(choices.get("text"), list):
        choices = choices["text"]
    if not isinstance(choices, list):
        raise Unreadable("choices are not a list")
    if choices and all(type(choice) is str for choice in choices):
        return choices
    texts = [choice.get("text") if isinstance(choice, Mapping) else choice for choice in choices]
    if not texts or not all(isinstance(text, str | int | float) for text in texts):
        raise Unreadable("choices without a text")
    return [as_text(text) for text in texts]


def _choice_labels(choices: Any) -> list[Any]:
    """Returns the labels beside the texts of choices, None where a text has none."""
    if isinstance(choices, Mapping):
        labels = choices.get("label")
        return labels if isinstance(labels, list) else []
    return [choice.get("label") if isinstance(choice, Mapping) else None for choice in choices]


def as_text(value: Any) -> str:
    """Returns an answer as text: 3 as "3", 2.0 as "2.0", true as "true", a list as its items joined by ", "."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(map(as_text, value))
    return json.dumps(value, ensure_ascii=False)
