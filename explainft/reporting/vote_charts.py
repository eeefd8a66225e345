"""Accuracy against the number of samples, and against the tokens that they cost, as Vega-Lite."""

import dataclasses
import math
from collections.abc import Collection, Sequence

import altair as alt

from explainft.reporting.curves import spread
from explainft.reporting.looks import MARKERS, look
from explainft.reporting.vega import LINE_HEIGHT, LITERAL, Chart, Series
from explainft.voting.vote import LABELS, Estimate, Vote

Y_TITLE = "accuracy"
WIDTH, HEIGHT = 300, 280
AXES = {"k": "samples a problem", "tokens": "generated tokens a problem"}


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve to draw; `tokens` are those of one sample, None where they are not known."""

    label: str
    estimates: tuple[Estimate, ...]
    tokens: float | None

    def points(self, axis: str) -> list[tuple[float, Estimate]]:
        """Returns (x, estimate) where x is known."""
        if axis == "k":
            return [(estimate.k, estimate) for estimate in self.estimates]
        return [] if self.tokens is None else [(estimate.k * self.tokens, estimate) for estimate in self.estimates]


def lines_of(name: str, vote: Vote, methods: Collection[str] = tuple(LABELS)) -> list[Line]:
    """Returns the curves of these methods; `name` precedes their labels, unless it is empty."""
    prefix = f"{name}: " if name else ""
    curves = [curve for curve in vote.curves if curve.method in methods]
    return [Line(f"{prefix}{curve.label}", curve.estimates, vote.tokens) for curve in curves]


def accuracy_by_samples(lines: Sequence[Line]) -> Chart:
    """Draws a panel for each axis that is known, the names and last values at the ends of the curves."""
    panels = [samples_panel(lines, axis, WIDTH, HEIGHT) for axis in axes_of(lines)]
    panels[-1] += _end_labels(lines)
    return alt.hconcat(*panels)


def axes_of(lines: Sequence[Line]) -> list[str]:
    """Returns the axes that every line has a place on."""
    return [axis for axis in AXES if all(line.points(axis) for line in lines)]


def samples_panel(lines: Sequence[Line], axis: str, width: int | str, height: int) -> alt.LayerChart:
    """Draws accuracy against an axis in powers of two, the 95% intervals shaded."""
    rows = [
        {"series": i, "curve": line.label, "x": x, "accuracy": e.value, "low": e.low, "high": e.high, "k": e.k}
        for i, line in enumerate(lines)
        for x, e in line.points(axis)
    ]
    xs = sorted({row["x"] for row in rows})
    ticks = alt.Axis(format=".2~s", grid=False, values=xs if axis == "k" else alt.Undefined)
    if axis == "tokens":
        ticks.tickCount = 4
    scale = alt.Scale(type="log", base=2, nice=False) if xs[0] < xs[-1] else alt.Scale(zero=False)
    series = Series(range(len(lines)))
    base = alt.Chart(alt.InlineData(rows)).encode(
        alt.X("x:Q", title=AXES[axis], axis=ticks, scale=scale), series.colour()
    )
    tooltip = [
        alt.Tooltip("curve:N"),
        alt.Tooltip("x:Q", title=AXES[axis], format=",.4~g"),
        alt.Tooltip("accuracy:Q", format=".1%"),
        alt.Tooltip("low:Q", title="95% from", format=".1%"),
        alt.Tooltip("high:Q", title="to", format=".1%"),
    ]
    return alt.LayerChart(
        layer=[
            base.mark_area(opacity=0.12).encode(_fraction("low", lines), alt.Y2("high")),
            base.mark_line(strokeWidth=2.5).encode(_fraction("accuracy", lines), series.dash()),
            base.mark_point(filled=True, opacity=1, size=45).encode(
                _fraction("accuracy", lines), series.shape(), tooltip=tooltip
            ),
        ]
    ).properties(width=width, height=height, description=f"Accuracy against {AXES[axis]}")


def _domain(lines: Sequence[Line]) -> tuple[float, float]:
    """Returns the range of all intervals in steps of 5%: curves near 100% would be one on an axis from 0%."""
    low = min(estimate.low for line in lines for estimate in line.estimates)
    high = max(estimate.high for line in lines for estimate in line.estimates)
    start, end = math.floor(low * 20) / 20, math.ceil(high * 20) / 20
    return (start, end) if start < end else (max(0.0, start - 0.05), min(1.0, end + 0.05))


def _fraction(field: str, lines: Sequence[Line]) -> alt.Y:
    axis = alt.Axis(format=".0%", tickCount=5)
    return alt.Y(f"{field}:Q", title=Y_TITLE, axis=axis, scale=alt.Scale(domain=list(_domain(lines)), nice=False))


def _end_labels(lines: Sequence[Line]) -> alt.Chart:
    low, high = _domain(lines)
    last = [line.estimates[-1].value for line in lines]
    heights = spread([(value - low) / (high - low) for value in last], LINE_HEIGHT / HEIGHT)
    rows = [
        {
            "text": f"{MARKERS[look(i)[1]][1]} {line.label}  {value:.1%}",
            "y": low + y * (high - low),
            "colour": look(i)[0],
        }
        for i, (line, value, y) in enumerate(zip(lines, last, heights, strict=True))
    ]
    return (
        alt.Chart(alt.InlineData(rows))
        .mark_text(align="left", dx=12, fontSize=13)
        .encode(_fraction("y", lines), alt.Text("text:N"), alt.Color("colour:N", **LITERAL), x=alt.value("width"))
    )
