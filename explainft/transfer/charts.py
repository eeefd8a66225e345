"""The heat maps of a transfer matrix as Vega-Lite: a panel for each group of evaluations."""

import itertools
import json
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

import altair as alt

from explainft.reporting.looks import diverging, heat
from explainft.reporting.vega import LITERAL, Chart, note, placeholder
from explainft.transfer.columns import Column, format_shots
from explainft.transfer.differences import UNCLEAR
from explainft.transfer.matrix import Matrix
from explainft.transfer.tables import bounds, change_bounds, percent, points

CELL, LINE, WRAP = 104, 15, 14  # pixels of a cell's width and of a line in it; characters of a column's title
OWN = "own task"


class Look(NamedTuple):
    """A cell as it is drawn: a number, lines below it, and its colours."""

    text: str
    lines: list[str]
    fill: str
    ink: str
    bold: bool = True


def matrix_chart(matrix: Matrix) -> Chart:
    """Draws the metric of each cell, with its 95% interval."""
    looks = []
    for row in matrix.rows:
        of_row = []
        for cell in row.cells:
            lines = [text for text in (bounds(cell.interval), OWN if cell.own else "") if text]
            of_row.append(Look(percent(cell.value), lines, *heat(min(max(cell.value, 0.0), 1.0))))
        looks.append(of_row)
    return _heat_map(matrix, [row.source.label for row in matrix.rows], looks, [])


def difference_chart(matrix: Matrix) -> Chart:
    """Draws the difference of each cell from the run's baseline, in percentage points."""
    if not matrix.compared:
        return placeholder("no run has a baseline")
    looks, labels = [], []
    for row, differences in matrix.compared:
        labels.append(f"{row.source.label} \u2212 {row.source.baseline}")
        of_row = []
        for cell, difference in zip(row.cells, differences, strict=True):
            lines = [text for text in (change_bounds(difference), OWN if cell.own else "") if text]
            is_shown = difference.transfer != UNCLEAR
            of_row.append(Look(points(difference.value), lines, *diverging(difference.value), is_shown))
        looks.append(of_row)
    return _heat_map(matrix, labels, looks, ["Percentage points; bold where the 95% interval excludes 0."])


def _heat_map(matrix: Matrix, labels: Sequence[str], looks: Sequence[Sequence[Look]], notes: list[str]) -> Chart:
    panels, lines = [], max(len(look.lines) for of_row in looks for look in of_row)
    titles = _column_titles(matrix.columns)
    places = itertools.groupby(range(len(matrix.columns)), key=lambda i: matrix.columns[i].group)
    for group, of_group in places:
        chosen = list(of_group)
        cells = [
            {
                "row": y,
                "column": x,
                "lines": look.lines,
                "text": look.text,
                "fill": look.fill,
                "ink": look.ink,
                "bold": look.bold,
            }
            for y, of_row in enumerate(looks)
            for x, look in enumerate(of_row[i] for i in chosen)
        ]
        panels.append(_panel(cells, [titles[i] for i in chosen], labels, group, lines, is_first=not panels))
    chart = panels[0] if len(panels) == 1 else alt.hconcat(*panels, spacing=14)
    return chart.properties(title=note(notes)) if notes else chart


def _column_titles(columns: Sequence[Column]) -> list[list[str]]:
    """Returns the lines of each column's title, as many for all: empty ones come first."""
    titles = []
    for column in columns:
        shots = [] if column.shots is None else [format_shots(column.shots)]
        titles.append([*textwrap.wrap(column.label, WRAP), *shots])
    most = max(map(len, titles))
    return [[""] * (most - len(title)) + title for title in titles]


def _panel(
    cells: Sequence[dict[str, object]],
    titles: Sequence[list[str]],
    labels: Sequence[str],
    group: str,
    lines: int,
    is_first: bool,
) -> alt.LayerChart:
    x_labels, y_labels = (f"{json.dumps(names)}[datum.value]" for names in (titles, list(labels)))
    base = alt.Chart(alt.InlineData(list(cells))).encode(
        alt.X(
            "column:O",
            title=group or None,
            axis=alt.Axis(
                orient="top", labelAngle=0, labelExpr=x_labels, grid=False, titleFontWeight="bold",
                titlePadding=10, labelPadding=6 + LINE * (len(titles[0]) - 1), labelLineHeight=LINE,
            ),
        ),
        alt.Y(
            "row:O",
            title=None,
            axis=alt.Axis(labelExpr=y_labels, labelLimit=400, grid=False) if is_first else None,
        ),
    )  # fmt: skip
    layers = [base.mark_rect(stroke="white", strokeWidth=2).encode(alt.Fill("fill:N", **LITERAL))]
    for bold in (True, False):
        number = base.transform_filter(f"datum.bold == {json.dumps(bold)}")
        layers.append(
            number.mark_text(
                fontSize=16, fontWeight="bold" if bold else "normal", dy=alt.expr("-8 * length(datum.lines)")
            ).encode(alt.Text("text:N"), alt.Color("ink:N", **LITERAL))
        )
    for i in range(lines):
        below = base.transform_calculate(below=f"datum.lines[{i}] || ''")
        layers.append(
            below.mark_text(fontSize=11, dy=alt.expr(f"{18 + LINE * i} - 8 * length(datum.lines)")).encode(
                alt.Text("below:N"), alt.Color("ink:N", **LITERAL)
            )
        )
    return alt.LayerChart(layer=layers).properties(width=alt.Step(CELL), height=alt.Step(34 + LINE * max(lines, 1)))


Draw = Callable[[Matrix], Chart]
CHARTS: dict[str, Draw] = {"matrix": matrix_chart, "differences": difference_chart}
