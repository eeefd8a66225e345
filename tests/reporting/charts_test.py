from pathlib import Path

import numpy as np
import pytest
from matplotlib import colors

from explainft import listops
from explainft.evaluation import metrics
from explainft.reporting import charts
from explainft.reporting.runs import read_predictions, read_run
from tests.helpers.run_folders import (
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


def drawn(ax) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): [tuple(point) for point in line.get_xydata().tolist()] for line in ax.get_lines()}


def texts(fig) -> list[str]:
    return [text.get_text() for ax in fig.axes for text in ax.texts]


def test_the_curves_are_the_evaluations(medium, tmp_path):
    other = tmp_path / "other"
    write_lines(other / "metrics.jsonl", [training_row(100, 6400, 600)])
    task = "explained_tiny_none_eval_validation_compact"
    write_lines(other / f"inference_eval/{task}-metrics.jsonl", [evaluation(50, 0.25), evaluation(100, 0.5)])
    fig = charts.figure([read_run(medium), read_run(other)])
    steps, examples, minutes = fig.axes
    assert drawn(steps) == {"medium": [(5, 0.25), (15, 0.5), (30, 0.875)], "other": [(50, 0.25), (100, 0.5)]}
    assert drawn(examples) == {
        "medium": [(500, 0.25), (2000, 0.5), (5000, 0.875)],
        "other": [(3200, 0.25), (6400, 0.5)],
    }
    assert drawn(minutes) == {"medium": [(0.25, 0.25), (0.75, 0.5), (1.5, 0.875)], "other": [(5, 0.25), (10, 0.5)]}
    assert [ax.get_xlabel() for ax in fig.axes] == ["training steps", "training examples seen", "minutes of training"]
    assert steps.get_ylim() == examples.get_ylim() == minutes.get_ylim() == (0, 1)
    assert texts(fig) == ["● medium  87.5%", "● other  50.0%"]
    for ax in fig.axes:
        assert [line.get_color() for line in ax.get_lines()] == [text.get_color() for text in minutes.texts]


def test_the_band_is_the_interval(medium):
    examples = charts.figure([read_run(medium)]).axes[1]
    (band,) = examples.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert corners == {(500, 0.125), (500, 0.3125), (2000, 0.375), (2000, 0.5625), (5000, 0.75), (5000, 0.9375)}
    assert colors.same_color(band.get_facecolor()[0, :3], examples.get_lines()[0].get_color())


def test_an_evaluation_past_the_last_training_row_is_placed_by_its_step_alone(medium):
    write_lines(medium / "metrics.jsonl", [training_row(10, 1000, 30.0), training_row(20, 3000, 60.0)])
    fig = charts.figure([read_run(medium)])
    assert drawn(fig.axes[0]) == {"medium": [(5, 0.25), (15, 0.5), (30, 0.875)]}
    assert drawn(fig.axes[1]) == {"medium": [(500, 0.25), (2000, 0.5)]}
    assert texts(fig) == ["● medium  87.5%"]


def test_without_examples_the_curves_are_drawn_against_steps_alone(t5x):
    fig = charts.figure([read_run(t5x)])
    (steps,) = fig.axes
    assert drawn(steps) == {"t5x": [(1000, 0.125), (2000, 0.375)]}
    assert steps.get_xlabel() == "training steps"
    assert texts(fig) == ["● t5x  37.5%"]


def test_a_run_that_cannot_be_drawn_everywhere_is_named(medium, t5x, tmp_path):
    write_lines(tmp_path / "new/metrics.jsonl", [training_row(10, 1000, 30.0)])
    fig = charts.figure([read_run(t5x), read_run(medium), read_run(tmp_path / "new")])
    assert [list(drawn(ax)) for ax in fig.axes] == [["t5x", "medium"], ["medium"], ["medium"]]
    assert texts(fig)[0].split("\n") == [
        "not drawn, for want of validation evaluations: new",
        "against steps alone, for want of metrics.jsonl: t5x",
    ]


def test_any_two_of_21_runs_look_different(medium):
    runs = many_runs(read_run(medium), 21)
    curves, dots = charts.figure(runs), charts.breakdown(runs)
    for fig in (curves, dots):
        lines = [line for line in fig.axes[0].get_lines() if line.get_xdata()[0] < 5.5]
        assert len({(line.get_color(), line.get_marker()) for line in lines}) == 21
        # Each name is beside the marker and in the colour of its run.
        shapes = {"●": "o", "■": "s", "▲": "^"}
        named = {(text.get_color(), shapes[text.get_text()[0]]) for ax in fig.axes for text in ax.texts}
        assert named == {(line.get_color(), line.get_marker()) for line in lines}
    assert len({(line.get_color(), line.get_linestyle()) for line in curves.axes[0].get_lines()}) == 21
    # The dots of one group stand side by side, half of each to be seen at least.
    for ax in dots.axes:
        xs = sorted(line.get_xdata()[0] for line in ax.get_lines())
        apart = np.diff(ax.transData.transform([(x, 0) for x in xs])[:, 0]) / dots.dpi * 72
        assert len(apart) == 4 * 21 - 1 and min(apart) > 2.5  # points; a dot has 5


def test_a_marker_stands_at_some_points_of_a_long_curve(t5x):
    task = "explained_tiny_none_eval_validation"
    write_lines(t5x / f"inference_eval/{task}-metrics.jsonl", [evaluation(step, 0.5) for step in range(100)])
    (line,) = charts.figure([read_run(t5x)]).axes[0].get_lines()
    assert (line.get_marker(), line.get_markevery()) == ("o", 8)


def test_two_validation_tasks_are_told_apart(t5x):
    write_lines(t5x / "inference_eval/x_eval_validation-metrics.jsonl", [evaluation(10, 0.5)])
    write_lines(t5x / "inference_eval/x_eval_test-metrics.jsonl", [evaluation(10, 0.5)])
    lines = drawn(charts.figure([read_run(t5x)]).axes[0])
    assert list(lines) == ["t5x", "t5x x"]


def test_flops_have_a_panel_where_every_run_knows_them(medium, tmp_path):
    other = tmp_path / "other"
    write_lines(other / "metrics.jsonl", [training_row(100, 6400, 600) | {"flops_per_second": 1e9}])
    task = "explained_tiny_none_eval_validation_compact"
    write_lines(other / f"inference_eval/{task}-metrics.jsonl", [evaluation(50, 0.25), evaluation(100, 0.5)])
    fig = charts.figure([read_run(other)])
    assert [ax.get_xlabel() for ax in fig.axes][3:] == ["training FLOPs"]
    assert drawn(fig.axes[3]) == {"other": [(3e11, 0.25), (6e11, 0.5)]}
    assert len(charts.figure([read_run(other), read_run(medium)]).axes) == 3


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


def test_the_breakdown_shows_the_test_split(medium):
    run = read_run(medium)
    fig = charts.breakdown([run])
    names = [[label.get_text() for label in ax.get_xticklabels()] for ax in fig.axes]
    assert names == [["MAX", "SUM"], ["2", "10"], ["5-9", "20-24"]]
    dots = [[line.get_xydata()[0].tolist() for line in ax.get_lines()] for ax in fig.axes]
    assert dots == [[[0, 0.75], [1, 0.5]], [[0, 1.0], [1, 0.5]], [[0, 0.9], [1, 0.6]]]
    bars = [[bar.get_segments()[0][:, 1].tolist() for bar in ax.collections] for ax in fig.axes]
    assert bars[0] == [pytest.approx(metrics.wilson(30, 40)), pytest.approx(metrics.wilson(30, 60))]
    assert bars[2][1] == pytest.approx(metrics.wilson(54, 90))
    assert texts(fig) == ["● medium: test, step 20, n = 100"]


def test_the_breakdown_sets_runs_apart_side_by_side(medium):
    run = read_run(medium)
    operators = charts.breakdown([run, run]).axes[0].get_lines()
    xs = [line.get_xdata()[0] for line in operators]
    assert xs == pytest.approx([-0.08, 0.92, 0.08, 1.08])
    assert len({line.get_color() for line in operators}) == 2


def test_without_a_test_split_the_breakdown_shows_the_task_evaluated_last(t5x):
    write_lines(t5x / "inference_eval/a-metrics.jsonl", [evaluation(1500, 0.5)])
    run = read_run(t5x)
    task, step, scores = charts.last_evaluation(run)
    assert (task, step, scores["exact_match"]) == ("explained_tiny_none_eval_validation", 2000, 0.375)


def test_what_a_run_was_trained_on_comes_before_other_configs(tmp_path):
    folder = write_two_configs(tmp_path)
    run = read_run(folder)
    assert charts.last_evaluation(run)[:2] == (TEST, 20)
    assert texts(charts.breakdown([run])) == ["● medium: test, step 20, n = 100"]
    assert list(drawn(charts.figure([run]).axes[0])) == ["medium"]
    (heat_map,) = charts.heatmap([run]).axes
    splits = [label.get_text() for label in heat_map.get_xticklabels()]
    assert splits[:3] == ["validation", "test", "larger numbers"]
    assert splits[3:] == ["tiny_25_96\nvalidation", "tiny_25_96 test", "tiny_25_96\nlarger numbers"]
    # Any split of its own before the test split of another config.
    (folder / f"inference_eval/{TEST}-metrics.jsonl").unlink()
    assert texts(charts.breakdown([read_run(folder)])) == ["● medium: larger numbers, step 30, n = 100"]


def test_the_heat_map_has_every_number(medium, t5x):
    (ax,) = charts.heatmap([read_run(medium), read_run(t5x)]).axes
    written = {text.get_position(): text.get_text() for text in ax.texts if text.get_text()}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["validation", "test"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["medium", "t5x"]
    places = {(x, int(y)): [] for x, y in written}
    for (x, y), text in sorted(written.items()):
        places[(x, int(y))].append(text)
    assert places == {
        (0.5, 0): ["87.5%", "[75.0, 93.8]"],
        (1.5, 0): ["62.5%", "[50.0, 68.8]"],
        (0.5, 1): ["37.5%", "[25.0, 43.8]"],
        (1.5, 1): ["-"],
    }
    fills = [colors.to_hex(patch.get_facecolor()) for patch in ax.patches]
    assert fills == [charts.heat(share)[0] for share in (0.875, 0.625, 0.375, None)]


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colors.to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_larger_share_is_darker_and_its_number_can_be_read():
    shades = [charts.heat(share / 100) for share in range(101)]
    fills = [luminance(fill) for fill, _ in shades]
    assert fills == sorted(fills, reverse=True) and fills[0] > 0.8 and fills[-1] < 0.06
    for fill, ink in [*shades, charts.heat(None)]:
        light, dark = sorted([luminance(fill), luminance(ink)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5, fill


# ---- mistakes


def test_the_bars_are_the_shares_of_the_first_mistakes(medium, t5x):
    tree = listops.parse("[SUM 7 [MIN 4 6 ] ]")
    right = listops.explain(tree, "medium")
    wrong = [right.replace("is 4", "is 6"), right.replace("[7, 4]", "[7, 5]"), right.replace("answer: 1", "answer: 3")]
    rows = [prediction(listops.format(tree), 1, text) for text in [right] * 37 + wrong]
    write_lines(medium / f"inference_eval/{TEST}-000020.jsonl", rows)
    write_lines(t5x / "inference_eval/a_eval_longer-000010.jsonl", rows[-1:])
    fig = charts.mistakes([read_predictions(read_run(medium)), read_predictions(read_run(t5x))])
    (ax,) = fig.axes
    bars = [bar.get_bbox().bounds for bar in ax.patches]
    colour_of = {kind: fill for kind, (_, fill) in charts.KINDS.items()}
    shares = [{}, {}]
    for (x, y, width, height), bar in zip(bars, ax.patches, strict=True):
        if width > 0:
            shares[round(y + height / 2)][colors.to_hex(bar.get_facecolor())] = (x, x + width)
    starts = {"valid": 0.0, "copy": 0.925, "arithmetic": 0.95, "answer": 0.975}
    ends = dict(zip(starts, [*list(starts.values())[1:], 1.0], strict=True))
    first = {colors.to_hex(colour_of[kind]): pytest.approx((starts[kind], ends[kind])) for kind in starts}
    assert shares == [first, {colors.to_hex(colour_of["answer"]): pytest.approx((0, 1))}]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["medium · test", "t5x a · longer"]
    assert texts(fig) == ["92.5%", "n = 40", "100.0%", "n = 1"]  # 2.5% have no room
    legend = {text.get_text() for text in ax.get_legend().get_texts()}
    assert legend == {label for label, _ in charts.KINDS.values()}


def test_every_kind_of_mistake_has_a_label():
    assert charts.KINDS.keys() == {charts.VALID, *listops.ERROR_KINDS}


def test_without_predictions_the_picture_of_mistakes_says_so(t5x):
    for predictions in ([], [read_predictions(read_run(t5x))]):
        assert texts(charts.mistakes(predictions)) == ["no predictions of ListOps expressions"]
