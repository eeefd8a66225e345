"""The charts of a report as Vega-Lite: the page draws these descriptions, `write` turns them into PNG and SVG.

T5X writes no metrics.jsonl: the examples and seconds before its evaluations are unknown, and its runs are drawn
against steps alone.
"""

import dataclasses
import itertools
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import altair as alt

from explainft.evaluation.task_names import parse_evaluation
from explainft.reporting.looks import KINDS, VALID, heat, ink, interval
from explainft.reporting.runs import (
    Metrics,
    Predictions,
    Run,
    grid,
    group_order,
    groups,
    own_variant,
    row_and_split,
)
from explainft.reporting.vega import LITERAL, SOFT, ZERO, Chart, Series, note, percent, png, run_names, svg

LINE_HEIGHT = 16  # pixels, of a label
Y_TITLE = "exact match of the final answer"
LONG_CURVE = 40  # points; more are drawn smaller


class Axis(NamedTuple):
    """What accuracy during training is drawn against."""

    label: str
    title: str
    unit: float  # of the column that one unit of the axis stands for


AXES = {
    "step": Axis("steps", "training steps", 1),
    "examples": Axis("examples", "training examples seen", 1),
    "flops": Axis("FLOPs", "training FLOPs", 1),
    "seconds": Axis("minutes", "minutes of training", 60),
}
GROUPS = {"operator": "last operator", "depth": "depth", "length": "length in tokens"}


# ---- accuracy during training


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
    """Draws exact match on validation against an axis: a line for each curve, its Wilson interval shaded."""
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
            base.mark_area(opacity=0.16).encode(percent("low", y_title), alt.Y2("high")),
            base.mark_line(strokeWidth=2.5).encode(percent("exact match", y_title), series.dash()),
            base.mark_point(filled=True, opacity=1, size=size).encode(
                percent("exact match", y_title), series.shape(), tooltip=tooltip
            ),
        ]
    ).properties(width=width, height=height, description=f"Exact match on validation against {title}")


def training(runs: Sequence[Run]) -> Chart:
    """Draws exact match on validation during training, a panel for each axis that is known.

    Against FLOPs too where every run that has examples has them. A curve's name and last value stand beside its end.
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


# ---- accuracy by kind of expression


class Evaluation(NamedTuple):
    """An evaluation of a run that has metrics by group."""

    index: int  # of the run
    label: str
    metrics: Metrics


def group_panel(
    evaluations: Sequence[Evaluation], kind: str, width: int | str, height: int, y_title: str | None = None
) -> alt.LayerChart:
    """Draws exact match with Wilson intervals by the groups of a kind, the evaluations side by side."""
    rows = [
        {"series": i, "run": evaluation.label, **group._asdict()}
        for i, evaluation in enumerate(evaluations)
        for group in groups(evaluation.metrics, kind)
    ]
    names = sorted({row["name"] for row in rows}, key=group_order)
    series = Series([evaluation.index for evaluation in evaluations])
    # The dots of a group stand 12 pixels apart, or nearer where they must: empty slots on both sides take the rest.
    room = int((width if isinstance(width, int) else 300) / max(len(names), 1) / 12)
    empty = [f"empty {i}" for i in range(max(0, room - len(evaluations)) // 2)]
    slots = [*empty, *series.ids, *(f"{name} on the right" for name in empty)]
    angle = -45 if len("".join(names)) > 34 else 0
    base = alt.Chart(alt.InlineData(rows)).encode(
        alt.X("name:N", sort=names, title=GROUPS[kind], axis=alt.Axis(labelAngle=angle, grid=False)),
        alt.XOffset("series:N", scale=alt.Scale(type="point", domain=slots, padding=0.5)),
        series.colour(),
    )
    tooltip = [
        alt.Tooltip("run:N"),
        alt.Tooltip("name:N", title=GROUPS[kind]),
        alt.Tooltip("accuracy:Q", title="exact match", format=".1%"),
        alt.Tooltip("low:Q", format=".1%"),
        alt.Tooltip("high:Q", format=".1%"),
        alt.Tooltip("n:Q"),
    ]
    return alt.LayerChart(
        layer=[
            base.mark_rule(strokeWidth=2).encode(percent("low", y_title), alt.Y2("high")),
            base.mark_point(filled=True, opacity=1, size=45).encode(
                percent("accuracy", y_title), series.shape(), tooltip=tooltip
            ),
        ]
    ).properties(width=width, height=height, description=f"Exact match by {GROUPS[kind]}")


def breakdown(runs: Sequence[Run]) -> Chart:
    """Draws exact match by the root's operator, by depth and by length, of each run's last evaluation.

    On the test split, else on any, of what the run was trained on before others; the key names it.
    """
    picked, keys = [], []
    for i, run in enumerate(runs):
        if run.evaluations:
            task, step, metrics = last_evaluation(run)
            label, split = row_and_split(run, task)
            n = f"{metrics['n']:,.0f}" if "n" in metrics else "-"
            picked.append(Evaluation(i, label, metrics))
            keys.append((i, f"{label}: {split}, step {step:,}, n = {n}"))
    height = 250
    widths = [
        min(700, max(200, 6 * (len(picked) + 1) * len({g.name for e in picked for g in groups(e.metrics, kind)})))
        for kind in GROUPS
    ]
    titles = (Y_TITLE, None, None)
    panels = [
        group_panel(picked, kind, width, height, title)
        for kind, width, title in zip(GROUPS, widths, titles, strict=True)
    ]
    heights = [1 + (len(keys) - i) * LINE_HEIGHT / height for i in range(len(keys))]
    panels[0] += run_names(keys, heights).mark_text(align="left", fontSize=13).encode(x=alt.value(0))
    return alt.hconcat(*panels)


def last_evaluation(run: Run) -> tuple[str, int, Metrics]:
    """Returns (task, step, metrics) of what `breakdown` shows of a run that has evaluations."""
    own = own_variant(run)

    def rank(task: str) -> tuple[bool, bool, int]:
        variant, split = parse_evaluation(task)
        return variant == own, split == "test", max(run.evaluations[task])

    task = max(run.evaluations, key=rank)
    return task, *run.last(task)


# ---- accuracy by run and split


def heatmap(runs: Sequence[Run]) -> Chart:
    """Draws exact match of each run's last evaluation on each split, its Wilson interval below it."""
    splits, rows = grid(runs)
    cells = []
    for y, row in enumerate(rows):
        for split in splits:
            _, _, metrics = row.cells.get(split, ("", 0, {}))
            accuracy = metrics.get("exact_match")
            fill, text = heat(accuracy)
            below = interval(metrics) if accuracy is not None else ""
            number = "-" if accuracy is None else f"{accuracy:.1%}"
            wrapped = textwrap.fill(split, 16)
            cells.append(
                {"row": y, "split": wrapped, "fill": fill, "ink": text, "text": number, "interval": below}
            )  # fmt: skip
    # Rows are numbered: two of them may have one name.
    labels = [row.label for row in rows]
    base = alt.Chart(alt.InlineData(cells)).encode(
        alt.X(
            "split:N",
            sort=[textwrap.fill(split, 16) for split in splits],
            title=None,
            axis=alt.Axis(orient="top", labelAngle=0, labelExpr="split(datum.value, '\\n')", grid=False),
        ),
        alt.Y(
            "row:N",
            title=None,
            axis=alt.Axis(labelExpr=f"{json.dumps(labels)}[datum.value]", labelLimit=400, grid=False),
        ),
    )
    offset = 8 if any(cell["interval"] for cell in cells) else 0
    return alt.LayerChart(
        layer=[
            base.mark_rect(stroke="white", strokeWidth=2).encode(alt.Fill("fill:N", **LITERAL)),
            base.mark_text(fontSize=17, fontWeight="bold", dy=-offset).encode(
                alt.Text("text:N"), alt.Color("ink:N", **LITERAL)
            ),
            base.mark_text(fontSize=11, dy=offset + 3).encode(alt.Text("interval:N"), alt.Color("ink:N", **LITERAL)),
        ]
    ).properties(width=alt.Step(125), height=alt.Step(52))


# ---- first errors


def first_errors(predictions: Sequence[Sequence[Predictions]]) -> Chart:
    """Draws the fractions of the kinds of first errors in each run's last predictions on each split, a bar each."""
    sets = [found for of_run in predictions for found in of_run]
    if not sets:
        nothing = alt.InlineData([{"text": "no predictions of ListOps expressions"}])
        return alt.Chart(nothing).mark_text(fontSize=13, color=SOFT).encode(text="text:N").properties(width=300)
    bars = []
    for y, found in enumerate(sets):
        counts = Counter(error.kind if error else VALID for error in found.first_errors)
        start = 0.0
        for kind, (label, fill) in KINDS.items():
            end = start + counts[kind] / len(found.texts)
            text = f"{end - start:.1%}" if end - start >= 0.05 else ""  # where it has room
            bars.append({"set": y, "kind": label, "start": start, "end": end, "middle": (start + end) / 2})
            bars[-1] |= {"ink": ink(fill), "text": text, "n": ""}
            start = end
        bars[-1]["n"] = f"n = {len(found.texts):,}"  # once a bar
    labels = [f"{found.label} \u00b7 {found.split}" for found in sets]
    names, fills = zip(*KINDS.values(), strict=True)
    legend = alt.Legend(orient="top", title=None, columns=4, symbolType="square", labelFontSize=12)
    base = alt.Chart(alt.InlineData(bars)).encode(
        alt.Y(
            "set:N",
            title=None,
            axis=alt.Axis(labelExpr=f"{json.dumps(labels)}[datum.value]", labelLimit=400, grid=False),
        )
    )
    across = alt.X("start:Q", title="fraction of the predictions, by the first error of each explanation",
                   axis=alt.Axis(format=".0%", grid=False), scale=alt.Scale(domain=[0, 1]))  # fmt: skip
    return alt.LayerChart(
        layer=[
            base.mark_bar(stroke="white", strokeWidth=0.6).encode(
                across,
                alt.X2("end"),
                alt.Color("kind:N", scale=alt.Scale(domain=list(names), range=list(fills)), legend=legend),
            ),
            base.mark_text(fontSize=11).encode(alt.X("middle:Q"), alt.Text("text:N"), alt.Color("ink:N", **LITERAL)),
            base.mark_text(align="left", dx=8, fontSize=12, color=SOFT).encode(x=alt.value("width"), text="n:N"),
        ]
    ).properties(width=560, height=alt.Step(28))


# ---- writing


def write(runs: Sequence[Run], predictions: Sequence[Sequence[Predictions]], directory: Path) -> list[Path]:
    """Writes accuracy, breakdown, heatmap and first_errors as PNG and SVG; `predictions` are those of each run."""
    charts = {
        "accuracy": training(runs),
        "breakdown": breakdown(runs),
        "heatmap": heatmap(runs),
        "first_errors": first_errors(predictions),
    }
    written = []
    for name, chart in charts.items():
        written += [directory / f"{name}.png", directory / f"{name}.svg"]
        written[-2].write_bytes(png(chart))
        written[-1].write_text(svg(chart), encoding="utf-8")
    return written
