"""Curves of training: their data are the evaluations."""

import pytest

from explainft.reporting import curves
from explainft.reporting.runs import read_run
from tests.helpers.drawn import Drawn, named
from tests.helpers.question_runs import write_questions
from tests.helpers.run_directories import evaluation, training_row, write_lines


def test_curves_are_the_evaluations(medium, tmp_path):
    other = tmp_path / "other"
    write_lines(other / "metrics.jsonl", [training_row(100, 6400, 600)])
    task = "explained_tiny_none_eval_validation_compact"
    write_lines(other / f"inference_eval/{task}-metrics.jsonl", [evaluation(50, 0.25), evaluation(100, 0.5)])
    drawn = Drawn(curves.training([read_run(medium), read_run(other)]))
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
    drawn = Drawn(curves.training([read_run(medium)])).panels[1]
    assert [(row["x"], row["low"], row["high"]) for row in drawn.rows() if "low" in row] == [
        (500, 0.125, 0.3125), (2000, 0.375, 0.5625), (5000, 0.75, 0.9375),
    ]  # fmt: skip
    area, height = drawn.marks("area"), 280
    ends = [sorted((1 - item["y"] / height, 1 - item["y2"] / height)) for item in area]
    assert ends == [pytest.approx([row["low"], row["high"]]) for row in drawn.rows() if "low" in row]
    assert {item["fill"] for item in area} == {item["fill"] for item in drawn.marks("symbol")}


def test_evaluation_past_the_last_training_row_has_a_step_alone(medium):
    write_lines(medium / "metrics.jsonl", [training_row(10, 1000, 30.0), training_row(20, 3000, 60.0)])
    drawn = Drawn(curves.training([read_run(medium)]))
    assert drawn.panels[0].lines() == {"medium": [(5, 0.25), (15, 0.5), (30, 0.875)]}
    assert drawn.panels[1].lines() == {"medium": [(500, 0.25), (2000, 0.5)]}
    assert named(drawn.texts()) == ["● medium  87.5%"]


def test_without_examples_steps_are_the_only_axis(t5x):
    drawn = Drawn(curves.training([read_run(t5x)]))
    [steps] = drawn.panels
    assert steps.lines() == {"t5x": [(1000, 0.125), (2000, 0.375)]} and steps.title() == "training steps"
    assert named(drawn.texts()) == ["● t5x  37.5%"]


def test_run_that_cannot_be_drawn_everywhere_is_named(medium, t5x, tmp_path):
    write_lines(tmp_path / "new/metrics.jsonl", [training_row(10, 1000, 30.0)])
    drawn = Drawn(curves.training([read_run(t5x), read_run(medium), read_run(tmp_path / "new")]))
    assert [list(panel.lines()) for panel in drawn.panels] == [["t5x", "medium"], ["medium"], ["medium"]]
    assert {
        "not drawn, without validation evaluations: new",
        "against steps alone, without metrics.jsonl: t5x",
    } <= set(drawn.texts())


def test_points_of_a_long_curve_are_smaller(t5x):
    def size() -> float:
        return Drawn(curves.training([read_run(t5x)])).marks("symbol")[0]["size"]

    short = size()
    task = "explained_tiny_none_eval_validation"
    write_lines(t5x / f"inference_eval/{task}-metrics.jsonl", [evaluation(step, 0.5) for step in range(100)])
    assert size() < short


def test_two_validation_tasks_are_two_curves(t5x):
    write_lines(t5x / "inference_eval/x_eval_validation-metrics.jsonl", [evaluation(10, 0.5)])
    write_lines(t5x / "inference_eval/x_eval_test-metrics.jsonl", [evaluation(10, 0.5)])
    assert list(Drawn(curves.training([read_run(t5x)])).panels[0].lines()) == ["t5x", "t5x x"]


def test_flops_have_a_panel_where_every_run_has_them(medium, tmp_path):
    other = tmp_path / "other"
    write_lines(other / "metrics.jsonl", [training_row(100, 6400, 600) | {"flops_per_second": 1e9}])
    task = "explained_tiny_none_eval_validation_compact"
    write_lines(other / f"inference_eval/{task}-metrics.jsonl", [evaluation(50, 0.25), evaluation(100, 0.5)])
    drawn = Drawn(curves.training([read_run(other)]))
    assert drawn.panels[3].title() == "training FLOPs"
    assert drawn.panels[3].lines() == {"other": [(3e11, 0.25), (6e11, 0.5)]}
    assert len(curves.training([read_run(other), read_run(medium)]).hconcat) == 3


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
    assert curves.spread(heights, gap=0.1) == pytest.approx(placed)


def test_chance_is_a_dashed_line(tmp_path, medium):
    homes = read_run(write_questions(tmp_path, "homes"))
    chance = homes.evaluations["explained_homes_explain_answer_eval_validation"][30]["chance"]
    assert chance == pytest.approx((3 / 3 + 2 / 2) / 5)  # three questions of three choices, two of two
    steps = Drawn(curves.training([homes, read_run(medium)])).panels[0]
    [line] = [item for item in steps.marks("rule") if item.get("strokeDash")]
    assert line["y"] == pytest.approx((1 - chance) * 280)
    assert "chance 40.0%" in steps.texts()
    without = Drawn(curves.training([read_run(medium)])).panels[0]
    assert not [item for item in without.marks("rule") if item.get("strokeDash")]
