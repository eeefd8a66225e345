"""The columns of the matrix: evaluation tasks, each at a number of shots."""

import dataclasses
import json
from collections import Counter
from hashlib import blake2b

import numpy as np

from explainft.core.errors import UserError
from explainft.data import few_shot_names, token_cache
from explainft.data.token_cache import TokenCache
from explainft.evaluation.evaluator import Evaluator
from explainft.transfer.settings import SHOTS, Transfer

SEQIO_SPLIT = "validation"  # SeqIO's name of the one split of an evaluation task
MEANING = (
    "postprocess",
    "metrics",
    "next_input",
    "labels",
    "left_out",
    "context",
)  # of a task's meta: how outputs are scored


@dataclasses.dataclass(frozen=True)
class Column:
    """An evaluation task. `shots` is the number of demonstrations that its name specifies; None for any other task."""

    label: str
    group: str
    shots: int | None
    task: str
    module: str

    @property
    def title(self) -> str:
        """The label, with the number of shots."""
        return self.label if self.shots is None else f"{self.label}, {format_shots(self.shots)}"


def format_shots(shots: int) -> str:
    """Returns "1 shot" or "2 shots"."""
    return f"{shots} shot" if shots == 1 else f"{shots} shots"


def without_shots(variant: str) -> str:
    """Returns a variant without its number of shots: `explained_tiny_medium_2_shot` is `explained_tiny_medium`."""
    parts = few_shot_names.parse(variant)
    return variant if parts is None else parts.variant


def make_columns(transfer: Transfer, data_dir: str | None) -> list[Column]:
    """Returns the columns of all evaluations. Raises UserError for a task that is not registered, or named twice."""
    columns = []
    for label, group, name, module in transfer.list_evaluations():
        for shots in transfer.shots if SHOTS in name else (None,):
            filled = name.replace(SHOTS, str(shots))
            tasks = token_cache.task_names(filled, module, data_dir)
            for task in tasks:
                own = label if len(tasks) == 1 else f"{label}: {task}"
                columns.append(Column(own, group, shots, task, module))
    for kind, values in (("task", [c.task for c in columns]), ("title", [c.title for c in columns])):
        [(value, times), *_] = Counter(values).most_common(1)
        if times > 1:
            raise UserError(f"{times} evaluations have the {kind} {value!r}; name each once")
    return columns


class Examples:
    """The examples of columns, each read once. `num_examples`: those that are evaluated (None: all)."""

    def __init__(self, num_examples: int | None, data_dir: str | None):
        self._num_examples = num_examples
        self._data_dir = data_dir
        self._read: dict[tuple[str, str, str | None], tuple[Evaluator, str]] = {}

    def read(self, column: Column, vocabulary_file: str | None) -> tuple[Evaluator, str]:
        """Returns the evaluator of a column, and the digest of its examples. Raises UserError for one without scores.

        `vocabulary_file` is a SentencePiece model in place of the task's own.
        """
        key = column.task, column.module, vocabulary_file
        if key not in self._read:
            task, module, _ = key
            cache = token_cache.load(task, SEQIO_SPLIT, module, self._data_dir, vocabulary_file=vocabulary_file)
            if not cache.meta["metrics"]:
                raise UserError(f"{task} has no metrics; name a task of {module} that has some")
            evaluator = Evaluator(cache, self._num_examples)
            self._read[key] = evaluator, dataset_digest(cache, evaluator.n)
        return self._read[key]


def dataset_digest(cache: TokenCache, n: int) -> str:
    """Returns 16 hex digits of the first n examples as token ids and records, and of how their outputs are scored."""
    digest = blake2b(json.dumps([cache.meta.get(name) for name in MEANING], sort_keys=True).encode())
    for feature in (cache.inputs, cache.targets):
        tokens, lengths = feature.take(np.arange(n))
        digest.update(lengths.astype("<i8").tobytes() + tokens.tobytes())
    for record in cache.records[:n]:
        digest.update(json.dumps(record, sort_keys=True).encode())
    return digest.hexdigest()[:16]
