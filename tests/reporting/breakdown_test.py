"""Exact match by groups, as it is drawn."""

import pytest

from explainft.evaluation import metrics
from explainft.reporting import breakdown, charts, curves, looks
from explainft.reporting.runs import read_run
from tests.helpers.drawn import Drawn, named
from tests.helpers.question_runs import write_questions
from tests.helpers.run_directories import TEST, evaluation, write_lines, write_two_configs


def test_breakdown_shows_the_test_split(medium):
    drawn = Drawn(breakdown.breakdown([read_run(medium)]))
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
    dots = Drawn(breakdown.breakdown([run, run])).panels[0].marks("symbol")
    first, second = sorted({item["x"] for item in dots})[:2]
    assert 5 < second - first < 13 and len({item["fill"] for item in dots}) == 2


def test_without_a_test_split_the_latest_task_is_shown(t5x):
    write_lines(t5x / "inference_eval/a-metrics.jsonl", [evaluation(1500, 0.5)])
    task, step, scores = breakdown.last_evaluation(read_run(t5x))
    assert (task, step, scores["exact_match"]) == ("explained_tiny_none_eval_validation", 2000, 0.375)


def test_own_config_comes_before_others(tmp_path):
    directory = write_two_configs(tmp_path)
    run = read_run(directory)
    assert breakdown.last_evaluation(run)[:2] == (TEST, 20)
    assert named(Drawn(breakdown.breakdown([run])).texts()) == ["● medium: test, step 20, n = 100"]
    assert list(Drawn(curves.training([run])).panels[0].lines()) == ["medium"]
    heading = Drawn(charts.heatmap([run])).texts()[:10]
    assert heading[:3] == ["validation", "test", "larger numbers"]
    assert heading[3:8] == ["tiny_25_96", "validation", "tiny_25_96 test", "tiny_25_96", "larger numbers"]
    # Any split of its own before the test split of another config.
    (directory / f"inference_eval/{TEST}-metrics.jsonl").unlink()
    texts = Drawn(breakdown.breakdown([read_run(directory)])).texts()
    assert named(texts) == ["● medium: larger numbers, step 30, n = 100"]


def test_panels_are_the_groups_of_the_metrics(tmp_path, medium):
    runs = [read_run(write_questions(tmp_path, name)) for name in ("homes", "sums")]
    chart = Drawn(breakdown.breakdown([*runs, read_run(medium)]))
    titles = ["last operator", "depth", "length in tokens", "number of choices", "subject", "level"]
    assert [panel.title() for panel in chart.panels] == titles
    # Each run has its own colour, in the panels of its own groups alone.
    colours = [looks.look(i)[0] for i in range(3)]
    dots = [chart.panels[i].marks("symbol") for i in range(6)]
    assert [{dot["fill"] for dot in panel} for panel in dots] == [{colours[i]} for i in (2, 2, 2, 0, 1, 1)]


def test_whole_chart_has_the_colours_of_its_panels(tmp_path):
    runs = [read_run(write_questions(tmp_path, name)) for name in ("homes", "sums")]
    drawn = Drawn(breakdown.breakdown(runs))
    fills = {(item["fill"], round(item["x"])) for item in drawn.marks("symbol")}
    alone = {(item["fill"], round(item["x"])) for panel in drawn.panels for item in panel.marks("symbol")}
    assert fills == alone


def test_runs_without_groups_have_no_panels(t5x):
    assert Drawn(breakdown.breakdown([read_run(t5x)])).texts() == ["no metrics by group"]
