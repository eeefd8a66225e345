"""The charts: their data are the evaluations, and what Vega draws of them can be told apart and read."""

import functools
import itertools
from pathlib import Path
from typing import Any

import altair as alt
import pytest
import vl_convert

from explainft import listops
from explainft.evaluation import metrics
from explainft.reporting import charts, looks, vega
from explainft.reporting.runs import read_predictions, read_run
from tests.helpers.run_directories import (
    TEST,
    evaluation,
    many_runs,
    prediction,
    training_row,
    write_lines,
    write_medium,
    write_t5x,
    write_two_configs,
)


@pytest.fixture
def medium(tmp_path) -> Path:
    return write_medium(tmp_path)


@pytest.fixture
def t5x(tmp_path) -> Path:
    return write_t5x(tmp_path)


class Drawn:
    """A chart's description, and what Vega makes of it."""

    def __init__(self, chart):
        self.spec = vega.finished(chart)
        self.panels = [Drawn(_with_data(panel, chart.data)) for panel in getattr(chart, "hconcat", [])]

    @functools.cached_property
    def _items(self) -> list[tuple[str, dict[str, Any]]]:
        scene = vl_convert.vegalite_to_scenegraph(self.spec, vl_version=vega.VEGA_LITE)
        return list(_items(scene["scenegraph"]))

    def rows(self) -> list[dict[str, Any]]:
        return [row for rows in self.spec["datasets"].values() for row in rows]

    def lines(self) -> dict[str, list[tuple[float, float]]]:
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in self.rows():
            if "exact match" in row:
                lines.setdefault(row["run"], []).append((row["x"], row["exact match"]))
        return lines

    def marks(self, kind: str) -> list[dict[str, Any]]:
        return [item for marktype, item in self._items if marktype == kind]

    def texts(self) -> list[str]:
        texts = [item["text"] for item in self.marks("text") if item.get("text")]
        return [line for text in texts for line in (text if isinstance(text, list) else [text])]

    def title(self) -> str:
        """Of the horizontal axis."""
        return next(layer for layer in _layers(self.spec) if "x" in layer["encoding"])["encoding"]["x"]["title"]


def _with_data(panel, shared):
    """A panel alone; what all panels have in common stands in the chart."""
    panel = panel.copy()
    panel.data = panel.data if shared is alt.Undefined else shared
    return panel


def _items(scene, marktype=None):
    for item in scene.get("items", []):
        if "items" in item:
            yield from _items(item, item.get("marktype"))
        elif marktype:
            yield marktype, item


def _layers(spec):
    return [inner for layer in spec["layer"] for inner in _layers(layer)] if "layer" in spec else [spec]


def symbols(drawn: Drawn) -> set[tuple[str, str]]:
    return {(item["fill"], item["shape"]) for item in drawn.marks("symbol")}


def named(texts: list[str]) -> list[str]:
    """The names of runs among the texts."""
    return [text for text in texts if text[0] in "●■▲◆"]


def test_curves_are_the_evaluations(medium, tmp_path):
    other = tmp_path / "other"
    write_lines(other / "metrics.jsonl", [training_row(100, 6400, 600)])
    task = "explained_tiny_none_eval_validation_compact"
    write_lines(other / f"inference_eval/{task}-metrics.jsonl", [evaluation(50, 0.25), evaluation(100, 0.5)])
    drawn = Drawn(charts.training([read_run(medium), read_run(other)]))
    steps, examples, minutes = drawn.panels
    assert steps.lines() == {"medium": [(5, 0.25), (15, 0.5), (30, 0.875)], "other": [(50, 0.25), (100, 0.5)]}
    assert examples.lines() == {
        "medium": [(500, 0.25), (2000, 0.5), (5000, 0.875)],
        "other": [(3200, 0.25), (6400, 0.5)],
    }
    assert minutes.lines() == {"medium": [(0.25, 0.25), (0.75, 0.5), (1.5, 0.875)], "other": [(5, 0.25), (10, 0.5)]}
    assert [panel.title() for panel in drawn.panels] == [
        "training steps",
        "training examples seen",
        "minutes of training",
    ]
    assert named(drawn.texts()) == ["● medium  87.5%", "● other  50.0%"]
    for panel in drawn.panels:
        assert {"0%", "100%"} <= set(panel.texts())
    ends = {item["text"]: item["fill"] for item in minutes.marks("text") if item.get("text", " ")[0] == "●"}
    assert list(ends.values()) == list(dict.fromkeys(item["fill"] for item in minutes.marks("symbol")))


def test_band_is_the_interval(medium):
    drawn = Drawn(charts.training([read_run(medium)])).panels[1]
    assert [(row["x"], row["low"], row["high"]) for row in drawn.rows() if "low" in row] == [
        (500, 0.125, 0.3125), (2000, 0.375, 0.5625), (5000, 0.75, 0.9375),
    ]  # fmt: skip
    area, height = drawn.marks("area"), 280
    ends = [sorted((1 - item["y"] / height, 1 - item["y2"] / height)) for item in area]
    assert ends == [pytest.approx([row["low"], row["high"]]) for row in drawn.rows() if "low" in row]
    assert {item["fill"] for item in area} == {item["fill"] for item in drawn.marks("symbol")}


def test_evaluation_past_the_last_training_row_has_a_step_alone(medium):
    write_lines(medium / "metrics.jsonl", [training_row(10, 1000, 30.0), training_row(20, 3000, 60.0)])
    drawn = Drawn(charts.training([read_run(medium)]))
    assert drawn.panels[0].lines() == {"medium": [(5, 0.25), (15, 0.5), (30, 0.875)]}
    assert drawn.panels[1].lines() == {"medium": [(500, 0.25), (2000, 0.5)]}
    assert named(drawn.texts()) == ["● medium  87.5%"]


def test_without_examples_steps_are_the_only_axis(t5x):
    drawn = Drawn(charts.training([read_run(t5x)]))
    [steps] = drawn.panels
    assert steps.lines() == {"t5x": [(1000, 0.125), (2000, 0.375)]} and steps.title() == "training steps"
    assert named(drawn.texts()) == ["● t5x  37.5%"]


def test_run_that_cannot_be_drawn_everywhere_is_named(medium, t5x, tmp_path):
    write_lines(tmp_path / "new/metrics.jsonl", [training_row(10, 1000, 30.0)])
    drawn = Drawn(charts.training([read_run(t5x), read_run(medium), read_run(tmp_path / "new")]))
    assert [list(panel.lines()) for panel in drawn.panels] == [["t5x", "medium"], ["medium"], ["medium"]]
    assert {
        "not drawn, without validation evaluations: new",
        "against steps alone, without metrics.jsonl: t5x",
    } <= set(drawn.texts())


def test_any_two_of_21_runs_look_different(medium):
    runs = many_runs(read_run(medium), 21)
    curves, dots = Drawn(charts.training(runs)), Drawn(charts.breakdown(runs))
    characters = {shape: character for shape, character in looks.MARKERS}
    for drawn in (curves, dots):
        found = symbols(drawn.panels[0])
        assert len(found) == 21
        # Each name is beside the marker and in the colour of its run.
        names = {(item["fill"], item["text"][0]) for item in drawn.marks("text") if item["text"][0] in "●■▲◆"}
        assert names == {(fill, characters[shape]) for fill, shape in found}
    lines = {(item["stroke"], tuple(item["strokeDash"])) for item in curves.panels[0].marks("line")}
    assert len(lines) == 21
    # The dots of one group stand side by side, half of each visible.
    for panel in dots.panels:
        xs = sorted(item["x"] for item in panel.marks("symbol"))
        apart = [after - before for before, after in itertools.pairwise(xs)]
        diameter = 2 * (45 / 3.14159) ** 0.5
        assert len(apart) == 4 * 21 - 1 and min(apart) > diameter / 2


def test_points_of_a_long_curve_are_smaller(t5x):
    def size() -> float:
        return Drawn(charts.training([read_run(t5x)])).marks("symbol")[0]["size"]

    short = size()
    task = "explained_tiny_none_eval_validation"
    write_lines(t5x / f"inference_eval/{task}-metrics.jsonl", [evaluation(step, 0.5) for step in range(100)])
    assert size() < short


def test_two_validation_tasks_are_two_curves(t5x):
    write_lines(t5x / "inference_eval/x_eval_validation-metrics.jsonl", [evaluation(10, 0.5)])
    write_lines(t5x / "inference_eval/x_eval_test-metrics.jsonl", [evaluation(10, 0.5)])
    assert list(Drawn(charts.training([read_run(t5x)])).panels[0].lines()) == ["t5x", "t5x x"]


def test_flops_have_a_panel_where_every_run_has_them(medium, tmp_path):
    other = tmp_path / "other"
    write_lines(other / "metrics.jsonl", [training_row(100, 6400, 600) | {"flops_per_second": 1e9}])
    task = "explained_tiny_none_eval_validation_compact"
    write_lines(other / f"inference_eval/{task}-metrics.jsonl", [evaluation(50, 0.25), evaluation(100, 0.5)])
    drawn = Drawn(charts.training([read_run(other)]))
    assert drawn.panels[3].title() == "training FLOPs"
    assert drawn.panels[3].lines() == {"other": [(3e11, 0.25), (6e11, 0.5)]}
    assert len(charts.training([read_run(other), read_run(medium)]).hconcat) == 3


@pytest.mark.parametrize(
    ("heights", "placed"),
    [
        ([0.5, 0.9], [0.5, 0.9]),
        ([0.5, 0.5], [0.5, 0.6]),
        ([0.97, 0.96, 0.99], [0.9, 0.8, 1.0]),
        ([1.0, 0.2, 0.95, 0.25], [1.0, 0.2, 0.9, 0.3]),
        ([], []),
    ],
)
def test_labels_are_spread(heights, placed):
    assert charts.spread(heights, gap=0.1) == pytest.approx(placed)


def test_breakdown_shows_the_test_split(medium):
    drawn = Drawn(charts.breakdown([read_run(medium)]))
    groups = [{row["name"]: row for row in panel.rows() if "name" in row} for panel in drawn.panels]
    assert [{name: row["accuracy"] for name, row in rows.items()} for rows in groups] == [
        {"MAX": 0.75, "SUM": 0.5}, {"2": 1.0, "10": 0.5}, {"5-9": 0.9, "20-24": 0.6},
    ]  # fmt: skip
    sum_, longest = groups[0]["SUM"], groups[2]["20-24"]
    assert (sum_["low"], sum_["high"]) == pytest.approx(metrics.wilson(30, 60))
    assert (longest["low"], longest["high"]) == pytest.approx(metrics.wilson(54, 90))
    labels = [
        [text for text in panel.texts() if text in rows] for panel, rows in zip(drawn.panels, groups, strict=True)
    ]
    assert labels == [["MAX", "SUM"], ["2", "10"], ["5-9", "20-24"]]  # by number
    assert named(drawn.texts()) == ["● medium: test, step 20, n = 100"]


def test_breakdown_shows_runs_side_by_side(medium):
    run = read_run(medium)
    dots = Drawn(charts.breakdown([run, run])).panels[0].marks("symbol")
    first, second = sorted({item["x"] for item in dots})[:2]
    assert 5 < second - first < 13 and len({item["fill"] for item in dots}) == 2


def test_without_a_test_split_the_latest_task_is_shown(t5x):
    write_lines(t5x / "inference_eval/a-metrics.jsonl", [evaluation(1500, 0.5)])
    task, step, scores = charts.last_evaluation(read_run(t5x))
    assert (task, step, scores["exact_match"]) == ("explained_tiny_none_eval_validation", 2000, 0.375)


def test_own_config_comes_before_others(tmp_path):
    directory = write_two_configs(tmp_path)
    run = read_run(directory)
    assert charts.last_evaluation(run)[:2] == (TEST, 20)
    assert named(Drawn(charts.breakdown([run])).texts()) == ["● medium: test, step 20, n = 100"]
    assert list(Drawn(charts.training([run])).panels[0].lines()) == ["medium"]
    heading = Drawn(charts.heatmap([run])).texts()[:10]
    assert heading[:3] == ["validation", "test", "larger numbers"]
    assert heading[3:8] == ["tiny_25_96", "validation", "tiny_25_96 test", "tiny_25_96", "larger numbers"]
    # Any split of its own before the test split of another config.
    (directory / f"inference_eval/{TEST}-metrics.jsonl").unlink()
    texts = Drawn(charts.breakdown([read_run(directory)])).texts()
    assert named(texts) == ["● medium: larger numbers, step 30, n = 100"]


def test_heatmap_has_every_number(medium, t5x):
    drawn = Drawn(charts.heatmap([read_run(medium), read_run(t5x)]))
    assert drawn.texts()[:4] == ["validation", "test", "medium", "t5x"]
    cells = {(row["row"], row["split"]): (row["text"], row["interval"]) for row in drawn.rows()}
    assert cells == {
        (0, "validation"): ("87.5%", "[75.0, 93.8]"),
        (0, "test"): ("62.5%", "[50.0, 68.8]"),
        (1, "validation"): ("37.5%", "[25.0, 43.8]"),
        (1, "test"): ("-", ""),
    }
    fills = [item["fill"] for item in drawn.marks("rect")]
    assert fills == [looks.heat(accuracy)[0] for accuracy in (0.875, 0.625, 0.375, None)]


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it."""
    channels = [byte / 255 for byte in bytes.fromhex(colour[1:])]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_higher_accuracy_is_darker_and_its_number_is_legible():
    shades = [looks.heat(percent / 100) for percent in range(101)]
    fills = [luminance(fill) for fill, _ in shades]
    assert fills == sorted(fills, reverse=True) and fills[0] > 0.8 and fills[-1] < 0.06
    for fill, ink in [*shades, looks.heat(None)]:
        light, dark = sorted([luminance(fill), luminance(ink)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5, fill


# ---- first errors


def test_bars_are_the_fractions_of_the_first_errors(medium, t5x):
    tree = listops.parse("[SUM 7 [MIN 4 6 ] ]")
    gold = listops.explain(tree, "medium")
    wrong = [gold.replace("is 4", "is 6"), gold.replace("[7, 4]", "[7, 5]"), gold.replace("answer: 1", "answer: 3")]
    rows = [prediction(listops.format(tree), 1, text) for text in [gold] * 37 + wrong]
    write_lines(medium / f"inference_eval/{TEST}-000020.jsonl", rows)
    write_lines(t5x / "inference_eval/a_eval_longer-000010.jsonl", rows[-1:])
    drawn = Drawn(charts.first_errors([read_predictions(read_run(medium)), read_predictions(read_run(t5x))]))
    labels = {label: kind for kind, (label, _) in looks.KINDS.items()}
    bars: list[dict[str, Any]] = [{}, {}]
    for row in drawn.rows():
        if row["end"] > row["start"]:
            bars[row["set"]][labels[row["kind"]]] = (row["start"], row["end"])
    starts = {"valid": 0.0, "copy": 0.925, "arithmetic": 0.95, "answer": 0.975}
    ends = dict(zip(starts, [*list(starts.values())[1:], 1.0], strict=True))
    assert bars == [{kind: pytest.approx((starts[kind], ends[kind])) for kind in starts}, {"answer": (0, 1)}]
    fills = {item["fill"] for item in drawn.marks("rect") if item["width"] > 0}
    assert fills == {looks.KINDS[kind][1] for kind in starts}
    texts = drawn.texts()
    assert {"medium · test", "t5x a · longer", "92.5%", "n = 40", "n = 1"} <= set(texts)
    assert "2.5%" not in texts and "undefined" not in texts  # 2.5% have no room
    assert {label for label, _ in looks.KINDS.values()} <= set(texts)


def test_every_kind_of_first_error_has_a_label():
    assert looks.KINDS.keys() == {looks.VALID, *listops.ERROR_KINDS}


def test_chart_without_predictions_says_so(t5x):
    for predictions in ([], [read_predictions(read_run(t5x))]):
        assert Drawn(charts.first_errors(predictions)).texts() == ["no predictions of ListOps expressions"]


def test_same_runs_give_the_same_svg(medium):
    run = read_run(medium)
    assert vega.svg(charts.breakdown([run])) == vega.svg(charts.breakdown([run]))
