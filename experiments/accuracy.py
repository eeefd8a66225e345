"""Accuracies in the files of results/, pooled over seeds."""

import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from explainft.evaluation.metrics import wilson
from explainft.sweeps.results import read_result

ROOT = Path(__file__).parent.parent

STYLES = ("none", "short", "medium", "long", "shuffled")
SIZES = ("60k", "240k", "0.9M", "3.7M")
T5_SIZES = ("small", "base", "large", "3b")
EXAMPLES = ("1000", "3000", "10000", "30000", "98000")
# Lengths of the test split of tiny (8-24) and of tiny_25_96, as multiples of the longest that was trained on; 45-49
# once more by itself, as twice that.
LENGTHS = {
    "8-24": range(8, 25), "25-49": range(25, 50), "45-49": range(45, 50), "50-69": range(50, 70), "70-96": range(70, 97)
}  # fmt: skip

# What a sweep without an axis has on it, and what a table shows that does not speak of it.
DEFAULTS = {
    "style": "medium", "size": "240k", "examples": "98000", "percent": "100", "task": "tiny", "without": "", "data": "",
    "output_vocabulary": "all", "precision": "float32",
}  # fmt: skip

Result = dict[str, Any]


class Accuracy(NamedTuple):
    """The accuracy of some runs on the same n examples: their mean, minimum and maximum, and Wilson's interval.

    The interval is that of the mean accuracy on n examples: more runs on the same examples add no examples.
    """

    mean: float
    min: float
    max: float
    low: float
    high: float
    n: int
    runs: int

    def text(self) -> str:
        return f"**{self.mean:.1%}** [{100 * self.low:.1f}, {100 * self.high:.1f}]" + (
            f" ({100 * self.min:.1f} to {100 * self.max:.1f})" if self.runs > 1 else " (1 seed)"
        )


def results(directory: Path = ROOT / "results") -> list[Result]:
    return [read_result(path) for path in sorted(directory.glob("*/*.json"))]


def pick(found: Iterable[Result], **axis_values: str) -> list[Result]:
    """The results, of any seed, with these values on the axes; on the others with those of DEFAULTS, and on no more."""
    wanted = DEFAULTS | axis_values
    return [
        r
        for r in found
        if r["axis_values"].keys() <= DEFAULTS.keys() | {"seed"}
        and all(r["axis_values"].get(axis, DEFAULTS[axis]) == value for axis, value in wanted.items())
    ]


def accuracy(found: Sequence[Result], split: str, metric: str = "exact_match") -> Accuracy | None:
    """`split`: the end of an evaluation task's name, "tiny_25_96_test", with the config before the split."""
    cells = [metrics for result in found if (metrics := metrics_of(result, split)) and metric in metrics]
    return pooled([(cell[metric] * cell["n"], cell["n"]) for cell in cells])


def pooled(counts: Sequence[tuple[float, float]]) -> Accuracy | None:
    counts = [(correct, n) for correct, n in counts if n]
    if not counts:
        return None
    accuracies = [correct / n for correct, n in counts]
    mean, n = statistics.mean(accuracies), round(statistics.mean(n for _, n in counts))
    return Accuracy(mean, min(accuracies), max(accuracies), *wilson(mean * n, n), n, len(accuracies))


def metrics_of(result: Result, split: str) -> dict[str, float] | None:
    for task, metrics in result["evaluations"].items():
        config, _, of_config = re.sub("_compact$", "", task).partition("_eval_")
        config = config.removeprefix("explained_").rpartition("_")[0]
        if split in (of_config if config in ("tiny", "modsum_tiny") else None, f"{config}_{of_config}"):
            return metrics
    return None


def by_length(found: Sequence[Result], lengths: range) -> Accuracy | None:
    counts = []
    for result in found:
        correct = n = 0.0
        for split in ("test", "tiny_25_96_test"):
            for name, of_group in (metrics_of(result, split) or {}).items():
                if name.startswith("n/length/") and _overlap(name.removeprefix("n/length/"), lengths):
                    correct += of_group * (metrics_of(result, split) or {})[name.replace("n/", "exact_match/", 1)]
                    n += of_group
        counts.append((correct, n))
    return pooled(counts)


def _overlap(bucket: str, lengths: range) -> bool:
    """Whether the metrics' bucket, "5-9" or "90-99", holds lengths of the range. No data lie between the two tasks."""
    first, last = map(int, bucket.split("-"))
    return first < lengths.stop and lengths.start <= last


def mean_of(found: Sequence[Result], split: str, metric: str) -> float | None:
    """Of the runs that have it."""
    values = [metrics[metric] for result in found if (metrics := metrics_of(result, split)) and metric in metrics]
    return statistics.mean(values) if values else None
