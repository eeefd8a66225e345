"""Reads the predictions of a run, of any problem."""

import dataclasses
import functools
import re
from pathlib import Path

from explainft import listops
from explainft.core.jsonl import read_jsonl
from explainft.evaluation.targets import Target, read_target
from explainft.reporting.runs import Run, row_and_split, split_order
from explainft.reporting.verdicts import Verdict, is_listops, judge

_FILE = re.compile(r"(.+?)-(-?[0-9]{5,})\.jsonl")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The last predictions of a task that were written."""

    task: str
    label: str  # with `split`, what row_and_split says of the task
    split: str
    step: int | None  # None: a checkpoint that does not store it
    targets: list[Target]
    texts: list[str]
    cut: list[bool]  # at the length limit; False where the file does not say, as T5X's

    @functools.cached_property
    def verdicts(self) -> list[Verdict]:
        """The verdict on each output."""
        return [judge(*row) for row in zip(self.targets, self.texts, self.cut, strict=True)]


def read_predictions(run: Run) -> list[Predictions]:
    """The last predictions of each task of a known problem, row by row; UserError where a line is damaged."""
    last: dict[str, tuple[int, Path]] = {}
    for file in sorted((run.path / "inference_eval").glob("*.jsonl")):
        if match := _FILE.fullmatch(file.name):
            task, step = match[1], int(match[2])
            last[task] = max(last.get(task, (step, file)), (step, file))
    found = []
    for task, (step, file) in last.items():
        targets, texts, cut = read_file(file)
        if texts:
            found.append(Predictions(task, *row_and_split(run, task), step, targets, texts, cut))
    return sorted(found, key=lambda predictions: (predictions.label, split_order(predictions.split)))


def read_file(file: Path) -> tuple[list[Target], list[str], list[bool]]:
    """Returns the targets, the outputs and which were cut, of the rows whose problem is known.

    SeqIO leaves out what is not JSON, and other tasks have other targets. Raises UserError where a line is damaged.
    """
    targets, texts, cut = [], [], []
    for row in read_jsonl(file, {"input": dict}):
        target = read_target(row.get("target"))
        if target is not None and _is_valid(target) and isinstance(row.get("prediction"), str):
            targets.append(target)
            texts.append(row["prediction"])
            cut.append(row.get("cut") is True)
    return targets, texts, cut


def _is_valid(target: Target) -> bool:
    """Whether the problem can read the example: an expression that has a value, and choices that are a list."""
    if not is_listops(target):
        return isinstance(target.example.get("choices") or [], list)
    try:
        listops.evaluate(listops.parse(target.example["question"]), target.example["modulus"])
    except listops.ListOpsError:
        return False
    return True
