"""A matrix, from checkpoints to files: resumed after SIGKILL, extended, and refused where others' files lie."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import pytest

from explainft.core.errors import UserError
from explainft.evaluation.infer import PRETRAINED
from explainft.transfer import run_transfer
from explainft.transfer.cells import DIRECTORY
from tests.helpers.datasets import environment
from tests.helpers.transfer_runs import EVALUATIONS

RESULTS = ("transfer.json", "transfer.md", "transfer.html", "matrix.png", "matrix.svg", "differences.svg")
TASKS = [task for named in EVALUATIONS.values() for task in named.values()]


def data_of(output):
    return json.loads((output / "transfer.json").read_text())


def files_of(output):
    """The bytes of all results and cells, by name."""
    cells = {file.name: file.read_bytes() for file in (output / DIRECTORY).iterdir()}
    return cells | {name: (output / name).read_bytes() for name in RESULTS}


def start_command(output, start_run, data_dir):
    """Starts the command in a process of its own."""
    words = ["transfer", str(PRETRAINED), "--baseline", str(start_run), "--evaluations", ",".join(TASKS)]
    words += ["--num_examples=8", "--batch_size=8", "--jobs=1", "--output", str(output), "--tfds_data_dir", data_dir]
    return subprocess.Popen([sys.executable, "-m", "explainft.cli.main", *words], env=environment())


def test_each_run_is_scored_on_each_evaluation(written):
    data = data_of(written)
    assert [run["label"] for run in data["runs"]] == ["shipped", "start"]
    assert [cell["task"] for cell in data["cells"]] == 2 * TASKS
    for cell in data["cells"]:
        assert cell["n"] == 8 and cell["low"] <= cell["value"] <= cell["high"]
        rows = [json.loads(line) for line in (written / cell["predictions"]).read_text().splitlines()]
        assert len(rows) == 8 and {"input", "target", "prediction"} <= rows[0].keys()
        if cell["metric"] == "exact_match":
            assert cell["metrics"]["exact_match"] == cell["value"]
    assert [cell["own"] for cell in data["cells"]][:4] == [True, False, False, False]


def test_shipped_model_keeps_to_its_trained_format(written):
    """It explains in medium where the answer alone is asked for: whole outputs, not cut at the length of an answer."""
    cells = {cell["task"]: cell for cell in data_of(written)["cells"] if cell["run"] == "shipped"}
    asked = cells["explained_tiny_none_eval_test_compact"]
    assert asked["trained_format"] > 0.8 and asked["asked_format"] < 0.2
    assert asked["max_length"] == cells["explained_tiny_medium_eval_test_compact"]["max_length"]
    assert cells["explained_tiny_medium_eval_test_compact"]["trained_format"] is None


def test_differences_are_those_of_the_cells(written):
    data = data_of(written)
    values = {(cell["run"], cell["task"]): cell["value"] for cell in data["cells"]}
    assert len(data["differences"]) == 4
    for found in data["differences"]:
        change = values["shipped", found["task"]] - values["start", found["task"]]
        assert found["value"] == pytest.approx(change) and found["paired"]
        assert found["low"] <= change <= found["high"]
    assert data["runs"][0]["distances"]["all"]["l2"] > 0


def test_killed_and_rerun_gives_the_same_bytes(written, transfer, settings, start_run, tmp_path):
    """SIGKILL after the first of the eight cells; the rerun computes those that are missing."""
    output = tmp_path / "transfer"
    process = start_command(output, start_run, settings.tfds_data_dir)
    deadline = time.monotonic() + 120
    while not list((output / DIRECTORY).glob("*.json") if output.exists() else ()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output / "transfer.json").exists()
    (output / DIRECTORY / "x.json.0123.incomplete").write_text("{")  # of a write that was killed
    run_transfer.run(transfer, settings, output, jobs=1)
    assert files_of(output) == files_of(written)


def test_complete_cells_are_not_computed_again(written, transfer, settings, capfd):
    before = {file: file.stat().st_mtime_ns for file in (written / DIRECTORY).iterdir()}
    results = files_of(written)
    run_transfer.run(transfer, settings, written, jobs=1)
    assert "0 of 8 cells to do" in capfd.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in (written / DIRECTORY).iterdir()} == before
    assert files_of(written) == results


@pytest.mark.parametrize("change", [{"num_examples": 4}, {"decode_dtype": "int8"}])
def test_other_settings_are_other_cells(written, transfer, settings, change, capfd):
    run_transfer.run(transfer, dataclasses.replace(settings, **change), written, dry_run=True)
    assert "8 of 8 cells to do" in capfd.readouterr().out


def test_corrupt_cell_is_named(written, transfer, settings):
    file = next((written / DIRECTORY).glob("explained_tiny_short*.json"))
    content = file.read_bytes()
    file.write_text("{")
    try:
        with pytest.raises(UserError, match="is corrupt; delete it and rerun"):
            run_transfer.run(transfer, settings, written, jobs=1)
    finally:
        file.write_bytes(content)


def test_output_of_other_runs_is_refused(written, transfer, settings, tmp_path):
    other = dataclasses.replace(transfer, runs={"another": str(PRETRAINED)})
    with pytest.raises(UserError, match="holds the matrix of other runs: shipped; choose another directory"):
        run_transfer.run(other, settings, written)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files, such as notes.txt"):
        run_transfer.run(transfer, settings, tmp_path)
