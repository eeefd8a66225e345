"""The charts of a report as Vega-Lite: the page draws these descriptions, `write` turns them into PNG and SVG."""

import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import altair as alt

from explainft.reporting.breakdown import breakdown
from explainft.reporting.curves import training
from explainft.reporting.looks import chance, heat, ink, interval
from explainft.reporting.predictions import Predictions
from explainft.reporting.runs import Run, grid
from explainft.reporting.vega import LITERAL, SOFT, Chart, placeholder, png, svg
from explainft.reporting.verdicts import occurring
from explainft.reporting.vote_charts import Line, accuracy_by_samples

# ---- accuracy by run and split


def heatmap(runs: Sequence[Run]) -> Chart:
    """Draws exact match of each run's last evaluation on each split, its interval and the chance level below it."""
    splits, rows = grid(runs)
    cells = []
    for y, row in enumerate(rows):
        for split in splits:
            _, _, metrics = row.cells.get(split, ("", 0, {}))
            accuracy = metrics.get("exact_match")
            fill, text = heat(accuracy)
            below = [text for text in (interval(metrics), chance(metrics)) if text] if accuracy is not None else []
            number = "-" if accuracy is None else f"{accuracy:.1%}"
            wrapped = textwrap.fill(split, 16)
            cells.append({"row": y, "split": wrapped, "fill": fill, "ink": text, "text": number, "lines": below})
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
    # A cell's lines are centred in it: a number, and below it what is known of the interval and of chance.
    small = alt.Text("below:N"), alt.Color("ink:N", **LITERAL)
    number = alt.Text("text:N"), alt.Color("ink:N", **LITERAL)
    most = max((len(cell["lines"]) for cell in cells), default=1)
    layers = [
        base.mark_rect(stroke="white", strokeWidth=2).encode(alt.Fill("fill:N", **LITERAL)),
        base.mark_text(fontSize=17, fontWeight="bold", dy=alt.expr("-8 * length(datum.lines)")).encode(*number),
    ]
    for i in range(most):
        dy = alt.expr(f"19 + {15 * i} - 8 * length(datum.lines)")
        shown = base.transform_calculate(below=f"datum.lines[{i}] || ''")
        layers.append(shown.mark_text(fontSize=11, dy=dy).encode(*small))
    return alt.LayerChart(layer=layers).properties(width=alt.Step(125), height=alt.Step(36 + 16 * max(most, 1)))


# ---- first errors


def first_errors(predictions: Sequence[Sequence[Predictions]]) -> Chart:
    """Draws the fractions of the kinds of verdicts in each run's last predictions on each split, a bar each."""
    sets = [found for of_run in predictions for found in of_run]
    if not sets:
        return placeholder("no predictions of a known problem")
    bars, kinds = [], occurring(verdict.kind for found in sets for verdict in found.verdicts)
    for y, found in enumerate(sets):
        counts = Counter(verdict.kind for verdict in found.verdicts)
        start = 0.0
        for kind, (label, fill, _) in kinds.items():
            end = start + counts[kind] / len(found.texts)
            text = f"{end - start:.1%}" if end - start >= 0.05 else ""  # where it has room
            bars.append({"set": y, "kind": label, "start": start, "end": end, "middle": (start + end) / 2})
            bars[-1] |= {"ink": ink(fill), "text": text, "n": ""}
            start = end
        bars[-1]["n"] = f"n = {len(found.texts):,}"  # once a bar
    labels = [f"{found.label} \u00b7 {found.split}" for found in sets]
    names, fills, _ = zip(*kinds.values(), strict=True)
    legend = alt.Legend(
        orient="top", title=None, columns=len(kinds) if len(kinds) <= 5 else 4, symbolType="square", labelFontSize=12
    )
    base = alt.Chart(alt.InlineData(bars)).encode(
        alt.Y(
            "set:N",
            title=None,
            axis=alt.Axis(labelExpr=f"{json.dumps(labels)}[datum.value]", labelLimit=400, grid=False),
        )
    )
    across = alt.X("start:Q", title="fraction of the predictions, by the first error of each",
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


def write(
    runs: Sequence[Run], predictions: Sequence[Sequence[Predictions]], directory: Path, lines: Sequence[Line] = ()
) -> list[Path]:
    """Writes accuracy, breakdown, heatmap, first_errors, and samples where there are `lines`, as PNG and SVG.

    `predictions` are those of each run.
    """
    charts = {
        "accuracy": training(runs),
        "breakdown": breakdown(runs),
        "heatmap": heatmap(runs),
        "first_errors": first_errors(predictions),
        **({"samples": accuracy_by_samples(lines)} if lines else {}),
    }
    written = []
    for name, chart in charts.items():
        written += [directory / f"{name}.png", directory / f"{name}.svg"]
        written[-2].write_bytes(png(chart))
        written[-1].write_text(svg(chart), encoding="utf-8")
    return written
