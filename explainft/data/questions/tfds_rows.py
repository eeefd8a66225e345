"""Rows of any TFDS dataset that is built, by the names of its features. Imports TensorFlow."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from explainft.core.errors import UserError, nearest
from explainft.data.questions.layouts import FIELDS

Columns = Mapping[str, Sequence[str]]


def parse_columns(words: Sequence[str]) -> dict[str, list[str]]:
    """Returns the features of each field from words such as `choices=sol1,sol2`. Raises UserError for others."""
    columns: dict[str, list[str]] = {}
    for word in words:
        field, equals, features = word.partition("=")
        if not equals or not all(features.split(",")):
            raise UserError(f"--fields {word!r} must be FIELD=FEATURE, as in question=goal or choices=sol1,sol2")
        if field not in FIELDS:
            raise UserError(f"--fields {word!r}: {field!r} must be one of {', '.join(FIELDS)}")
        columns[field] = features.split(",")
    if "question" not in columns:
        raise UserError(
            "--tfds needs --fields question=FEATURE, and answer=FEATURE, choices=FEATURE where there are some"
        )
    return columns


def read(dataset: str, split: str, columns: Columns, data_dir: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the number (from 1) and the row of each example, with the fields of layouts.own.

    `dataset` is NAME, NAME/CONFIG or NAME/CONFIG:VERSION, and `split` a split as TFDS writes it, such as train[:90%].
    Several features of a question or an explanation are lines; of choices, each is one. An integer answer is the place
    of the choice, counted from 0; without choices, a class label has its names for choices. A place that does not
    exist, such as -1 of an unlabelled example, is a missing answer. Scalars of other features are kept.
    """
    builder = _open(dataset, data_dir)
    known = _flatten(builder.info.features or {})
    for feature in (name for names in columns.values() for name in names):
        if feature not in known:
            raise UserError(f"--fields: {dataset} has no feature {feature!r}{nearest(feature, list(known))}")
    labels = [known[name] for name in columns.get("answer", ())]
    names = labels[0].names if len(labels) == 1 and isinstance(labels[0], tfds.features.ClassLabel) else None
    try:
        in_order = tfds.ReadConfig(interleave_cycle_length=1)
        examples = tfds.as_numpy(builder.as_dataset(split=split, read_config=in_order, shuffle_files=False))
    except Exception as error:  # TFDS raises a type for each kind of wrong split
        raise UserError(f"{dataset} has no split {split!r}; it has {', '.join(builder.info.splits)}") from error
    used = {name for features in columns.values() for name in features}
    for number, example in enumerate(examples, 1):
        yield number, _row(_flatten(_to_json(example)), columns, names, used)


def _open(dataset: str, data_dir: Path) -> Any:
    fix = f"build it first: tfds build {dataset.partition('/')[0]} --data_dir {data_dir}"
    try:
        builder = tfds.builder(dataset, data_dir=os.fspath(data_dir))
        built = bool(builder.info.splits) and builder.data_path.exists()
    except Exception as error:  # TFDS has several for an unknown name, config or version, and for what is corrupt
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise UserError(f"--tfds={dataset} cannot be opened in {data_dir} ({reason}); {fix}") from error
    if not built:
        raise UserError(f"--tfds={dataset} is not in {data_dir}; {fix}")
    return builder


def _row(example: Mapping[str, Any], columns: Columns, names: Sequence[str] | None, used: set[str]) -> dict[str, Any]:
    found = {field: [example[name] for name in features] for field, features in columns.items()}
    row: dict[str, Any] = {
        name: value for name, value in example.items() if name not in used and isinstance(value, str | int | float)
    }
    for field in FIELDS:  # another feature of that name is not meant
        row.pop(field, None)
    for field in ("id", "answer"):
        if field in found:
            row[field] = found[field][0] if len(found[field]) == 1 else found[field]
    for field in ("question", "explanation"):
        if field in found:
            row[field] = "\n".join(_text(value) for value in found[field])
    choices = found.get("choices", [])
    if len(choices) == 1 and isinstance(choices[0], list | dict):
        [choices] = choices
    if "choices" in columns:
        row["choices"] = choices
    elif names is not None:
        row["choices"] = choices = list(names)
    row["answer"] = _answer(row.get("answer"), choices)
    return row


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


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")  # what is not UTF-8 is refused as a lone surrogate
    if isinstance(value, Mapping):
        return {name: _to_json(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _to_json(value.tolist())
    return [_to_json(item) for item in value] if isinstance(value, list) else value


def _flatten(features: Any, prefix: str = "") -> dict[str, Any]:
    """Returns nested features by their paths, such as answer/text, with what is between."""
    flat = {}
    for name, value in features.items():
        flat[prefix + name] = value
        if isinstance(value, Mapping | tfds.features.FeaturesDict):
            flat |= _flatten(value, f"{prefix}{name}/")
    return flat
