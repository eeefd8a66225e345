"""Configs of the dataset with few examples, and reading them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import explainft
from explainft.listops.configs import SPLITS

SIZES = {split: 20 for split in SPLITS} | {"train": 300}


@contextlib.contextmanager
def cut(name: str, train_examples: int, eval_examples: int) -> Iterator[None]:
    """Gives a config other numbers of examples in this process."""
    from explainft.data.dataset import ExplainedListops

    config = ExplainedListops.builder_configs[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "train_examples", train_examples)
        patch.setattr(config, "eval_examples", eval_examples)
        yield


def build_cut(name: str, data_dir: str) -> None:
    """Builds a config with 600 training examples and 40 of each other split."""
    from explainft.data.dataset_build import build

    with cut(name, 600, 40):
        build(name, data_dir, processes=1)


def cache_tokens(data_dir: str, *evaluations: str) -> None:
    """Caches what a run on the style `medium` and its evaluations read: commands then import no TensorFlow."""
    from explainft.data import token_cache

    for split in ("train", "validation"):
        token_cache.load("explained_tiny_medium_compact", split, data_dir=data_dir)
    for task in evaluations:
        token_cache.load(task, "validation", data_dir=data_dir)  # SeqIO's name of their one split
        token_cache.task_names(task, data_dir=data_dir)


def expressions(examples) -> list[str]:
    """Returns the expressions of a tf.data.Dataset in its order."""
    return [text.decode() for text in examples.map(lambda example: example["expression"]).as_numpy_iterator()]


def environment() -> dict[str, str]:
    """Returns the variables of a process that imports the same explainft as this one."""
    path = os.pathsep.join([str(Path(explainft.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path}
