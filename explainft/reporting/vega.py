"""What the charts have in common: encodings of runs and of fractions, one style, and the step to SVG and PNG."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import vl_convert

from explainft.reporting.looks import DASHES, MARKERS, look

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"  # vl-convert brings the first: the same picture everywhere
VEGA_LITE = alt.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]  # as vl_convert names versions
SOFT = "#555555"
LITERAL: dict[str, Any] = {"scale": None, "legend": None}  # of a field that holds the colours themselves
ZERO = "datum.value ? datum.label : '0'"  # and not 0k

LINE_HEIGHT = 16  # pixels, of a label
Y_TITLE = "exact match of the final answer"

Chart = alt.LayerChart | alt.HConcatChart | alt.Chart


class Series:
    """The encodings of the lines and dots of runs, by the index of each run."""

    def __init__(self, runs: Sequence[int]):
        self.ids = list(range(len(runs)))
        self._looks = [look(run) for run in runs]

    def _scale(self, values: list[Any]) -> alt.Scale:
        return alt.Scale(domain=self.ids, range=values)

    def colour(self) -> alt.Color:
        return alt.Color("series:N", scale=self._scale([colour for colour, _ in self._looks]), legend=None)

    def shape(self) -> alt.Shape:
        return alt.Shape("series:N", scale=self._scale([MARKERS[turn][0] for _, turn in self._looks]), legend=None)

    def dash(self) -> alt.StrokeDash:
        return alt.StrokeDash(
            "series:N", scale=self._scale([list(DASHES[turn]) for _, turn in self._looks]), legend=None
        )


def percent(field: str, title: str | None) -> alt.Y:
    """Encodes a fraction on an axis from 0% to 100%."""
    axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    return alt.Y(f"{field}:Q", title=title, axis=axis, scale=alt.Scale(domain=[0, 1]))


def run_names(labels: Sequence[tuple[int, str]], heights: Sequence[float]) -> alt.Chart:
    """The names of runs in their colours, each after its marker, at heights of a panel's percent axis."""
    rows = [
        {"text": f"{MARKERS[look(run)[1]][1]} {text}", "y": y, "colour": look(run)[0]}
        for (run, text), y in zip(labels, heights, strict=True)
    ]
    return alt.Chart(alt.InlineData(rows)).encode(
        percent("y", None), alt.Text("text:N"), alt.Color("colour:N", **LITERAL)
    )


def note(lines: list[str]) -> alt.TitleParams:
    return alt.TitleParams(lines, orient="bottom", anchor="start", color=SOFT, fontWeight="normal", fontSize=12)


def placeholder(text: str) -> alt.Chart:
    """Returns a chart that says why nothing is shown."""
    nothing = alt.InlineData([{"text": text}])
    return alt.Chart(nothing).mark_text(fontSize=13, color=SOFT).encode(text="text:N").properties(width=300)


def finished(chart: Chart, font: str = FONT, background: str = "white") -> dict[str, Any]:
    """Returns the Vega-Lite description of a chart in the style of all charts."""
    ink_of_axes = {"labelColor": SOFT, "titleColor": SOFT, "gridColor": "#e4e9ee", "domain": False, "ticks": False}
    sizes = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelPadding": 6}
    styled = (
        chart.configure(font=font, background=background)
        .configure_view(stroke=None)
        .configure_axis(**ink_of_axes, **sizes)
    )
    return styled.to_dict()


def page_spec(chart: Chart) -> dict[str, Any]:
    """A description that fits the width of its place; the page names Vega-Lite itself, and needs no address of it."""
    spec = finished(chart, font="system-ui, sans-serif", background="transparent")
    del spec["$schema"]
    return spec | {"autosize": {"type": "fit-x", "contains": "padding"}}


def svg(chart: Chart) -> str:
    """Returns a chart as SVG, the same text for the same chart."""
    return vl_convert.vegalite_to_svg(finished(chart), vl_version=VEGA_LITE)


def png(chart: Chart) -> bytes:
    """Returns a chart as PNG, two pixels a unit."""
    return vl_convert.vegalite_to_png(finished(chart), vl_version=VEGA_LITE, scale=2)
