"""The table and the plots of runs, from the files in their folders alone.

The built-in engine and T5X write the same inference_eval/, but T5X no metrics.jsonl. The examples and seconds before
its evaluations are not known then: the table has dashes there, and the curves leave the run out and say so. Where no
run has them, the curves are drawn against steps.
"""

import dataclasses
import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from explainft.errors import UserError
from explainft.metrics import wilson

Metrics = dict[str, float]

METRICS_SUFFIX = "-metrics.jsonl"
HEADER = (
    "Run", "Task", "Step", "Exact match [95% interval]", "n",
    "Parseable", "Valid", "Step accuracy", "Examples", "Training seconds",
)  # fmt: skip
TEXT_COLUMNS = 2  # the others are numbers, flush right
MISSING = "-"

# Okabe and Ito's palette, which the colour-blind can tell apart; without its yellow, which is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", ":", "-.")  # the next one each time the colours are used up
LINE_HEIGHT = 14  # points, of a label


# ---- reading


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run's folder says: the training rows by step, and the metrics by task and step; steps ascend."""

    name: str
    train: dict[int, Metrics]
    evaluations: dict[str, dict[int, Metrics]]

    def at(self, step: int, column: str) -> float | None:
        """A cumulative column of metrics.jsonl ("examples", "seconds") after `step` updates, or the step itself.

        Interpolated between the rows, from 0 at step 0. None past the last row: nothing is known there.
        """
        if column == "step":
            return step
        rows = [(s, row[column]) for s, row in self.train.items() if column in row]
        if not rows or not 0 <= step <= rows[-1][0]:
            return None
        steps, values = zip((0, 0.0), *rows, strict=True)
        return float(np.interp(step, steps, values))


def read_run(path: Path) -> Run:
    """Reads metrics.jsonl and inference_eval/. UserError where a line is damaged or there is neither file."""
    rows = _read_jsonl(path / "metrics.jsonl")
    train = [(step, row) for step, row in rows if "examples" in row]  # the others are teacher-forced evaluations
    evaluations = {
        file.name.removesuffix(METRICS_SUFFIX): _by_step(rows)
        for file in sorted((path / "inference_eval").glob(f"*{METRICS_SUFFIX}"))
        if (rows := _read_jsonl(file))
    }
    if not train and not evaluations:
        expected = f"metrics.jsonl or inference_eval/<task>{METRICS_SUFFIX}"
        raise UserError(f"{path} holds no run; expected {expected} in it, as explainft train and T5X write them")
    return Run(path.resolve().name, _by_step(train), evaluations)


def _by_step(rows: Sequence[tuple[int, Metrics]]) -> dict[int, Metrics]:
    """Ascending; T5X appends when it evaluates a step again, so the later row of a step stands."""
    return dict(sorted(dict(rows).items()))


def _read_jsonl(file: Path) -> list[tuple[int, Metrics]]:
    """(step, finite numbers) of each line. The last line is passed over where a kill has cut it off."""
    try:
        lines = file.read_bytes().split(b"\n") if file.exists() else []
    except OSError as e:
        raise UserError(f"cannot read {file} ({e.strerror})") from e
    rows = []
    for number, line in enumerate(lines, 1):
        row = _parse(line)
        if row is not None:
            numbers = {k: v for k, v in row.items() if isinstance(v, int | float) and math.isfinite(v)}
            rows.append((row["step"], numbers))
        elif number < len(lines):  # what stands behind the last newline is empty or cut off
            raise UserError(f'{file} line {number} is damaged; expected a JSON object with a "step"; mend or delete it')
    return rows


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


# ---- the table


def table(runs: Sequence[Run]) -> str:
    """A Markdown table: a row for each run and task, of the task's last step. A dash is what the files do not say."""
    rows = [cells for run in runs for cells in _rows(run)]
    widths = [max(len(cells[i]) for cells in [HEADER, *rows]) for i in range(len(HEADER))]
    rule = ["-" * (width - 1) + (":" if i >= TEXT_COLUMNS else "-") for i, width in enumerate(widths)]
    lines = []
    for cells in [HEADER, rule, *rows]:
        pad = [str.ljust] * TEXT_COLUMNS + [str.rjust] * (len(HEADER) - TEXT_COLUMNS)
        padded = [pad[i](cells[i], widths[i]) for i in range(len(HEADER))]
        lines.append(f"| {' | '.join(padded)} |\n")
    return "".join(lines)


def _rows(run: Run) -> Iterator[tuple[str, ...]]:
    name = run.name.replace("|", "\\|")
    last_steps = {task: max(by_step) for task, by_step in run.evaluations.items()}
    for task, step in (last_steps or {MISSING: max(run.train, default=0)}).items():
        metrics = run.evaluations.get(task, {}).get(step, {})
        exact_match = _percent(metrics.get("exact_match"))
        if {"exact_match_low", "exact_match_high"} <= metrics.keys():
            exact_match += f" [{100 * metrics['exact_match_low']:.1f}, {100 * metrics['exact_match_high']:.1f}]"
        yield (
            name,
            task,
            f"{step:,}",
            exact_match,
            _count(metrics.get("n")),
            *(_percent(metrics.get(name)) for name in ("parseable", "valid", "step_accuracy")),
            *(_count(run.at(step, column)) for column in ("examples", "seconds")),
        )


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{share:.1%}"


def _count(number: float | None) -> str:
    return MISSING if number is None else f"{number:,.0f}"


# ---- accuracy during training


@dataclasses.dataclass(frozen=True)
class Curve:
    """One validation task of a run: metrics by step."""

    label: str
    index: int  # of the run
    run: Run
    evaluations: dict[int, Metrics]

    def points(self, column: str) -> list[tuple[float, Metrics]]:
        """(x, metrics) of each evaluation whose x is known."""
        found = [(self.run.at(step, column), metrics) for step, metrics in self.evaluations.items()]
        return [(x, metrics) for x, metrics in found if x is not None and "exact_match" in metrics]


def figure(runs: Sequence[Run]) -> Figure:
    """Final-answer exact match on validation during training, against examples seen and against minutes of training.

    A line for each run and task with "_eval_validation" in its name, its Wilson interval shaded, name and last value
    beside its end. Against steps where no run has examples; a run that cannot be drawn is named below.
    """
    curves = [curve for i, run in enumerate(runs) for curve in _curves(run, i)]
    panels = {"examples": ("training examples seen", 1), "seconds": ("minutes of training", 60)}
    if not any(curve.points("examples") for curve in curves):
        panels = {"step": ("training steps", 1)}
    drawn = [curve for curve in curves if all(curve.points(column) for column in panels)]

    fig, axes = _panels([1] * len(panels), height=max(4.0, 1.2 + len(drawn) * LINE_HEIGHT / 72))
    for ax, (column, (label, unit)) in zip(axes, panels.items(), strict=True):
        for curve in drawn:
            _draw(ax, curve, column, unit)
        ax.set(xlabel=label, xlim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        if column != "seconds":
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k
    axes[0].set_ylabel("exact match of the final answer\n(validation)")
    _label_ends(axes[-1], drawn, list(panels)[-1])
    missing = [run.name for i, run in enumerate(runs) if i not in {curve.index for curve in drawn}]
    if missing:
        note = f"not drawn, for want of validation evaluations or of metrics.jsonl: {', '.join(missing)}"
        _text(axes[0], note, (0, 0), (0, -50), "#555555")
    return fig


def _curves(run: Run, index: int) -> list[Curve]:
    tasks = [task for task in run.evaluations if "_eval_validation" in task]
    labels = [run.name] if len(tasks) == 1 else [f"{run.name} {task}" for task in tasks]
    return [Curve(label, index, run, run.evaluations[task]) for label, task in zip(labels, tasks, strict=True)]


def _draw(ax: Axes, curve: Curve, column: str, unit: float) -> None:
    points = curve.points(column)
    xs = [x / unit for x, _ in points]
    exact_match, low, high = (
        [metrics.get(f"exact_match{end}", np.nan) for _, metrics in points] for end in ("", "_low", "_high")
    )
    colour = _colour(curve.index)
    line_style = LINE_STYLES[curve.index // len(COLOURS) % len(LINE_STYLES)]
    marker = "o" if len(points) <= 25 else ""
    ax.plot(xs, exact_match, line_style, color=colour, lw=2, marker=marker, ms=4, clip_on=False, label=curve.label)
    ax.fill_between(xs, low, high, color=colour, alpha=0.18, lw=0)


def _label_ends(ax: Axes, curves: Sequence[Curve], column: str) -> None:
    """Names and last values right of the panel, each as near as may be to the height where its line ends."""
    last = [curve.points(column)[-1][1]["exact_match"] for curve in curves]
    height = ax.bbox.height / ax.figure.dpi * 72
    for curve, value, y in zip(curves, last, spread(last, LINE_HEIGHT / height), strict=True):
        _text(ax, f"{curve.label}  {value:.1%}", (1, y), (10, -3), _colour(curve.index))


def spread(heights: Sequence[float], gap: float, top: float = 1.0) -> list[float]:
    """Heights moved apart to `gap` at least, in the same order, none above `top`."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = list(heights)
    for lower, upper in itertools.pairwise(order):
        placed[upper] = max(placed[upper], placed[lower] + gap)
    for i in reversed(order):
        placed[i] = min(placed[i], top)
        top = placed[i] - gap
    return placed


# ---- accuracy by kind of expression


def breakdown(runs: Sequence[Run]) -> Figure:
    """Exact match by the root's operator, by depth and by length, with Wilson intervals; one series a run.

    Of a run's last evaluation of a task with "_eval_test" in its name, else of any task; the key says which.
    """
    picked = {i: last_evaluation(run) for i, run in enumerate(runs) if run.evaluations}
    evaluations = [metrics for _, _, metrics in picked.values()]
    kinds = {"operator": ("last operator", 6), "depth": ("depth", 3), "length": ("length", 6)}
    groups = {kind: _groups(kind, evaluations) for kind in kinds}
    # As wide as the groups' names need, and never so wide that the other panels have no room.
    widths = [min(36, width * max(4, len(groups[kind]))) for kind, (_, width) in kinds.items()]

    fig, axes = _panels(widths, height=3.6)
    for ax, (kind, names) in zip(axes, groups.items(), strict=True):
        for place, (i, (_, _, metrics)) in enumerate(picked.items()):
            offset = (place - (len(picked) - 1) / 2) * min(0.16, 0.7 / len(picked))
            for x, name in enumerate(names):
                _dot(ax, x + offset, metrics, f"{kind}/{name}", _colour(i))
        ax.set_xticks(range(len(names)), names, rotation=45 if len("".join(names)) > 30 else 0)
        ax.set(xlabel=kinds[kind][0], xlim=(-0.6, max(len(names), 1) - 0.4))
        ax.grid(visible=False, axis="x")
    axes[0].set_ylabel("exact match of the final answer")
    for place, (i, (task, step, metrics)) in enumerate(picked.items()):
        key = f"\u25cf {runs[i].name}: {task}, step {step:,}, n = {_count(metrics.get('n'))}"
        _text(axes[0], key, (0, 1), (0, LINE_HEIGHT * (len(picked) - place)), _colour(i))
    return fig


def last_evaluation(run: Run) -> tuple[str, int, Metrics]:
    """(task, step, metrics) of what `breakdown` shows of a run that has evaluations."""
    tests = [task for task in run.evaluations if "_eval_test" in task]
    task = max(tests or run.evaluations, key=lambda task: max(run.evaluations[task]))
    step = max(run.evaluations[task])
    return task, step, run.evaluations[task][step]


def _groups(kind: str, evaluations: Sequence[Metrics]) -> list[str]:
    """The names of the groups of a kind in any of the evaluations: operators by name, depths and lengths by number."""
    prefix = f"exact_match/{kind}/"
    names = {key.removeprefix(prefix) for metrics in evaluations for key in metrics if key.startswith(prefix)}
    return sorted(names, key=lambda name: (int(number) if (number := name.split("-")[0]).isdecimal() else 0, name))


def _dot(ax: Axes, x: float, metrics: Metrics, group: str, colour: str) -> None:
    share = metrics.get(f"exact_match/{group}")
    if share is None:
        return
    n = int(metrics.get(f"n/{group}", 0))
    ax.plot([x], [share], "o", color=colour, ms=5, clip_on=False)
    if n:
        ax.vlines(x, *wilson(round(share * n), n), color=colour, lw=1.4)


# ---- what both figures share


def _panels(widths: Sequence[int], height: float) -> tuple[Figure, list[Axes]]:
    """Panels side by side on one axis of percents; what stands outside of them makes the saved picture larger."""
    fig = Figure(figsize=(8.6, height))  # not pyplot's: no global state, no display, drawn by Agg
    axes = list(fig.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0])
    fig.subplots_adjust(wspace=0.12)
    axes[0].set_ylim(0, 1)
    axes[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e6e6e6")
        ax.set_axisbelow(True)
        ax.tick_params(length=0)
    return fig, axes


def _text(ax: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], colour: str) -> None:
    """Text as it is, `offset` points from a place in the panel, (0, 0) to (1, 1)."""
    ax.annotate(text, at, offset, "axes fraction", "offset points", color=colour, parse_math=False)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


# ---- writing


def plot(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Writes accuracy.png, accuracy.svg and breakdown.png."""
    accuracy = figure(runs)
    pictures = {"accuracy.png": accuracy, "accuracy.svg": accuracy, "breakdown.png": breakdown(runs)}
    for name, picture in pictures.items():
        picture.savefig(folder / name, dpi=180, bbox_inches="tight")
    return [folder / name for name in pictures]


def write_report(paths: Sequence[Path], output: Path) -> None:
    """Prints the table of the runs in `paths`, and writes it and the plots into the folder `output`."""
    runs = [read_run(path) for path in paths]
    if len({run.name for run in runs}) < len(runs):  # two folders of one name: their paths tell them apart
        runs = [dataclasses.replace(run, name=str(path)) for run, path in zip(runs, paths, strict=True)]
    text = table(runs)
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "table.md").write_text(text, encoding="utf-8")
        written = [output / "table.md", *plot(runs, output)]
    except OSError as e:
        raise UserError(f"cannot write --output={str(output)!r} ({e.strerror}); choose a writable folder") from e
    print(text, end="")
    print(*written, sep="\n", file=sys.stderr)
