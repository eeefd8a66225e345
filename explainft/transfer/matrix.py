"""The matrix: cells as read, differences from the baselines, and a summary of each run."""

import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from explainft.evaluation.metrics import wilson
from explainft.evaluation.task_names import parse_evaluation
from explainft.reporting.predictions import Predictions, read_file
from explainft.transfer.cells import CellPlan, read_cell
from explainft.transfer.columns import Column, without_shots
from explainft.transfer.differences import (
    NEGATIVE,
    POSITIVE,
    UNCLEAR,
    Difference,
    paired_difference,
    unpaired_difference,
)
from explainft.transfer.distances import Distance
from explainft.transfer.formats import FormatCounts, count_formats
from explainft.transfer.sources import Source

EXACT_MATCH = "exact_match"
SHIFTED = ("longer", "larger_numbers")  # splits of ListOps that are drawn from another distribution than "train"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A checkpoint on a task. `own`: the checkpoint was trained on the examples and the form of that task."""

    plan: CellPlan
    n: int
    metrics: Mapping[str, float]
    metric: str  # the one that is compared
    own: bool
    predictions: Predictions
    formats: FormatCounts

    @property
    def value(self) -> float:
        return self.metrics[self.metric]

    @functools.cached_property
    def correct(self) -> list[bool] | None:
        """Which examples are correct; None where the metric is not their fraction."""
        if self.metric != EXACT_MATCH or len(self.predictions.texts) != self.n:
            return None
        pairs = zip(self.predictions.targets, self.predictions.texts, strict=True)
        return [target.is_correct(target.read_answer(text)) for target, text in pairs]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval; None where the task gives none."""
        low, high = (self.metrics.get(f"{self.metric}_{end}") for end in ("low", "high"))
        if low is None or high is None:
            return wilson(sum(self.correct), self.n) if self.correct else None
        return low, high

    def difference(self, start: "Cell") -> Difference:
        """Returns the change from the cell of the baseline."""
        if self.correct is not None and start.correct is not None and self._examples == start._examples:
            return paired_difference(self.correct, start.correct)
        return unpaired_difference(self.value, self.interval, start.value, start.interval)

    @functools.cached_property
    def _examples(self) -> list[tuple[str, str]]:
        return [(str(t.example["question"]), str(t.example["answer"])) for t in self.predictions.targets]


class Row(NamedTuple):
    """A checkpoint with its cells, one for each column, and its distance from its baseline."""

    source: Source
    cells: list[Cell]
    distances: dict[str, Distance] | None = None


class Summary(NamedTuple):
    """What a run gained and lost beside its own tasks. Means are over the evaluations that it was not trained on.

    `own` is the mean difference on its own tasks; None where none is evaluated. `forgetting` counts losses alone.
    """

    positive: int
    negative: int
    unclear: int
    mean: float | None
    own: float | None
    forgetting: float | None
    largest_loss: float | None
    lost_on: str | None


@dataclasses.dataclass(frozen=True)
class Matrix:
    """The rows and columns of `explainft transfer`."""

    columns: list[Column]
    rows: list[Row]

    def row(self, label: str) -> Row:
        return next(row for row in self.rows if row.source.label == label)

    @property
    def compared(self) -> list[tuple[Row, list[Difference]]]:
        """The rows that have a baseline, with their differences from it."""
        found = []
        for row in self.rows:
            if row.source.baseline is not None:
                start = self.row(row.source.baseline)
                found.append((row, [cell.difference(of) for cell, of in zip(row.cells, start.cells, strict=True)]))
        return found


def read_row(
    source: Source,
    plans: Sequence[CellPlan],
    metric: str | None,
    data_dir: str | None,
) -> Row:
    """Reads the complete cells of a checkpoint. Raises UserError where one is corrupt or lacks the metric."""
    tasks = source.training_tasks(data_dir)
    return Row(source, [_read(source, plan, metric, tasks) for plan in plans])


def _read(source: Source, plan: CellPlan, metric: str | None, training_tasks: Sequence[str]) -> Cell:
    content, column = read_cell(plan), plan.column
    targets, texts, cut = read_file(plan.predictions)
    title = column.title if not column.group else f"{column.group}: {column.title}"
    predictions = Predictions(column.task, source.label, title, source.weights.step, targets, texts, cut)
    # A label is chosen among those of the task: it always has the format that was asked for.
    formats = (
        FormatCounts(None, None) if plan.evaluator.cache.labels() else count_formats(targets, texts, source.formats)
    )
    own = is_own(column.task, training_tasks)
    metrics = content["metrics"]
    return Cell(plan, content["n"], metrics, metric_of(metrics, metric), own, predictions, formats)


def metric_of(metrics: Mapping[str, float], wanted: str | None) -> str:
    """Returns the metric of a task that is compared: the wanted one, else exact match, else its first."""
    overall = [name for name in metrics if "/" not in name and name != "cut"]
    preferred = [wanted] if wanted in metrics else [EXACT_MATCH] if EXACT_MATCH in metrics else overall
    return str(preferred[0])


def is_own(task: str, training_tasks: Sequence[str]) -> bool:
    """Returns whether an evaluation is of the distribution and the form of a training task, at any number of shots."""
    variant, split = parse_evaluation(task)
    variant = without_shots(variant)
    return split not in SHIFTED and variant in {without_shots(name.removesuffix("_compact")) for name in training_tasks}


def summarize(row: Row, differences: Sequence[Difference]) -> Summary:
    """Summarizes the differences of a run from its baseline."""
    pairs = list(zip(row.cells, differences, strict=True))
    own = [difference.value for cell, difference in pairs if cell.own]
    others = [(difference, cell.plan.column.title) for cell, difference in pairs if not cell.own]
    verdicts = [difference.transfer for difference, _ in others]
    values = [difference.value for difference, _ in others]
    worst = min(others, key=lambda pair: pair[0].value, default=None)
    lost = worst if worst is not None and worst[0].value < 0 else None
    return Summary(
        positive=verdicts.count(POSITIVE),
        negative=verdicts.count(NEGATIVE),
        unclear=verdicts.count(UNCLEAR),
        mean=statistics.mean(values) if values else None,
        own=statistics.mean(own) if own else None,
        forgetting=statistics.mean(max(0.0, -value) for value in values) if values else None,
        largest_loss=None if lost is None else lost[0].value,
        lost_on=None if lost is None else lost[1],
    )
