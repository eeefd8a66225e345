"""Rows of any names: which columns of a file, or features of a TFDS dataset, are the fields of a question."""

from collections.abc import Mapping, Sequence
from typing import Any

from explainft.core.errors import UserError
from explainft.data.questions.layouts import FIELDS, Unreadable

Columns = Mapping[str, Sequence[str]]


def parse_columns(words: Sequence[str]) -> dict[str, list[str]]:
    """Returns the columns of each field from words such as `choices=sol1,sol2`. Raises UserError for others."""
    columns: dict[str, list[str]] = {}
    for word in words:
        field, equals, names = word.partition("=")
        if not equals or not all(names.split(",")):
            raise UserError(f"--fields {word!r} must be FIELD=FEATURE, as in question=goal or choices=sol1,sol2")
        if field not in FIELDS:
            raise UserError(f"--fields {word!r}: {field!r} must be one of {', '.join(FIELDS)}")
        columns[field] = names.split(",")
    if "question" not in columns:
        raise UserError(
            "give --fields question=FEATURE, and answer=FEATURE, choices=FEATURE where there are some: --tfds, and a "
            "file of other columns, needs them"
        )
    return columns


def map_row(row: Any, columns: Columns, labels: Sequence[str] | None = None) -> dict[str, Any]:
    """Returns a row with the fields of layouts.own, of the columns that stand for them.

    Several columns of a question or an explanation are lines; of choices, each is one. `labels` are the choices of a
    row without any. An integer answer is the place of the choice, counted from 0; a place that does not exist, such as
    -1 of an unlabelled example, is a missing answer. Scalars of other columns are kept. Raises Unreadable where a
    column is missing.
    """
    if not isinstance(row, Mapping):
        raise Unreadable("not a JSON object")
    row = flatten(row)
    for name in (name for field in ("question", "choices") for name in columns.get(field, ())):
        if name not in row:
            raise Unreadable(f"no field {name!r}")
    used = {name for names in columns.values() for name in names}
    found = {field: [row.get(name) for name in names] for field, names in columns.items()}
    mapped: dict[str, Any] = {
        name: value for name, value in row.items() if name not in used and isinstance(value, str | int | float)
    }
    for field in FIELDS:  # another column of that name is not meant
        mapped.pop(field, None)
    for field in ("id", "answer"):
        if field in found:
            mapped[field] = found[field][0] if len(found[field]) == 1 else found[field]
    for field in ("question", "explanation"):
        if field in found:
            mapped[field] = "\n".join(_text(value) for value in found[field] if value is not None)
    choices = found.get("choices", [])
    if len(choices) == 1 and isinstance(choices[0], list | dict):
        [choices] = choices
    if "choices" in columns:
        mapped["choices"] = choices
    elif labels is not None:
        mapped["choices"] = choices = list(labels)
    mapped["answer"] = _answer(mapped.get("answer"), choices)
    return mapped


def flatten(row: Any, prefix: str = "") -> dict[str, Any]:
    """Returns nested columns by their paths, such as answer/text, with what is between."""
    flat = {}
    for name, value in row.items():
        flat[prefix + name] = value
        if hasattr(value, "items"):  # a mapping, or TFDS's description of one
            flat |= flatten(value, f"{prefix}{name}/")
    return flat


def _answer(answer: Any, choices: Any) -> Any:
    """Returns the choice that an integer or a label of {label, text} means; any other answer as it is."""
    if isinstance(choices, Mapping):
        texts, labels = choices.get("text", []), choices.get("label", [])
        if answer in labels and len(labels) == len(texts):
            return texts[labels.index(answer)]
        choices = texts
    if choices and isinstance(answer, int) and not isinstance(answer, bool):
        return choices[answer] if 0 <= answer < len(choices) else None
    return answer


def _text(value: Any) -> str:
    return " ".join(map(_text, value)) if isinstance(value, list) else str(value)
