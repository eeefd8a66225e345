"""Opens a built config of the dataset and prints examples of it."""

import os
from typing import Any

import tensorflow_datasets as tfds
from etils import epy
from tensorflow_datasets.core import constants

from explainft.core.errors import UserError, nearest
from explainft.data.dataset import ExplainedListops, require_config
from explainft.data.records import EXPLANATIONS
from explainft.listops.configs import SPLITS, VERSION, Config
from explainft.listops.expression import parse
from explainft.listops.render import render_tree

with epy.lazy_imports():
    import tensorflow as tf


def open_builder(config: str, data_dir: str | None) -> ExplainedListops:
    """Returns the builder of a config under `data_dir` (None: TFDS's own), built or not.

    Raises UserError where a built config has a corrupt dataset_info.json.
    """
    try:
        return ExplainedListops(config=config, data_dir=data_dir)
    except OSError:
        raise
    except Exception as error:  # TFDS and protobuf raise a type for each kind of damage
        raise _corrupt(_directory(config, data_dir), "dataset_info.json", config, data_dir) from error


def open_built(config: str, data_dir: str | None) -> ExplainedListops:
    """Returns the builder of a built config.

    Raises UserError where it is not built, cannot be read, or has a corrupt dataset_info.json or features.json.
    """
    try:
        builder = open_builder(config, data_dir)
        if not (builder.data_path.exists() and builder.is_prepared()):
            raise UserError(
                f"{builder.name}/{config} is not built in {builder.data_dir_root}; "
                f"run: {build_command(config, data_dir)}"
            )
    except OSError as error:
        path = error.filename or _directory(config, data_dir)
        raise UserError(f"cannot read the dataset at {path}: {error.strerror or error}") from error
    directory = os.fspath(builder.data_path)
    try:
        tfds.features.FeaturesDict.from_config(directory)
    except Exception as error:
        raise _corrupt(directory, "features.json", config, data_dir) from error
    if set(builder.info.splits) != set(SPLITS):
        raise _corrupt(directory, "dataset_info.json", config, data_dir)
    return builder


def _directory(config: str, data_dir: str | None) -> str:
    return os.path.join(data_dir or constants.DATA_DIR, ExplainedListops.name, config, VERSION)


def _corrupt(directory: str, part: str, config: str, data_dir: str | None) -> UserError:
    return UserError(f"{directory}: {part} is corrupt; delete the directory and run: {build_command(config, data_dir)}")


def build_command(config: str, data_dir: str | None) -> str:
    """Returns the command line that builds a config."""
    return f"explainft data build --config {config}" + (f" --tfds_data_dir {data_dir}" if data_dir else "")


def show(config: str, split: str, n: int, data_dir: str | None) -> str:
    """Returns the first n examples of a split as text: the fields, the explanations and the expression as a tree.

    Raises UserError for an unknown config or split, and as `open_built` does.
    """
    require_config(config)
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}{nearest(split, SPLITS)}")
    if n < 1:
        raise UserError(f"n={n} must be at least 1")
    builder = open_built(config, data_dir)
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    examples = builder.as_dataset(split=split, read_config=in_order)  # pyright: ignore[reportCallIssue] (decorated)
    try:
        rows = list(tfds.as_numpy(examples.take(n)))
    except tf.errors.OpError as error:  # a file is missing or cut
        raise _corrupt(os.fspath(builder.data_path), f"split {split!r}", config, data_dir) from error
    return "\n\n".join(
        _format_example(f"{config}/{split} {index}", builder.config.listops, row) for index, row in enumerate(rows)
    )


def _format_example(title: str, config: Config, row: dict[str, Any]) -> str:
    expression = row["expression"].decode()
    facts = ", ".join(f"{name} {row[name]}" for name in ("answer", "length", "depth"))
    explanations = [f"{style}:\n{row['explanation'][style].decode()}" for style in EXPLANATIONS]
    tree = render_tree(parse(expression), config.modulus)
    return "\n".join([f"--- {title}: {facts}", expression, *explanations, tree])
