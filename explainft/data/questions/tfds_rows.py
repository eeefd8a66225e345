"""Rows of any TFDS dataset that is built, by the names of its features. Imports TensorFlow."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from explainft.core.errors import UserError, nearest
from explainft.data.questions.columns import Columns, flatten, map_row


def read(dataset: str, split: str, columns: Columns, data_dir: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the number (from 1) and the row of each example, with the fields of layouts.own, as map_row makes them.

    `dataset` is NAME, NAME/CONFIG or NAME/CONFIG:VERSION, and `split` a split as TFDS writes it, such as train[:90%].
    Without choices, a class label has its names for choices.
    """
    builder = _open(dataset, data_dir)
    known = flatten(builder.info.features or {})
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
    for number, example in enumerate(examples, 1):
        yield number, map_row(_to_json(example), columns, names)


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


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")  # what is not UTF-8 is refused as a lone surrogate
    if isinstance(value, Mapping):
        return {name: _to_json(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _to_json(value.tolist())
    return [_to_json(item) for item in value] if isinstance(value, list) else value
