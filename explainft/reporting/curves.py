"""Exact match on validation during training, as Vega-Lite.

T5X writes no metrics.jsonl: the examples and seconds before its evaluations are unknown, and its runs are drawn
against steps alone.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import altair as alt

from explainft.reporting.looks import interval
from explainft.reporting.runs import Metrics, Run, row_and_split
from explainft.reporting.vega import LINE_HEIGHT, SOFT, Y_TITLE, ZERO, Chart, Series, note, percent, run_names

LONG_CURVE = 40  # points; more are drawn smaller


class Axis(NamedTuple):
    """What accuracy during training is drawn against."""

    label: str
    title: str
    unit: float  # of the column that are one unit of the axis


AXES = {
    "step": Axis("steps", "training steps", 1),
    "examples": Axis("examples", "training examples seen", 1),
    "flops": Axis("FLOPs", "training FLOPs", 1),
    "seconds": Axis("minutes", "minutes of training", 60),
}


@dataclasses.dataclass(frozen=True)
class Curve:
    """The metrics of one validation task of a run, by step."""

    label: str
    index: int  # of the run
    run: Run
    evaluations: dict[int, Metrics]

    def points(self, column: str) -> list[tuple[float, Metrics]]:
        """Returns (x, metrics) of each evaluation whose x is known, in the axis's unit."""
        found = [(self.run.at(step, column), metrics) for step, metrics in self.evaluations.items()]
        return [(x / AXES[column].unit, metrics) for x, metrics in found if x is not None and "exact_match" in metrics]


def curves_of(runs: Sequence[Run]) -> list[Curve]:
    """Returns the validation curves of all runs that have one."""
    curves = []
    for index, run in enumerate(runs):
        for task, evaluations in run.evaluations.items():
            label, split = row_and_split(run, task)
            curve = Curve(label, index, run, evaluations)
            if split == "validation" and curve.points("step"):
                curves.append(curve)
    return curves


def training_panel(
    curves: Sequence[Curve], column: str, width: int | str, height: int, y_title: str | None = None
) -> alt.LayerChart:
    """Draws exact match on validation against an axis: a line for each curve, its Wilson interval shaded.

    The accuracy of a random choice is a dashed line, where it is known.
    """
    rows = [
        {
            "series": i,
            "run": curve.label,
            "x": x,
            "exact match": metrics["exact_match"],
            "low": metrics.get("exact_match_low", metrics["exact_match"]),
            "high": metrics.get("exact_match_high", metrics["exact_match"]),
            "interval": interval(metrics),
        }
        for i, curve in enumerate(curves)
        for x, metrics in curve.points(column)
    ]
    series = Series([curve.index for curve in curves])
    title = AXES[column].title
    x_axis = alt.Axis(format="~s", tickCount=5, labelExpr=ZERO, labelFlush=False)
    base = alt.Chart(alt.InlineData(rows)).encode(
        alt.X("x:Q", title=title, axis=x_axis, scale=alt.Scale(zero=True, nice=False)), series.colour()
    )
    size = 20 if any(len(curve.evaluations) > LONG_CURVE for curve in curves) else 45
    tooltip = [
        alt.Tooltip("run:N"),
        alt.Tooltip("x:Q", title=title, format=".4~s"),
        alt.Tooltip("exact match:Q", format=".1%"),
        alt.Tooltip("interval:N", title="95% interval"),
    ]
    return alt.LayerChart(
        layer=[
            *_chance_lines(curves, y_title),
            base.mark_area(opacity=0.16).encode(percent("low", y_title), alt.Y2("high")),
            base.mark_line(strokeWidth=2.5).encode(percent("exact match", y_title), series.dash()),
            base.mark_point(filled=True, opacity=1, size=size).encode(
                percent("exact match", y_title), series.shape(), tooltip=tooltip
            ),
        ]
    ).properties(width=width, height=height, description=f"Exact match on validation against {title}")


def _chance_lines(curves: Sequence[Curve], y_title: str | None) -> list[alt.Chart]:
    """A dashed line for each accuracy of a random choice, with a label where the curves leave first."""
    last = [next(reversed(curve.evaluations.values())) for curve in curves]
    chances = sorted({round(metrics["chance"], 4) for metrics in last if "chance" in metrics})
    if not chances:
        return []
    rows = [{"chance": chance, "text": f"chance {chance:.1%}"} for chance in chances]
    base = alt.Chart(alt.InlineData(rows)).encode(percent("chance", y_title))
    labels = base.mark_text(align="right", dy=9 if chances[0] > 0.1 else -8, dx=-2, fontSize=12, color=SOFT)
    return [
        base.mark_rule(strokeDash=[6, 4], strokeWidth=1.5, color=SOFT),
        labels.encode(alt.Text("text:N"), x=alt.value("width")),
    ]


def training(runs: Sequence[Run]) -> Chart:
    """Draws exact match on validation during training, a panel for each axis that is known.

    Against FLOPs too where every run that has examples has them. A curve's name and last value are beside its end.
    What cannot be drawn, or against steps alone, is named below.
    """
    curves = curves_of(runs)
    counted = [curve for curve in curves if curve.points("examples")]
    columns = ["step", *(["examples", "seconds"] if counted else [])]
    if counted and all(curve.points("flops") for curve in counted):
        columns.append("flops")
    height = max(280, LINE_HEIGHT * len(curves))
    panels = [training_panel(curves, c, 230, height, Y_TITLE if c == "step" else None) for c in columns]
    panels[-1] += _end_labels(curves, height)
    notes = training_notes(runs, curves)
    chart = alt.hconcat(*panels)
    return chart.properties(title=note(notes)) if notes else chart


def training_notes(runs: Sequence[Run], curves: Sequence[Curve]) -> list[str]:
    """Names the runs that are not drawn, and those that are drawn against steps alone."""
    drawn = {curve.index for curve in curves}
    counted = [curve for curve in curves if curve.points("examples")]
    notes = {
        "not drawn, without validation evaluations": [run.name for i, run in enumerate(runs) if i not in drawn],
        "against steps alone, without metrics.jsonl": [c.label for c in curves if counted and c not in counted],
    }
    return [f"{why}: {', '.join(names)}" for why, names in notes.items() if names]


def _end_labels(curves: Sequence[Curve], height: int) -> alt.Chart:
    """Names and last values right of a panel, each as near as possible to the height where its line ends."""
    last = [curve.points("step")[-1][1]["exact_match"] for curve in curves]
    heights = spread(last, LINE_HEIGHT / height)
    labels = [(c.index, f"{c.label}  {value:.1%}") for c, value in zip(curves, last, strict=True)]
    return run_names(labels, heights).mark_text(align="left", dx=12, fontSize=13).encode(x=alt.value("width"))


def spread(heights: Sequence[float], gap: float, top: float = 1.0) -> list[float]:
    """Moves heights at least `gap` apart, in the same order, none above `top`."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = list(heights)
    for lower, upper in itertools.pairwise(order):
        placed[upper] = max(placed[upper], placed[lower] + gap)
    for i in reversed(order):
        placed[i] = min(placed[i], top)
        top = placed[i] - gap
    return placed
