"""Scores of predictions: an evaluator holds a task's examples and metrics, and knows no model and no file."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from explainft.core.errors import UserError, nearest
from explainft.data.token_cache import Record, TokenCache
from explainft.evaluation.label_metrics import gold_text, label_metrics
from explainft.generation.generator import Generator, Output
from explainft.generation.label_choice import LabelChooser


class Scores(NamedTuple):
    """Metrics, the postprocessed targets and predictions that they compare, and the outputs that they are read from."""

    metrics: dict[str, float]
    targets: list[Any]
    predictions: list[Any]
    outputs: Sequence[Output]


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """The first `num_examples` of an evaluation task (None: all), scored with the task's own metrics."""

    cache: TokenCache
    num_examples: int | None = None

    def __post_init__(self):
        self.cache.require_texts()

    @property
    def task(self) -> str:
        return self.cache.task

    @property
    def n(self) -> int:
        return len(self.cache) if self.num_examples is None else min(self.num_examples, len(self.cache))

    @property
    def records(self) -> list[Record]:
        return self.cache.records[: self.n]

    @property
    def inputs(self) -> list[np.ndarray]:
        """Token ids, EOS included."""
        return [self.cache.inputs[i] for i in range(self.n)]

    @property
    def max_length(self) -> int:
        """The number of tokens of the longest gold target: what outputs may have."""
        return int(self.cache.targets.lengths[: self.n].max())

    def generate(
        self,
        generator: Generator | LabelChooser,
        between_batches: Callable[[], None] = lambda: None,
        max_length: int | None = None,
    ) -> list[Output]:
        """Returns a prediction for each example, with a progress bar.

        `max_length`: of an output, in tokens (None: that of the longest gold target).
        """
        length = max_length or self.max_length
        with tqdm(total=self.n, desc=f"decoding {self.task}", unit=" examples", disable=None, leave=False) as bar:
            between_batches()
            return generator.generate(self.inputs, length, bar.update, between_batches)

    def score(self, outputs: Sequence[Output]) -> Scores:
        """Scores one prediction for each example. The metric `cut` is the fraction of those cut at the length limit.

        Where predictions are labels, the metrics of label_metrics are added, and `left_out`, the number of examples
        that labels cannot score, where there are some.
        """
        scores = _score(self.cache, self.records, outputs)
        metrics = {**scores.metrics, "cut": sum(output.cut for output in outputs) / len(outputs)}
        rankings = [output.ranking for output in outputs if output.ranking is not None]
        if rankings:
            normalized = [Output(ranking.best(normalized=True)) for ranking in rankings]
            by_length = _score(self.cache, self.records, normalized).metrics
            gold = [gold_text(target, record) for target, record in zip(scores.targets, self.records, strict=True)]
            metrics |= label_metrics(rankings, gold, by_length)
            metrics |= {"left_out": left_out} if (left_out := self.cache.num_left_out()) else {}
        return scores._replace(metrics=metrics)

    def metric_names(self) -> list[str]:
        """Returns the names of the task's metrics, without decoding: those of a gold target."""
        records = self.cache.records[:1]
        return list(_score(self.cache, records, [Output(record["targets_pretokenized"]) for record in records]).metrics)

    def check_metric(self, metric: str) -> None:
        """Raises UserError where the task lacks the metric, before hours of training depend on it."""
        known = self.metric_names()
        if metric not in known:
            overall = [name for name in known if "/" not in name]
            raise UserError(f"EVAL_METRIC={metric!r} must be a metric of {self.task}{nearest(metric, overall)}")


def _score(cache: TokenCache, records: Sequence[Record], outputs: Sequence[Output]) -> Scores:
    postprocess = cache.postprocess()
    targets = [postprocess(record["targets_pretokenized"], example=record, is_target=True) for record in records]
    predictions = [
        postprocess(output.text, example=record, is_target=False)
        for output, record in zip(outputs, records, strict=True)
    ]
    metrics: dict[str, float] = {}
    for metric in cache.metrics():
        metrics.update(metric(targets, predictions))
    return Scores(metrics, targets, predictions, outputs)
