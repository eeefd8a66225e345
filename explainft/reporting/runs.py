"""Reads run directories: their metrics, as the built-in engine and T5X write them."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from explainft.core.errors import UserError
from explainft.core.jsonl import read_jsonl
from explainft.evaluation.metrics import METRICS_SUFFIX, wilson
from explainft.evaluation.task_names import config_and_style, parse_evaluation

Metrics = dict[str, float]

SPLITS = ("validation", "test", "longer", "larger numbers")  # in the order of the data's own; others follow
# What a sweep writes beside the directory of each trial's run.
CONFIG_HASH_SUFFIX, LOG_SUFFIX, SCORED_SUFFIX = ".config_hash", ".log", ".scored"


@dataclasses.dataclass(frozen=True)
class Run:
    """The content of a run directory: the training rows by step, and the metrics by task and step; steps ascend."""

    name: str
    path: Path
    train: dict[int, Metrics]
    evaluations: dict[str, dict[int, Metrics]]

    def at(self, step: int, column: str) -> float | None:
        """A cumulative column ("examples", "seconds", "flops") after `step` steps, or the step itself.

        Interpolated between the rows, from 0 at step 0. None past the last row: nothing is known there.
        """
        if column == "step":
            return step
        rows = [(s, row[column]) for s, row in self.train.items() if column in row]
        if not rows or not 0 <= step <= rows[-1][0]:
            return None
        steps, values = zip((0, 0.0), *rows, strict=True)
        return float(np.interp(step, steps, values))

    def last(self, task: str) -> tuple[int, Metrics]:
        """The step of a task's last evaluation, and its metrics."""
        return next(reversed(self.evaluations[task].items()))


def own_variant(run: Run) -> str | None:
    """The variant that a run was trained on: training evaluates its validation task again and again.

    None where several variants could be it.
    """
    evaluated: Counter[str] = Counter()
    for task, by_step in run.evaluations.items():
        variant, split = parse_evaluation(task)
        evaluated[variant] += len(by_step) if split == "validation" else 0
    most = [variant for variant, n in evaluated.items() if n == max(evaluated.values())]
    return most[0] if len(most) == 1 else None


def row_and_split(run: Run, task: str) -> tuple[str, str]:
    """The row of a task in the tables, and the name of its split there, as in "tiny_25_96 larger numbers".

    A config that the run was not trained on is named with its splits; another style than its own has another row.
    """
    variant, split = parse_evaluation(task)
    split = split.replace("_", " ")
    own = own_variant(run)
    if variant in ("", own):
        return run.name, split
    config, style = config_and_style(variant)
    if own and style == config_and_style(own)[1]:
        return run.name, f"{config} {split}"
    return f"{run.name} {variant}", split


def split_order(name: str) -> tuple[str, int, str]:
    """A key that sorts the names of splits: those of what a run was trained on, then config by config."""
    split = next((split for split in SPLITS if f" {name}".endswith(f" {split}")), name)
    return name.removesuffix(split), SPLITS.index(split) if split in SPLITS else len(SPLITS), split


class Row(NamedTuple):
    """A row of the table of runs by evaluation splits."""

    run: int
    label: str
    cells: dict[str, tuple[str, int, Metrics]]  # task, step and metrics of the last evaluation on each split


def grid(runs: Sequence[Run]) -> tuple[list[str], list[Row]]:
    """The splits that any run was evaluated on, and the rows of each run."""
    rows = []
    for i, run in enumerate(runs):
        by_label: dict[str, dict[str, tuple[str, int, Metrics]]] = {}
        for task in run.evaluations:
            label, split = row_and_split(run, task)
            by_label.setdefault(label, {})[split] = (task, *run.last(task))
        rows += [Row(i, label, cells) for label, cells in by_label.items()]
    return sorted({split for row in rows for split in row.cells}, key=split_order), rows


class Group(NamedTuple):
    """Exact match of the examples of one group, such as an operator or a subject, with its Wilson interval."""

    name: str
    accuracy: float
    low: float
    high: float
    n: int  # 0 where it is not known; the interval is the accuracy alone then


# What the kinds of groups of our problems are called, in the order in which they are shown; others follow.
GROUP_TITLES = {
    "operator": "last operator",
    "depth": "depth",
    "length": "length in tokens",
    "choices": "number of choices",
    "subject": "subject",
    "level": "level",
}


def group_title(kind: str) -> str:
    """What a kind of groups is called: "length in tokens", and that of a problem of one's own by its name."""
    return GROUP_TITLES.get(kind, kind.replace("_", " "))


def sort_group_kinds(kinds: Iterable[str]) -> list[str]:
    """Returns each kind of groups once, in the order in which they are shown."""
    order = list(GROUP_TITLES)
    return sorted(set(kinds), key=lambda kind: (order.index(kind) if kind in order else len(order), kind))


def group_kinds(metrics: Metrics) -> list[str]:
    """The kinds of groups that metrics are broken down by: of `exact_match/operator/MAX` it is "operator"."""
    names = [key.split("/") for key in metrics if key.startswith("exact_match/")]
    return sort_group_kinds(name[1] for name in names if len(name) > 2)


def groups(metrics: Metrics, kind: str) -> list[Group]:
    """The groups of a kind, such as "operator" or "depth": by name, and numbers by number."""
    prefix = f"exact_match/{kind}/"
    found = []
    for name in sorted([key.removeprefix(prefix) for key in metrics if key.startswith(prefix)], key=group_order):
        accuracy, n = metrics[prefix + name], int(metrics.get(f"n/{kind}/{name}", 0))
        low, high = wilson(round(accuracy * n), n) if n else (accuracy, accuracy)
        found.append(Group(name, accuracy, low, high, n))
    return found


def group_order(name: str) -> tuple[int, str]:
    """A key that sorts the names of groups."""
    number = name.split("-")[0]
    return int(number) if number.isdecimal() else 0, name


def find_runs(path: Path) -> list[Path]:
    """Returns the path of a run as it is; of a directory of runs all runs in it, of a sweep its complete trials.

    Returns nothing for the files that a sweep writes beside its runs, as `runs/sizes/*` names them too.
    """
    if path.is_file() and (path.name == "lock" or path.name.endswith((CONFIG_HASH_SUFFIX, LOG_SUFFIX, SCORED_SUFFIX))):
        return []
    if _holds_run(path) or not path.is_dir():
        return [path]
    runs = [child for child in sorted(path.iterdir()) if _holds_run(child)]
    complete = [run for run in runs if _is_complete(run)]
    if runs and not complete:
        raise UserError(f"no trial of {path} is complete yet; give the directory of one of its {len(runs)} runs")
    return complete or [path]


def _holds_run(path: Path) -> bool:
    return (path / "metrics.jsonl").is_file() or any((path / "inference_eval").glob(f"*{METRICS_SUFFIX}"))


def _is_complete(run: Path) -> bool:
    """Whether a sweep has scored the run; true for a run outside a sweep."""
    scored = re.compile(re.escape(run.name) + r"\.[^.]+" + re.escape(SCORED_SUFFIX))
    of_sweep = run.with_name(run.name + CONFIG_HASH_SUFFIX).is_file()
    return not of_sweep or any(scored.fullmatch(file.name) for file in run.parent.iterdir())


def read_run(path: Path) -> Run:
    """Reads metrics.jsonl and inference_eval/. UserError where a line is damaged or there is neither file."""
    rows = _metrics(path / "metrics.jsonl")
    # The others are teacher-forced evaluations.
    train = _add_flops(_by_step([(step, row) for step, row in rows if "examples" in row]))
    evaluations = {
        file.name.removesuffix(METRICS_SUFFIX): _by_step(rows)
        for file in sorted((path / "inference_eval").glob(f"*{METRICS_SUFFIX}"))
        if (rows := _metrics(file))
    }
    if not train and not evaluations:
        expected = f"metrics.jsonl or inference_eval/<task>{METRICS_SUFFIX}"
        raise UserError(f"{path} holds no run; expected {expected} in it, as explainft train and T5X write them")
    return Run(path.resolve().name, path, train, evaluations)


def _by_step(rows: Sequence[tuple[int, Metrics]]) -> dict[int, Metrics]:
    """Ascending; T5X appends when it evaluates a step again, so the later row of a step counts."""
    return dict(sorted(dict(rows).items()))


def _add_flops(train: dict[int, Metrics]) -> dict[int, Metrics]:
    """The rows with the FLOPs up to each, from the rate and the seconds of every row so far."""
    flops = seconds = 0.0
    counted = {}
    for step, row in train.items():
        flops += row.get("flops_per_second", math.nan) * (row.get("seconds", math.nan) - seconds)
        seconds = row.get("seconds", math.nan)
        counted[step] = {**row, "flops": flops} if math.isfinite(flops) else row
    return counted


def _metrics(file: Path) -> list[tuple[int, Metrics]]:
    """(step, finite numbers) of each line."""
    return [
        (row["step"], {k: v for k, v in row.items() if isinstance(v, int | float) and math.isfinite(v)})
        for row in read_jsonl(file, {"step": int})
    ]
