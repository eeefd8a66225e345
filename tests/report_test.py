import json
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest
from matplotlib import colors

from explainft import main, metrics, report
from explainft.errors import UserError

VALIDATION = "explained_tiny_medium_eval_validation_compact"
TEST = "explained_tiny_medium_eval_test_compact"


def write_lines(file: Path, rows: list[dict], end: str = "\n") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(json.dumps(row) for row in rows) + end)


def training_row(step: int, examples: int, seconds: float) -> dict:
    return {"step": step, "loss": 1.5, "accuracy": 0.5, "examples": examples, "seconds": seconds, "learning_rate": 1e-3}


def evaluation(step: int, exact_match: float, **more: float) -> dict:
    """An evaluation of 100 examples; the interval is made up, so that the report cannot have worked it out itself."""
    bounds = {"exact_match_low": exact_match - 0.125, "exact_match_high": exact_match + 0.0625}
    return {"step": step, "exact_match": exact_match, **bounds, "n": 100, "parseable": 1.0, **more}


@pytest.fixture
def medium(tmp_path) -> Path:
    """1,000 examples and 30 seconds in the first 10 updates; 4,000 and 60 in the next 20."""
    run = tmp_path / "medium"
    rows = [
        training_row(10, 1000, 30.0),
        {"step": 15, "eval/loss": 1.0, "eval/accuracy": 0.5},
        training_row(30, 5000, 90.0),
    ]
    write_lines(run / "metrics.jsonl", rows)
    scores = {"valid": 0.8125, "step_accuracy": 0.90625}
    lines = [evaluation(5, 0.25, **scores), evaluation(15, 0.5, **scores), evaluation(30, 0.875, **scores)]
    write_lines(run / f"inference_eval/{VALIDATION}-metrics.jsonl", lines)
    groups = {"operator/MAX": (0.75, 40), "operator/SUM": (0.5, 60), "depth/2": (1.0, 30), "depth/10": (0.5, 70)}
    groups |= {"length/5-9": (0.9, 10), "length/20-24": (0.6, 90)}
    shares = {f"exact_match/{name}": share for name, (share, _) in groups.items()}
    counts = {f"n/{name}": n for name, (_, n) in groups.items()}
    write_lines(run / f"inference_eval/{TEST}-metrics.jsonl", [evaluation(20, 0.625, **shares, **counts)])
    return run


@pytest.fixture
def t5x(tmp_path) -> Path:
    """No metrics.jsonl, and a task without explanations; the second row of step 1000 replaces the first."""
    run = tmp_path / "t5x"
    lines = [evaluation(2000, 0.375), evaluation(1000, 0.75), evaluation(1000, 0.125)]
    write_lines(run / "inference_eval/explained_tiny_none_eval_validation-metrics.jsonl", lines)
    write_lines(
        run / "inference_eval/explained_tiny_none_eval_validation-001000.jsonl", [{"input": {}, "prediction": "3"}]
    )
    return run


# ---- reading


def test_what_is_read(medium):
    run = report.read_run(medium)
    assert run.name == "medium"
    assert list(run.train) == [10, 30]  # the row of step 15 is an evaluation
    assert {task: list(by_step) for task, by_step in run.evaluations.items()} == {TEST: [20], VALIDATION: [5, 15, 30]}
    assert run.evaluations[VALIDATION][15]["valid"] == 0.8125


def test_cumulative_columns_between_their_rows(medium):
    run = report.read_run(medium)
    assert [run.at(step, "examples") for step in (0, 5, 10, 15, 30)] == [0, 500, 1000, 2000, 5000]
    assert [run.at(step, "seconds") for step in (0, 5, 10, 15, 30)] == [0, 15, 30, 45, 90]
    assert run.at(31, "examples") is None and run.at(-1, "examples") is None and run.at(5, "tokens") is None


def test_steps_ascend_and_a_step_evaluated_again_counts_once(t5x):
    (by_step,) = report.read_run(t5x).evaluations.values()
    assert [(step, row["exact_match"]) for step, row in by_step.items()] == [(1000, 0.125), (2000, 0.375)]


def test_what_is_no_finite_number_is_left_out(tmp_path):
    row = evaluation(1, 0.5, valid=float("nan")) | {"sample": "text", "histogram": [1, 2]}
    write_lines(tmp_path / "inference_eval/a-metrics.jsonl", [row])
    assert report.read_run(tmp_path).evaluations["a"][1].keys() == evaluation(1, 0.5).keys()


def test_a_last_line_that_a_kill_cut_off_is_passed_over(medium):
    file = medium / "metrics.jsonl"
    whole = report.read_run(medium)
    file.write_text(file.read_text() + '{"step": 40, "examples": 60')
    assert report.read_run(medium) == whole


@pytest.mark.parametrize("damaged", ['{"step": 40, "exa', "[1, 2]", '{"examples": 3}', '{"step": "4"}', "", "\x00"])
@pytest.mark.parametrize("name", ["metrics.jsonl", f"inference_eval/{VALIDATION}-metrics.jsonl"])
def test_a_damaged_line_is_named(medium, name, damaged):
    file = medium / name
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([first, damaged, *rest]) + "\n")
    with pytest.raises(UserError, match="line 2 is damaged") as error:
        report.read_run(medium)
    assert str(file) in str(error.value)


def test_a_folder_without_a_run_is_refused(tmp_path):
    (tmp_path / "inference_eval").mkdir()
    (tmp_path / "inference_eval/a-000100.jsonl").write_text('{"input": {}}\n')
    (tmp_path / "inference_eval/b-metrics.jsonl").write_text("")
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="expected metrics.jsonl or inference_eval/<task>-metrics.jsonl"):
            report.read_run(path)


# ---- the table


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]


def test_every_cell_of_the_table(medium, t5x):
    table = report.table([report.read_run(medium), report.read_run(t5x)])
    header, rule, *rows = cells(table)
    assert header == [
        "Run", "Task", "Step", "Exact match [95% interval]", "n",
        "Parseable", "Valid", "Step accuracy", "Examples", "Training seconds",
    ]  # fmt: skip
    assert [cell[-1] for cell in rule] == ["-", "-", *":" * 8]
    assert rows == [
        ["medium", TEST, "20", "62.5% [50.0, 68.8]", "100", "100.0%", "-", "-", "3,000", "60"],
        ["medium", VALIDATION, "30", "87.5% [75.0, 93.8]", "100", "100.0%", "81.2%", "90.6%", "5,000", "90"],
        ["t5x", "explained_tiny_none_eval_validation", "2,000", "37.5% [25.0, 43.8]", "100", "100.0%", *"----"],
    ]
    assert len({len(line) for line in table.splitlines()}) == 1  # the columns stand in line


def test_a_run_without_evaluations_has_a_row(tmp_path):
    write_lines(tmp_path / "metrics.jsonl", [training_row(1000, 64000, 12.6)])
    run = report.read_run(tmp_path)
    assert cells(report.table([run]))[2][1:] == ["-", "1,000", "-", "-", "-", "-", "-", "64,000", "13"]


def test_other_metrics_and_names_in_the_table(tmp_path):
    run = tmp_path / "a|b"
    write_lines(run / "inference_eval/rouge-metrics.jsonl", [{"step": 7, "rouge1": 31.5}])
    write_lines(run / "inference_eval/squad-metrics.jsonl", [{"step": 7, "exact_match": 0.5}])
    rows = report.table([report.read_run(run)]).splitlines()[2:]
    assert [row.startswith("| a\\|b ") for row in rows] == [True, True]
    assert [row.replace(" ", "").split("|")[4:6] for row in rows] == [["7", "-"], ["7", "50.0%"]]


# ---- the plots


def drawn(ax) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): [tuple(point) for point in line.get_xydata().tolist()] for line in ax.get_lines()}


def texts(fig) -> list[str]:
    return [text.get_text() for ax in fig.axes for text in ax.texts]


def test_the_curves_are_the_evaluations(medium, tmp_path):
    other = tmp_path / "other"
    write_lines(other / "metrics.jsonl", [training_row(100, 6400, 600)])
    task = "explained_tiny_none_eval_validation_compact"
    write_lines(other / f"inference_eval/{task}-metrics.jsonl", [evaluation(50, 0.25), evaluation(100, 0.5)])
    fig = report.figure([report.read_run(medium), report.read_run(other)])
    examples, minutes = fig.axes
    assert drawn(examples) == {
        "medium": [(500, 0.25), (2000, 0.5), (5000, 0.875)],
        "other": [(3200, 0.25), (6400, 0.5)],
    }
    assert drawn(minutes) == {"medium": [(0.25, 0.25), (0.75, 0.5), (1.5, 0.875)], "other": [(5, 0.25), (10, 0.5)]}
    assert (examples.get_xlabel(), minutes.get_xlabel()) == ("training examples seen", "minutes of training")
    assert examples.get_ylim() == minutes.get_ylim() == (0, 1)
    assert texts(fig) == ["medium  87.5%", "other  50.0%"]
    for ax in fig.axes:
        assert [line.get_color() for line in ax.get_lines()] == [text.get_color() for text in minutes.texts]


def test_the_band_is_the_interval(medium):
    examples = report.figure([report.read_run(medium)]).axes[0]
    (band,) = examples.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert corners == {(500, 0.125), (500, 0.3125), (2000, 0.375), (2000, 0.5625), (5000, 0.75), (5000, 0.9375)}
    assert colors.same_color(band.get_facecolor()[0, :3], examples.get_lines()[0].get_color())


def test_an_evaluation_past_the_last_training_row_is_not_placed(medium):
    write_lines(medium / "metrics.jsonl", [training_row(10, 1000, 30.0), training_row(20, 3000, 60.0)])
    fig = report.figure([report.read_run(medium)])
    assert drawn(fig.axes[0]) == {"medium": [(500, 0.25), (2000, 0.5)]}
    assert texts(fig) == ["medium  50.0%"]


def test_without_examples_the_curves_are_drawn_against_steps(t5x):
    fig = report.figure([report.read_run(t5x)])
    (steps,) = fig.axes
    assert drawn(steps) == {"t5x": [(1000, 0.125), (2000, 0.375)]}
    assert steps.get_xlabel() == "training steps"
    assert texts(fig) == ["t5x  37.5%"]


def test_a_run_that_cannot_be_drawn_beside_the_others_is_named(medium, t5x):
    fig = report.figure([report.read_run(t5x), report.read_run(medium)])
    assert list(drawn(fig.axes[0])) == list(drawn(fig.axes[1])) == ["medium"]
    assert [text for text in texts(fig) if "not drawn" in text and text.endswith(": t5x")]


def test_two_validation_tasks_are_told_apart(t5x):
    write_lines(t5x / "inference_eval/x_eval_validation-metrics.jsonl", [evaluation(10, 0.5)])
    write_lines(t5x / "inference_eval/x_eval_test-metrics.jsonl", [evaluation(10, 0.5)])
    lines = drawn(report.figure([report.read_run(t5x)]).axes[0])
    assert list(lines) == ["t5x explained_tiny_none_eval_validation", "t5x x_eval_validation"]


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
    assert report.spread(heights, gap=0.1) == pytest.approx(placed)


def test_the_breakdown_shows_the_test_split(medium):
    run = report.read_run(medium)
    fig = report.breakdown([run])
    names = [[label.get_text() for label in ax.get_xticklabels()] for ax in fig.axes]
    assert names == [["MAX", "SUM"], ["2", "10"], ["5-9", "20-24"]]
    dots = [[line.get_xydata()[0].tolist() for line in ax.get_lines()] for ax in fig.axes]
    assert dots == [[[0, 0.75], [1, 0.5]], [[0, 1.0], [1, 0.5]], [[0, 0.9], [1, 0.6]]]
    bars = [[bar.get_segments()[0][:, 1].tolist() for bar in ax.collections] for ax in fig.axes]
    assert bars[0] == [pytest.approx(metrics.wilson(30, 40)), pytest.approx(metrics.wilson(30, 60))]
    assert bars[2][1] == pytest.approx(metrics.wilson(54, 90))
    assert texts(fig) == [f"● medium: {TEST}, step 20, n = 100"]


def test_the_breakdown_sets_runs_apart_side_by_side(medium):
    run = report.read_run(medium)
    operators = report.breakdown([run, run]).axes[0].get_lines()
    xs = [line.get_xdata()[0] for line in operators]
    assert xs == pytest.approx([-0.08, 0.92, 0.08, 1.08])
    assert len({line.get_color() for line in operators}) == 2


def test_without_a_test_split_the_breakdown_shows_the_task_evaluated_last(t5x):
    write_lines(t5x / "inference_eval/a-metrics.jsonl", [evaluation(1500, 0.5)])
    run = report.read_run(t5x)
    task, step, scores = report.last_evaluation(run)
    assert (task, step, scores["exact_match"]) == ("explained_tiny_none_eval_validation", 2000, 0.375)


# ---- the command


def test_the_command_prints_the_table_and_writes_the_files(medium, t5x, tmp_path, capsys):
    output = tmp_path / "new" / "report"
    main.main(["report", str(medium), str(t5x), "--output", str(output)])
    printed = capsys.readouterr()
    assert (
        printed.out
        == (output / "table.md").read_text()
        == report.table([report.read_run(medium), report.read_run(t5x)])
    )
    names = ["table.md", "accuracy.png", "accuracy.svg", "breakdown.png"]
    assert printed.err.splitlines() == [str(output / name) for name in names]
    for name in ("accuracy.png", "breakdown.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG")
        height, width, _ = matplotlib.image.imread(output / name).shape
        assert 1200 < width < 2400 and 500 < height < 1200
    assert (output / "accuracy.svg").read_text().startswith("<?xml")


def test_a_run_alone_and_without_evaluations_can_be_reported(tmp_path):
    write_lines(tmp_path / "run/metrics.jsonl", [training_row(10, 640, 3.0)])
    report.write_report([tmp_path / "run"], tmp_path / "report")
    assert (tmp_path / "report/accuracy.png").is_file() and (tmp_path / "report/breakdown.png").is_file()


def test_folders_of_one_name_are_told_apart(tmp_path, capsys):
    for parent in ("a", "b"):
        write_lines(tmp_path / parent / "run/metrics.jsonl", [training_row(10, 640, 3.0)])
    report.write_report([tmp_path / "a/run", tmp_path / "b/run"], tmp_path / "report")
    assert [row[0] for row in cells(capsys.readouterr().out)[2:]] == [str(tmp_path / "a/run"), str(tmp_path / "b/run")]


def test_mistakes_write_nothing(medium, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main.main(["report", str(medium), str(tmp_path / "missing"), "--output", str(tmp_path / "report")])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"explainft: error: {tmp_path / 'missing'} holds no run; expected")
    assert not (tmp_path / "report").exists()


def test_an_output_that_cannot_be_written_is_refused(medium):
    with pytest.raises(UserError, match="choose a writable folder"):
        report.write_report([medium], medium / "metrics.jsonl")


def test_the_module_needs_neither_jax_nor_tensorflow_nor_pyplot():
    program = "import sys, explainft.report; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "explainft.report" in loaded
    assert not {"jax", "tensorflow", "seqio", "matplotlib.pyplot"} & set(loaded)
