"""The cells of the matrix: a checkpoint on a task, computed once and kept as two files.

The names of the files hold a digest of all that the outputs depend on. The predictions are written first: a cell whose
metrics are there is complete.
"""

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explainft.core.atomic_files import atomic_write, refuse_unwritable
from explainft.core.errors import UserError
from explainft.evaluation.evaluator import Evaluator
from explainft.evaluation.loading import LoadedModel, check_vocabulary, load_model
from explainft.evaluation.prediction_files import prediction_rows, write_json_lines
from explainft.generation.quantization import DecodeConfig
from explainft.parallel import sharding
from explainft.transfer.columns import Column, Examples
from explainft.transfer.sources import Source

FORMAT = 1  # raise it when the content of a cell changes its meaning
DIRECTORY = "cells"  # below --output


@dataclasses.dataclass(frozen=True)
class CellSettings:
    """How cells are decoded. `num_examples`: those of each task (None: all)."""

    num_examples: int | None = None
    batch_size: int = 256
    decode_dtype: str = "float32"
    tfds_data_dir: str | None = None


@dataclasses.dataclass(frozen=True)
class CellPlan:
    """A cell that is computed or to be computed. `max_length`: of an output, in tokens."""

    source: str
    column: Column
    evaluator: Evaluator
    max_length: int
    file: Path

    @property
    def predictions(self) -> Path:
        """The outputs, a line for each example."""
        return self.file.with_suffix(".jsonl")


def plan_cell(source: Source, column: Column, examples: Examples, settings: CellSettings, output: Path) -> CellPlan:
    """Returns the plan of a cell. Raises UserError where the checkpoint cannot be evaluated on the task."""
    evaluator, dataset_digest = examples.read(column, source.vocabulary_file)
    check_vocabulary(source.weights.architecture(), evaluator.cache, source.weights)
    # As long as its own targets too: a model that keeps to its trained format is recognized by whole outputs.
    max_length = max(evaluator.max_length, source.target_length)
    key = {
        "format": FORMAT,
        "checkpoint": source.digest,
        "task": column.task,
        "dataset": dataset_digest,
        "n": evaluator.n,
        "max_length": max_length,
        "decode_dtype": settings.decode_dtype,
        "output_ids": source.meta.get("output_ids"),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    file = output / DIRECTORY / f"{column.task}-{digest}.json"
    return CellPlan(source.label, column, evaluator, max_length, file)


def compute_cells(source: Source, columns: Sequence[Column], settings: CellSettings, output: Path, parent: int) -> None:
    """Computes those cells of one checkpoint that are missing: it is loaded once.

    Ends between two batches where this process is not a child of `parent` any more: nothing waits for the cells then.
    """
    examples = Examples(settings.num_examples, settings.tfds_data_dir)
    plans = [plan_cell(source, column, examples, settings, output) for column in columns]
    loaded: LoadedModel | None = None
    for plan in plans:
        if plan.file.exists():
            continue
        if loaded is None:
            decode = DecodeConfig(settings.decode_dtype)
            loaded = load_model(source.weights, decode, settings.batch_size, mesh=sharding.make_mesh(1))
        _compute(plan, loaded, parent)
        print(f"{plan.column.title}: complete", flush=True)


def _compute(plan: CellPlan, loaded: LoadedModel, parent: int) -> None:
    def exit_without_parent() -> None:
        if os.getppid() != parent:
            sys.exit("the process that started this one has ended")

    evaluator = plan.evaluator
    outputs = evaluator.generate(loaded.task_generator(evaluator.cache), exit_without_parent, plan.max_length)
    scores = evaluator.score(outputs)
    write_json_lines(plan.predictions, prediction_rows(evaluator.records, scores))
    content = {"task": plan.column.task, "n": evaluator.n, "metrics": scores.metrics}
    with refuse_unwritable(plan.file), atomic_write(plan.file) as scratch:
        scratch.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_cell(plan: CellPlan) -> dict[str, Any]:
    """Returns the content of a complete cell. Raises UserError for anything else."""
    try:
        content = json.loads(plan.file.read_text(encoding="utf-8"))
        complete = isinstance(content["metrics"], dict) and content["n"] > 0 and plan.predictions.is_file()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        complete = False
    if not complete:
        raise UserError(f"{plan.file} is corrupt; delete it and rerun the same command")
    return content


def delete_incomplete(output: Path) -> None:
    """Deletes what killed processes left of writes that they did not complete."""
    for scratch in (output / DIRECTORY).glob("*.incomplete"):
        scratch.unlink(missing_ok=True)
