"""The figures of docs/results.md and README.md, as Vega-Lite."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import altair as alt

from experiments.accuracy import EXAMPLES, SIZES, STYLES, Accuracy, Result, accuracy, by_length, mean_of, pick, pooled
from experiments.tables import FEWER_UPDATES
from explainft.reporting.looks import COLOURS
from explainft.reporting.vega import ZERO, Chart, percent

COLOUR = dict(zip(STYLES, ("#000000", COLOURS[5], COLOURS[0], COLOURS[2], COLOURS[3]), strict=True)) | {
    "steps": COLOURS[4],
    "local_steps": COLOURS[1],
    "marked": "#777777",
}
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "triangle-left", "triangle-right")
SHAPE = dict(zip(COLOUR, SHAPES, strict=True))
Y_TITLE = "exact match of the final answer"
Row = dict[str, Any]


def curve(style: str, xs: Sequence[float], accuracies: Sequence[Accuracy | None]) -> list[Row]:
    """The rows of a style's line, where there are results."""
    return [
        {"style": style, "x": x, **found._asdict()}
        for x, found in zip(xs, accuracies, strict=True)
        if found is not None
    ]


def lines(rows: list[Row], x: alt.X) -> list[alt.Chart]:
    """A line for each style: means, Wilson's interval as a band, the range of the seeds as a stroke."""
    styles = [style for style in COLOUR if any(row["style"] == style for row in rows)]
    legend = alt.Legend(title=None, orient="top", columns=4, labelFontSize=12, symbolOpacity=1)
    colour = alt.Color("style:N", scale=alt.Scale(domain=styles, range=[COLOUR[s] for s in styles]), legend=legend)
    shape = alt.Shape("style:N", scale=alt.Scale(domain=styles, range=[SHAPE[s] for s in styles]), legend=legend)
    base = alt.Chart(alt.InlineData(rows)).encode(x, colour)
    return [
        base.mark_area(opacity=0.15).encode(percent("low", Y_TITLE), alt.Y2("high")),
        base.mark_line(strokeWidth=2).encode(percent("mean", Y_TITLE)),
        base.mark_rule(strokeWidth=1).encode(percent("min", Y_TITLE), alt.Y2("max")),
        base.mark_point(filled=True, opacity=1, size=45).encode(percent("mean", Y_TITLE), shape),
    ]


def panel(layers: Sequence[alt.Chart], width: int = 460, height: int = 250) -> alt.LayerChart:
    return alt.LayerChart(layer=list(layers)).properties(width=width, height=height)


def number(title: str, zero: bool = True, **scale: Any) -> alt.X:
    """A horizontal axis of numbers."""
    axis = alt.Axis(format="~s", labelExpr=ZERO, tickCount=6, grid=False)
    return alt.X("x:Q", title=title, axis=axis, scale=alt.Scale(zero=zero, nice=False, **scale))


def styles_figure(found: list[Result]) -> Chart:
    rows = []
    for style in STYLES:
        for size in SIZES:
            result = accuracy(pick(found, style=style, size=size), "test")
            if result is not None:
                text = [
                    f"{result.mean:.0%}",
                    size + ("*" if size in FEWER_UPDATES else ""),
                    *(["1 seed"] if result.runs == 1 else []),
                ]
                shade = 0.4 + 0.2 * SIZES.index(size)
                rows.append({"style": style, "size": size, "text": text, "shade": shade, **result._asdict()})
                rows[-1]["top"] = max(result.max, result.high)
    title = "test split of tiny, by style of explanation and size (* 2,000 updates)"
    y_axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    y_scale = alt.Scale(domain=[0, 1.15])

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=Y_TITLE, axis=y_axis, scale=y_scale)

    base = alt.Chart(alt.InlineData(rows)).encode(
        alt.X("style:N", sort=list(STYLES), title=None, axis=alt.Axis(labelAngle=0, grid=False)),
        alt.XOffset(
            "size:N", sort=list(SIZES), scale=alt.Scale(domain=list(SIZES), paddingInner=0.1, paddingOuter=0.1)
        ),
    )
    colours = alt.Scale(domain=list(STYLES), range=[COLOUR[style] for style in STYLES])
    bars = base.mark_bar().encode(
        y("mean"),
        alt.Color("style:N", scale=colours, legend=None),
        alt.FillOpacity("shade:Q", scale=None),
    )
    layers = [
        bars,
        base.mark_rule(strokeWidth=5, color="#999999").encode(y("min"), alt.Y2("max")),
        base.mark_rule(strokeWidth=1.2, color="#333333").encode(y("low"), alt.Y2("high")),
        *(
            base.transform_filter(f"length(datum.text) == {count}")
            .mark_text(dy=-11 * (count - 1) - 5, baseline="bottom", fontSize=10, lineHeight=11)
            .encode(y("top"), text="text:N")
            for count in (2, 3)
        ),
    ]
    return panel(layers, width=820, height=300).properties(title=alt.TitleParams(title, fontWeight="normal"))


def lengths_figure(found: list[Result]) -> Chart:
    groups = {9: range(8, 10), 12: range(10, 15), 17: range(15, 20), 22: range(20, 25), 27: range(25, 30),
              32: range(30, 35), 37: range(35, 40), 42: range(40, 45), 47: range(45, 50),
              55: range(50, 60), 65: range(60, 70), 75: range(70, 80), 85: range(80, 90),
              95: range(90, 97)}  # fmt: skip
    rows = []
    for style in (*STYLES, "marked", "steps", "local_steps"):
        accuracies = [by_length(pick(found, style=style), lengths) for lengths in groups.values()]
        rows += curve(style, list(groups), accuracies)
    x = number("length of the expression", zero=False, domain=[8, 96])
    trained = alt.Chart(alt.InlineData([{"x": 8, "end": 24.5, "text": "trained on", "y": 0.02}])).encode(x)
    background = trained.mark_rect(color="#f0f0f0").encode(alt.X2("end"))
    label = trained.mark_text(align="left", baseline="bottom", dx=4, color="#555555").encode(
        percent("y", Y_TITLE), text="text:N"
    )
    return panel([background, *lines(rows, x), label])


def examples_figure(found: list[Result]) -> Chart:
    rows = []
    for style in ("none", "medium"):
        accuracies = [accuracy(pick(found, style=style, examples=n), "test") for n in EXAMPLES]
        rows += curve(style, [int(n) for n in EXAMPLES], accuracies)
    axis = alt.Axis(format="~s", values=[int(n) for n in EXAMPLES], grid=False)
    x = alt.X("x:Q", title="training examples", axis=axis, scale=alt.Scale(type="log", nice=False))
    return panel(lines(rows, x))


def by_step(runs: Sequence[Result]) -> dict[int, list[tuple[float, float, float]]]:
    """(examples seen, correct answers, n) of each run's validation at each step."""
    found: dict[int, list[tuple[float, float, float]]] = {}
    for step, seen, exact_match, n in (row for result in runs for row in result["curve"]["rows"]):
        found.setdefault(step, []).append((seen, exact_match * n, n))
    return dict(sorted(found.items()))


def training_figure(found: list[Result]) -> Chart:
    """Validation during training against examples seen: claim (d)'s epochs."""
    rows = []
    for style in STYLES:
        steps = by_step(pick(found, style=style))
        seen = [statistics.mean(counts[0] for counts in of_step) for of_step in steps.values()]
        rows += curve(style, seen, [pooled([counts[1:] for counts in of_step]) for of_step in steps.values()])
    return panel(lines(rows, number("training examples seen (98,000 an epoch)")))


def cost_figure(found: list[Result]) -> Chart:
    """The cost of an answer: accuracy during training against its FLOPs, and at its end against tokens decoded."""
    rows = []
    for style in STYLES:
        runs = pick(found, style=style)
        steps = by_step(runs)
        spent = [step / runs[0]["steps"] * runs[0]["flops"] for step in steps]
        rows += curve(style, spent, [pooled([counts[1:] for counts in of_step]) for of_step in steps.values()])
    answers = {style: (pick(found, style=style), "test") for style in STYLES}
    for part in ("lists", "sorting", "sum"):
        answers[f"without {part}"] = (pick(found, without=part), "tiny_without_test")
    points = []
    for label, (runs, split) in answers.items():
        result, tokens = accuracy(runs, split), mean_of(runs, split, "decoded_tokens")
        if result is not None and tokens is not None:
            points.append({"label": label, "x": tokens, "colour": COLOUR.get(label, COLOUR["medium"])})
            points[-1] |= {"part": label not in STYLES, **result._asdict()}
    training = panel(lines(rows, number("training FLOPs (validation)")), width=340, height=270)
    x = number("tokens of an answer (test; open: medium less a part)", domain=[0, 55])
    base = alt.Chart(alt.InlineData(points)).encode(x, alt.Color("colour:N", scale=None, legend=None))
    mean = percent("mean", None)
    whole, part = base.transform_filter("!datum.part"), base.transform_filter("datum.part")
    label = alt.Text("label:N")
    decoding = [
        base.mark_rule(strokeWidth=1).encode(percent("min", None), alt.Y2("max")),
        whole.mark_point(filled=True, opacity=1, size=55).encode(mean),
        part.mark_point(filled=False, opacity=1, size=55, fill="white", strokeWidth=1.5).encode(mean),
        whole.mark_text(align="left", dx=8, fontSize=11).encode(mean, label),
        part.mark_text(align="right", dx=-8, fontSize=11).encode(mean, label),
    ]
    return alt.hconcat(training, panel(decoding, width=340, height=270)).resolve_scale(
        color="independent", shape="independent"
    )


PICTURES: dict[str, Callable[[list[Result]], Chart]] = {
    "styles.svg": styles_figure,
    "lengths.svg": lengths_figure,
    "examples.svg": examples_figure,
    "training.svg": training_figure,
    "cost.svg": cost_figure,
}
