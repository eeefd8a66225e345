"""The charts: what Vega draws of them can be told apart and read."""

import itertools
from typing import Any

import pytest

from explainft import listops
from explainft.reporting import breakdown, charts, curves, looks, vega, verdicts
from explainft.reporting.predictions import read_predictions
from explainft.reporting.runs import read_run
from tests.helpers.drawn import Drawn, symbols
from tests.helpers.question_runs import write_questions
from tests.helpers.run_directories import TEST, many_runs, prediction, write_lines


def test_any_two_of_21_runs_look_different(medium):
    runs = many_runs(read_run(medium), 21)
    lines_of_runs, dots = Drawn(curves.training(runs)), Drawn(breakdown.breakdown(runs))
    characters = {shape: character for shape, character in looks.MARKERS}
    for drawn in (lines_of_runs, dots):
        found = symbols(drawn.panels[0])
        assert len(found) == 21
        # Each name is beside the marker and in the colour of its run.
        names = {(item["fill"], item["text"][0]) for item in drawn.marks("text") if item["text"][0] in "●■▲◆"}
        assert names == {(fill, characters[shape]) for fill, shape in found}
    lines = {(item["stroke"], tuple(item["strokeDash"])) for item in lines_of_runs.panels[0].marks("line")}
    assert len(lines) == 21
    # The dots of one group stand side by side, half of each visible.
    for panel in dots.panels:
        xs = sorted(item["x"] for item in panel.marks("symbol"))
        apart = [after - before for before, after in itertools.pairwise(xs)]
        diameter = 2 * (45 / 3.14159) ** 0.5
        assert len(apart) == 4 * 21 - 1 and min(apart) > diameter / 2


def test_heatmap_has_every_number(medium, t5x):
    drawn = Drawn(charts.heatmap([read_run(medium), read_run(t5x)]))
    assert drawn.texts()[:4] == ["validation", "test", "medium", "t5x"]
    cells = {(row["row"], row["split"]): (row["text"], row["lines"]) for row in drawn.rows()}
    assert cells == {
        (0, "validation"): ("87.5%", ["[75.0, 93.8]"]),
        (0, "test"): ("62.5%", ["[50.0, 68.8]"]),
        (1, "validation"): ("37.5%", ["[25.0, 43.8]"]),
        (1, "test"): ("-", []),
    }
    assert {"[75.0, 93.8]", "[50.0, 68.8]", "[25.0, 43.8]"} <= set(drawn.texts())
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
    labels = {kind.label: name for name, kind in verdicts.KINDS.items()}
    bars: list[dict[str, Any]] = [{}, {}]
    for row in drawn.rows():
        if row["end"] > row["start"]:
            bars[row["set"]][labels[row["kind"]]] = (row["start"], row["end"])
    starts = {"valid": 0.0, "copy": 0.925, "arithmetic": 0.95, "answer": 0.975}
    ends = dict(zip(starts, [*list(starts.values())[1:], 1.0], strict=True))
    assert bars == [{kind: pytest.approx((starts[kind], ends[kind])) for kind in starts}, {"answer": (0, 1)}]
    fills = {item["fill"] for item in drawn.marks("rect") if item["width"] > 0}
    assert fills == {verdicts.KINDS[kind].colour for kind in starts}
    texts = drawn.texts()
    assert {"medium · test", "t5x a · longer", "92.5%", "n = 40", "n = 1"} <= set(texts)
    assert "2.5%" not in texts and "undefined" not in texts  # 2.5% have no room
    assert {"valid", "copy error", "wrong arithmetic", "wrong answer"} <= set(texts)
    assert not {"wrong list", "no answer", "cut"} & set(texts)  # what does not occur


def test_chart_without_predictions_says_so(t5x):
    for predictions in ([], [read_predictions(read_run(t5x))]):
        assert Drawn(charts.first_errors(predictions)).texts() == ["no predictions of a known problem"]


def test_same_runs_give_the_same_svg(medium):
    run = read_run(medium)
    assert vega.svg(breakdown.breakdown([run])) == vega.svg(breakdown.breakdown([run]))


def test_chance_stands_in_the_heat_map(tmp_path, medium):
    texts = Drawn(charts.heatmap([read_run(write_questions(tmp_path, "homes")), read_run(medium)])).texts()
    assert texts.count("chance 40.0%") == 2


def test_verdicts_of_every_problem_have_bars(tmp_path):
    predictions = [read_predictions(read_run(write_questions(tmp_path, name))) for name in ("homes", "sums")]
    drawn = Drawn(charts.first_errors(predictions))
    labels = ["correct", "wrong step", "wrong answer", "no answer", "cut"]
    shown = [text for text in drawn.texts() if text in {kind.label for kind in verdicts.KINDS.values()}]
    assert shown == labels
    fractions = {(row["set"], row["kind"]): row["end"] - row["start"] for row in drawn.rows()}
    assert [fractions[1, label] for label in labels] == pytest.approx([0.4, 0, 0.2, 0.2, 0.2])
    assert [fractions[3, label] for label in labels] == pytest.approx([1 / 7, 3 / 7, 1 / 7, 1 / 7, 1 / 7])
