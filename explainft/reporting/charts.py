"""The figures of runs: exact match during training, by kind of expression, and by run and split; and the mistakes.

T5X writes no metrics.jsonl: the examples and seconds before its evaluations are not known, and its runs are drawn
against steps alone.
"""

import dataclasses
import itertools
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from explainft.reporting.runs import (
    Group,
    Metrics,
    Predictions,
    Run,
    grid,
    group_order,
    groups,
    own_variant,
    row_and_split,
    variant_and_split,
)

# Okabe and Ito's palette, which the colour-blind can tell apart; without its yellow, which is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# The next ones each time the colours are used up; a marker with the character that stands for it beside a name.
LINE_STYLES = ("-", "--", ":", "-.")
MARKERS = (("o", "\u25cf"), ("s", "\u25a0"), ("^", "\u25b2"), ("D", "\u25c6"))
LINE_HEIGHT = 14  # points, of a label
# What a reader sees of each kind of first mistake, and of none; colours of the same palette.
VALID = "valid"
KINDS = {
    VALID: ("valid", "#c9d3dc"),
    "operator": ("wrong operator", "#D55E00"),
    "list": ("wrong list", "#56B4E9"),
    "copy": ("copy error", "#E69F00"),
    "arithmetic": ("wrong arithmetic", "#0072B2"),
    "malformed": ("malformed", "#000000"),
    "answer": ("wrong answer", "#CC79A7"),
}


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
    """Final-answer exact match on validation during training, against steps, examples seen and minutes of training.

    A line for each run and style, its Wilson interval shaded, name and last value beside its end. Against FLOPs too
    where every run that has examples has them. What cannot be drawn, or against steps alone, is named below.
    """
    curves = [curve for i, run in enumerate(runs) for curve in _curves(run, i) if curve.points("step")]
    counted = [curve for curve in curves if curve.points("examples")]
    panels = {"step": ("training steps", 1)}
    if counted:
        panels |= {"examples": ("training examples seen", 1), "seconds": ("minutes of training", 60)}
    if counted and all(curve.points("flops") for curve in counted):
        panels["flops"] = ("training FLOPs", 1)

    fig, axes = _panels([1] * len(panels), max(8.6, 3.2 * len(panels)), max(4.0, 1.2 + len(curves) * LINE_HEIGHT / 72))
    for ax, (column, (label, unit)) in zip(axes, panels.items(), strict=True):
        for curve in curves:
            if curve.points(column):
                _draw(ax, curve, column, unit)
        ax.set(xlabel=label, xlim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        if column != "seconds":
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k
    axes[0].set_ylabel("exact match of the final answer\n(validation)")
    _label_ends(axes[-1], curves)
    drawn = {curve.index for curve in curves}
    undrawn = [run.name for i, run in enumerate(runs) if i not in drawn]
    by_steps = [curve.label for curve in curves if counted and not curve.points("examples")]
    notes = {
        "not drawn, for want of validation evaluations": undrawn,
        "against steps alone, for want of metrics.jsonl": by_steps,
    }
    lines = [f"{why}: {', '.join(names)}" for why, names in notes.items() if names]
    if lines:
        _text(axes[0], "\n".join(lines), (0, 0), (0, -36 - LINE_HEIGHT * len(lines)), "#555555")
    return fig


def _curves(run: Run, index: int) -> list[Curve]:
    places = {task: row_and_split(run, task) for task in run.evaluations}
    return [
        Curve(label, index, run, run.evaluations[task])
        for task, (label, split) in places.items()
        if split == "validation"
    ]


def _draw(ax: Axes, curve: Curve, column: str, unit: float) -> None:
    points = curve.points(column)
    xs = [x / unit for x, _ in points]
    exact_match, low, high = (
        [metrics.get(f"exact_match{end}", np.nan) for _, metrics in points] for end in ("", "_low", "_high")
    )
    colour, turn = look(curve.index)
    style = {"ls": LINE_STYLES[turn], "marker": MARKERS[turn][0], "ms": 4, "markevery": max(1, len(points) // 12)}
    ax.plot(xs, exact_match, color=colour, lw=2, clip_on=False, label=curve.label, **style)
    ax.fill_between(xs, low, high, color=colour, alpha=0.18, lw=0)


def _label_ends(ax: Axes, curves: Sequence[Curve]) -> None:
    """Names and last values right of the panel, each as near as may be to the height where its line ends."""
    last = [curve.points("step")[-1][1]["exact_match"] for curve in curves]
    height = ax.bbox.height / ax.figure.dpi * 72
    for curve, value, y in zip(curves, last, spread(last, LINE_HEIGHT / height), strict=True):
        _name(ax, curve.index, f"{curve.label}  {value:.1%}", (1, y), (10, -3))


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

    Of a run's last evaluation on the test split, else on any, of what it was trained on before others; the key says
    which.
    """
    picked = {i: last_evaluation(run) for i, run in enumerate(runs) if run.evaluations}
    evaluations = [metrics for _, _, metrics in picked.values()]
    kinds = {"operator": ("last operator", 6), "depth": ("depth", 3), "length": ("length", 6)}
    names = {
        kind: sorted({group.name for metrics in evaluations for group in groups(metrics, kind)}, key=group_order)
        for kind in kinds
    }
    # As wide as the groups' names and dots need, and never so wide that the other panels have no room.
    dots = min(6, len(picked))
    widths = [min(36, max(width, dots) * max(4, len(names[kind]))) for kind, (_, width) in kinds.items()]

    fig, axes = _panels(widths, min(max(8.6, 1.1 * len(picked)), 18), 3.6)
    for ax, (kind, ticks) in zip(axes, names.items(), strict=True):
        for place, (i, (_, _, metrics)) in enumerate(picked.items()):
            offset = (place - (len(picked) - 1) / 2) * min(0.16, 0.8 / len(picked))
            for group in groups(metrics, kind):
                _dot(ax, ticks.index(group.name) + offset, group, i)
        ax.set_xticks(range(len(ticks)), ticks, rotation=45 if len("".join(ticks)) > 30 else 0)
        ax.set(xlabel=kinds[kind][0], xlim=(-0.6, max(len(ticks), 1) - 0.4))
        ax.grid(visible=False, axis="x")
    axes[0].set_ylabel("exact match of the final answer")
    for place, (i, (task, step, metrics)) in enumerate(picked.items()):
        n = f"{metrics['n']:,.0f}" if "n" in metrics else "-"
        label, split = row_and_split(runs[i], task)
        key = f"{label}: {split}, step {step:,}, n = {n}"
        _name(axes[0], i, key, (0, 1), (0, LINE_HEIGHT * (len(picked) - place)))
    return fig


def last_evaluation(run: Run) -> tuple[str, int, Metrics]:
    """(task, step, metrics) of what `breakdown` shows of a run that has evaluations."""
    own = own_variant(run)

    def rank(task: str) -> tuple[bool, bool, int]:
        variant, split = variant_and_split(task)
        return variant == own, split == "test", max(run.evaluations[task])

    task = max(run.evaluations, key=rank)
    return task, *run.last(task)


def _dot(ax: Axes, x: float, group: Group, run: int) -> None:
    colour, turn = look(run)
    ax.plot([x], [group.share], MARKERS[turn][0], color=colour, ms=5, clip_on=False)
    if group.n:
        ax.vlines(x, group.low, group.high, color=colour, lw=1.4)


# ---- accuracy by run and split


def heatmap(runs: Sequence[Run]) -> Figure:
    """Exact match of each run's last evaluation on each split, its Wilson interval below it."""
    splits, rows = grid(runs)
    fig = Figure(figsize=(1.5 * max(len(splits), 1), 0.62 * max(len(rows), 1)))
    ax = fig.subplots()
    for y, row in enumerate(rows):
        for x, split in enumerate(splits):
            _, _, metrics = row.cells.get(split, ("", 0, {}))
            share = metrics.get("exact_match")
            fill, ink = heat(share)
            ax.add_patch(Rectangle((x, y), 1, 1, facecolor=fill, edgecolor="white", lw=2))
            text, below = ("-", "") if share is None else (f"{share:.1%}", interval(metrics))
            written = [
                ax.text(x + 0.5, y + (0.36 if below else 0.5), text, size=13, weight="bold", color=ink),
                ax.text(x + 0.5, y + 0.74, below, size=8, color=ink),
            ]
            for line in written:
                line.set(ha="center", va="center")
    ax.set(xlim=(0, max(len(splits), 1)), ylim=(max(len(rows), 1), 0))
    ax.set_xticks(
        [x + 0.5 for x in range(len(splits))], [textwrap.fill(split, 16) for split in splits], parse_math=False
    )
    ax.set_yticks([y + 0.5 for y in range(len(rows))], [row.label for row in rows], parse_math=False)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return fig


def heat(share: float | None) -> tuple[str, str]:
    """The fill of a cell, paler to darker blue, and the ink that can be read on it."""
    if share is None:
        return "#f2f2f2", "#555555"
    fill = to_hex(matplotlib.colormaps["Blues"](0.05 + 0.9 * share))
    return fill, _ink(fill)


def _ink(fill: str) -> str:
    """Relative luminance as WCAG has it; at 0.18 white and black stand out alike, 4.6 to 1."""
    luminance = np.dot([0.2126, 0.7152, 0.0722], [((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(fill)])
    return "#000000" if luminance > 0.18 else "#ffffff"


def interval(metrics: Metrics) -> str:
    """The interval of exact match in percent, as `[98.3, 99.2]`; empty where it is not known."""
    low, high = metrics.get("exact_match_low"), metrics.get("exact_match_high")
    return "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"


# ---- mistakes


def mistakes(predictions: Sequence[Sequence[Predictions]]) -> Figure:
    """The shares of the kinds of first mistakes of each run's last predictions on each split: a bar each."""
    sets = [found for of_run in predictions for found in of_run]
    fig = Figure(figsize=(8.6, 0.34 * max(len(sets), 1)))
    ax = fig.subplots()
    if not sets:
        ax.set_axis_off()
        _text(ax, "no predictions of ListOps expressions", (0, 0.5), (0, 0), "#555555")
        return fig
    for y, found in enumerate(sets):
        counts, n = Counter(mistake.kind if mistake else VALID for mistake in found.mistakes), len(found.texts)
        left = 0.0
        for kind, (_, fill) in KINDS.items():
            share = counts[kind] / n
            ax.barh(y, share, 0.78, left, color=fill, edgecolor="white", lw=0.6)
            if share >= 0.05:  # room for its number
                middle = left + share / 2
                ax.text(middle, y, f"{share:.1%}", size=8, color=_ink(fill), ha="center", va="center_baseline")
            left += share
        _text(ax, f"n = {n:,}", (1, 1 - (y + 0.5) / len(sets)), (6, -3), "#555555")
    ax.set(xlim=(0, 1), ylim=(len(sets) - 0.5, -0.5))
    ax.set_yticks(range(len(sets)), [f"{found.label} \u00b7 {found.split}" for found in sets], parse_math=False)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("share of the predictions, by the first mistake of each explanation")
    handles = [Rectangle((0, 0), 1, 1, facecolor=fill, label=label) for label, fill in KINDS.values()]
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False)
    return fig


# ---- what the figures share


def _panels(widths: Sequence[int], width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Panels side by side on one axis of percents; what stands outside of them makes the saved picture larger."""
    fig = Figure(figsize=(width, height))  # not pyplot's: no global state, no display, drawn by Agg
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


def _name(ax: Axes, run: int, text: str, at: tuple[float, float], offset: tuple[float, float]) -> None:
    """Text of a run, its marker before it."""
    colour, turn = look(run)
    _text(ax, f"{MARKERS[turn][1]} {text}", at, offset, colour)


def look(run: int) -> tuple[str, int]:
    """The colour of a run of that number, and the place of its marker and line style: 28 runs look different."""
    return COLOURS[run % len(COLOURS)], run // len(COLOURS) % len(MARKERS)


# ---- writing


def plot(runs: Sequence[Run], predictions: Sequence[Sequence[Predictions]], folder: Path) -> list[Path]:
    """Writes accuracy, breakdown, heatmap and mistakes, each as PNG and SVG; `predictions` are those of each run."""
    pictures = {
        "accuracy": figure(runs),
        "breakdown": breakdown(runs),
        "heatmap": heatmap(runs),
        "mistakes": mistakes(predictions),
    }
    written = []
    for name, picture in pictures.items():
        for ending in ("png", "svg"):
            written.append(folder / f"{name}.{ending}")
            picture.savefig(written[-1], dpi=180, bbox_inches="tight")
    return written
