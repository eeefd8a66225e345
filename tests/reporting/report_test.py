import struct
import subprocess
import sys
from pathlib import Path

import pytest

from explainft.cli import main
from explainft.core.errors import UserError
from explainft.reporting import report
from explainft.reporting.runs import CONFIG_HASH_SUFFIX, LOG_SUFFIX, SCORED_SUFFIX, read_run
from tests.helpers.question_runs import write_questions
from tests.helpers.run_directories import (
    TEST,
    VALIDATION,
    prediction,
    training_row,
    write_lines,
)

# ---- the table


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]


def test_table_has_every_cell(medium, t5x):
    table = report.table([read_run(medium), read_run(t5x)])
    header, rule, *rows = cells(table)
    assert header == [
        "Run", "Task", "Step", "Exact match [95% interval]", "n", "Chance",
        "Parseable", "Cut", "Valid", "Step accuracy", "Examples", "Training seconds",
    ]  # fmt: skip
    assert [cell[-1] for cell in rule] == ["-", "-", *":" * 10]
    assert rows == [
        ["medium", TEST, "20", "62.5% [50.0, 68.8]", "100", "-", "100.0%", "-", "-", "-", "3,000", "60"],
        ["medium", VALIDATION, "30", "87.5% [75.0, 93.8]", "100", "-", "100.0%", "-", "81.2%", "90.6%", "5,000", "90"],
        ["t5x", "explained_tiny_none_eval_validation", "2,000", "37.5% [25.0, 43.8]", "100", "-", "100.0%", *"-----"],
    ]
    assert len({len(line) for line in table.splitlines()}) == 1  # the columns are aligned


def test_run_without_evaluations_has_a_row(tmp_path):
    write_lines(tmp_path / "metrics.jsonl", [training_row(1000, 64000, 12.6)])
    run = read_run(tmp_path)
    assert cells(report.table([run]))[2][1:] == ["-", "1,000", *"-------", "64,000", "13"]


def test_table_takes_other_metrics_and_names(tmp_path):
    run = tmp_path / "a|b"
    write_lines(run / "inference_eval/rouge-metrics.jsonl", [{"step": 7, "rouge1": 31.5}])
    write_lines(run / "inference_eval/squad-metrics.jsonl", [{"step": 7, "exact_match": 0.5}])
    rows = report.table([read_run(run)]).splitlines()[2:]
    assert [row.startswith("| a\\|b ") for row in rows] == [True, True]
    assert [row.replace(" ", "").split("|")[4:6] for row in rows] == [["7", "-"], ["7", "50.0%"]]


# ---- the command


def test_command_prints_the_table_and_writes_the_files(medium, t5x, tmp_path, capsys):
    write_lines(medium / f"inference_eval/{TEST}-000020.jsonl", [prediction("[MIN 4 7 ]", 4, "4")])
    output = tmp_path / "new" / "report"
    main.main(["report", str(medium), str(t5x), "--output", str(output)])
    printed = capsys.readouterr()
    assert printed.out == (output / "table.md").read_text() == report.table([read_run(medium), read_run(t5x)])
    pictures = [
        f"{name}.{end}" for name in ("accuracy", "breakdown", "heatmap", "first_errors") for end in ("png", "svg")
    ]
    assert printed.err.splitlines() == [str(output / name) for name in ("report.html", "table.md", *pictures)]
    for name in ("accuracy", "breakdown", "heatmap", "first_errors"):
        assert (output / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        width, height = struct.unpack(">II", (output / f"{name}.png").read_bytes()[16:24])
        assert 500 < width < 2400 and 200 < height < 1200
        assert (output / f"{name}.svg").read_text().startswith("<svg")
    assert (output / "report.html").read_text().startswith("<!doctype html>")


def test_run_without_evaluations_is_reported(tmp_path):
    write_lines(tmp_path / "run/metrics.jsonl", [training_row(10, 640, 3.0)])
    report.write_report([tmp_path / "run"], tmp_path / "report")
    for name in ("accuracy", "breakdown", "heatmap", "first_errors"):
        assert (tmp_path / f"report/{name}.png").is_file()


def test_directories_of_one_name_have_their_paths(tmp_path, capsys):
    for parent in ("a", "b"):
        write_lines(tmp_path / parent / "run/metrics.jsonl", [training_row(10, 640, 3.0)])
    report.write_report([tmp_path / "a/run", tmp_path / "b/run"], tmp_path / "report")
    assert [row[0] for row in cells(capsys.readouterr().out)[2:]] == [str(tmp_path / "a/run"), str(tmp_path / "b/run")]


def write_trial(sweep: Path, name: str, complete: bool) -> None:
    write_lines(sweep / name / "metrics.jsonl", [training_row(10, 640, 3.0)])
    for suffix in (CONFIG_HASH_SUFFIX, LOG_SUFFIX):
        (sweep / f"{name}{suffix}").write_text("")
    if complete:
        (sweep / f"{name}.explained_tiny_medium_eval_compact{SCORED_SUFFIX}").write_text("{}")


def test_directory_of_a_sweep_is_its_complete_trials(tmp_path, capsys):
    sweep = tmp_path / "runs/sizes"
    for name, complete in {"0-a": True, "0": False, "0.5": True, "1-a": True}.items():
        write_trial(sweep, name, complete)
    (sweep / "lock").write_text("")
    report.write_report([sweep], tmp_path / "report")
    assert [row[0] for row in cells(capsys.readouterr().out)[2:]] == ["0-a", "0.5", "1-a"]
    # As the shell fills in sizes/*: a run that is named is shown, complete or not.
    report.write_report(sorted(sweep.iterdir()), tmp_path / "report")
    assert [row[0] for row in cells(capsys.readouterr().out)[2:]] == ["0", "0-a", "0.5", "1-a"]
    with pytest.raises(UserError, match="only the files beside a sweep's runs were given"):
        report.write_report([sweep / "0.log"], tmp_path / "report")


def test_directory_of_runs_is_all_of_them(medium, t5x, tmp_path, capsys):
    report.write_report([tmp_path], tmp_path / "report")
    assert {row[0] for row in cells(capsys.readouterr().out)[2:]} == {"medium", "t5x"}


def test_sweep_without_a_complete_trial_is_refused(tmp_path):
    write_trial(tmp_path, "0", complete=False)
    with pytest.raises(UserError, match="no trial of .* is complete yet; give the directory of one of its 1 runs"):
        report.write_report([tmp_path], tmp_path / "report")


def test_error_writes_nothing(medium, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main.main(["report", str(medium), str(tmp_path / "missing"), "--output", str(tmp_path / "report")])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"explainft: error: {tmp_path / 'missing'} holds no run; expected")
    assert not (tmp_path / "report").exists()


def test_unwritable_output_is_refused(medium):
    with pytest.raises(UserError, match="choose a writable directory"):
        report.write_report([medium], medium / "metrics.jsonl")


def test_report_imports_neither_jax_nor_tensorflow():
    program = "import sys, explainft.reporting.report; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "explainft.reporting.report" in loaded
    assert not {"jax", "tensorflow", "seqio", "pandas", "IPython"} & set(loaded)


def test_table_has_chance_and_cut(tmp_path):
    table = cells(report.table([read_run(write_questions(tmp_path, name)) for name in ("homes", "sums")]))
    at = [table[0].index(name) for name in ("Chance", "Parseable", "Cut", "Valid")]
    assert [[row[i] for i in at] for row in table[2:]] == [
        ["40.0%", "60.0%", "20.0%", "-"],
        ["40.0%", "60.0%", "20.0%", "-"],
        ["-", "85.7%", "28.6%", "14.3%"],
        ["-", "85.7%", "28.6%", "14.3%"],
    ]
