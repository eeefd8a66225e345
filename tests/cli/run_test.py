"""Commands on a run: train, eval, infer, export, report."""

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from explainft.cli import train
from explainft.cli.main import main
from explainft.recipes import machine_memory
from tests.cli.conftest import RECIPE, SMALL
from tests.helpers.command import outcome

PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
NESTED = "[MAX 2 9 [MIN 4 7 ] 0 ]"


def test_eval_writes_scores(capfd, trained, tiny_data_dir):
    assert "TRAIN_STEPS = 2" in (trained / "config.gin").read_text()
    code, out, err = outcome(capfd, "eval", trained, "--num_examples=5", "--tfds_data_dir", tiny_data_dir)
    assert code == 0, err
    tasks = [
        f"explained_tiny_medium_eval_{split}_compact" for split in ("larger_numbers", "longer", "test", "validation")
    ]
    assert [line.split()[0] for line in out.splitlines()] == tasks
    assert json.loads((trained / "inference_eval" / f"{tasks[2]}-metrics.jsonl").read_text())["n"] == 5


def test_infer_reads_text_and_released_files(capfd, trained, tmp_path):
    expressions, answers = tmp_path / "in.txt", tmp_path / "out.jsonl"
    expressions.write_text(f"{NESTED}\n\n( ( ( [SUM 1 ) 2 ) ] )\n", encoding="utf-8-sig")
    assert outcome(capfd, "infer", trained, "--input", expressions, "--output", answers)[0] == 0
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["expression"] for line in lines] == [NESTED, "[SUM 1 2 ]"]
    assert set(lines[0]) - {"cut"} == {"expression", "answer", "explanation", "check"}

    released = tmp_path / "released.tsv"
    released.write_text('Source\tTarget\n( ( ( [SM 1 ) 2 ) ] )\t3\n[MED 1 4 ]\t"MED, 2\nFinal answer: 2"\n')
    assert outcome(capfd, "infer", trained, "--input", released, "--output", answers)[0] == 0
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["expression"] for line in lines] == ["[SUM 1 2 ]", "[MED 1 4 ]"]


def test_infer_accepts_the_best_step(capfd, trained):
    assert outcome(capfd, "infer", trained, NESTED, "--step=best")[0] == 0
    assert "must be a positive integer" in outcome(capfd, "infer", trained, NESTED, "--step=bets")[2]


def test_export_holds_no_path(capfd, trained, tmp_path):
    small = tmp_path / "small"
    assert outcome(capfd, "export", trained, small, "--dtype=bfloat16")[0] == 0
    assert outcome(capfd, "infer", small, NESTED)[0] == 0
    files = [path for path in small.rglob("*") if path.is_file()]
    assert not [path for path in files if str(tmp_path).encode() in path.read_bytes()]
    assert "exists; choose a new" in outcome(capfd, "export", trained, small)[2]


def test_report(capfd, trained, tmp_path):
    code, out, _ = outcome(capfd, "report", trained, "--output", tmp_path / "report")
    assert code == 0 and "medium" in out
    assert (tmp_path / "report" / "accuracy.png").stat().st_size > 5_000


def test_errors_about_a_run(capfd, trained, tmp_path, tiny_data_dir):
    def error(*words):
        code, out, err = outcome(capfd, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert "has no checkpoint of step 7; it has [2]" in error("infer", trained, NESTED, "--step=7")
    assert "30 in '[MIN 30 1 ]' is outside 0 to 9" in error("infer", trained, "[MIN 30 1 ]")
    assert "did you mean 'explained_tiny_medium_eval" in error(
        "eval", trained, "--mixture=explained_tiny_medum_eval_compact"
    )
    (tmp_path / "in.txt").write_text(f"{NESTED}\n[MAX 1 oops ]\n")
    assert "in.txt line 2: " in error("infer", trained, "--input", tmp_path / "in.txt")
    (tmp_path / "in.tsv").write_text("Source\tTarget\n[MAX 1 2 ]\t2\n[MAX 1 2 ]\n")
    assert "in.tsv, line 3: expected 2 columns" in error("infer", trained, "--input", tmp_path / "in.tsv")
    (tmp_path / "empty.txt").write_text("\n")
    assert "no questions" in error("infer", trained, "--input", tmp_path / "empty.txt")
    assert "cannot write" in error("infer", trained, NESTED, "--output=/nonexistent/out.jsonl")
    assert not list(tmp_path.glob("*.jsonl"))
    words = ["train", RECIPE, f"--gin.MODEL_DIR={trained}", *(f"--gin.{name}={value}" for name, value in SMALL.items())]
    words.append("--gin.MIXTURE_OR_TASK_NAME=explained_tiny_short_compact")
    assert "holds a run with task='explained_tiny_medium_compact', not 'explained_tiny_short_compact'" in error(
        *words, "--tfds_data_dir", tiny_data_dir
    )


def test_module_beside_the_recipe(tmp_path):
    """It is found, and a tasks.py beside it does not hide the package tasks."""
    (tmp_path / "my_tasks.py").write_text("import tasks\n\nassert tasks.__path__\nprint('registered')\n")
    (tmp_path / "tasks.py").write_text("import invoke\n")  # of another tool
    macros = {"MODEL_DIR": "run", "MIXTURE_OR_TASK_MODULE": "my_tasks", "MIXTURE_OR_TASK_NAME": "nothing"}
    words = [RECIPE, *(f"--gin.{name}={value}" for name, value in macros.items())]
    run = subprocess.run(
        ["explainft", "train", *words], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PATH": PATH}
    )
    assert run.returncode == 2 and run.stdout.endswith("registered\n")
    assert "'nothing'" in run.stderr.splitlines()[-1]


def test_complete_run_prints_two_lines(trained, tiny_data_dir, capfd):
    finished = [f"--gin.MODEL_DIR={trained}", *(f"--gin.{name}={value}" for name, value in SMALL.items())]
    main(["train", RECIPE, *finished, "--tfds_data_dir", tiny_data_dir])
    lines = ("medium: reading explained_tiny_medium_compact\n", f"{trained} is complete at step 2: nothing to train\n")
    assert capfd.readouterr() == lines


def test_train_exits_with_its_signal(monkeypatch):
    """So that `train && eval` does not evaluate half a run."""
    recipe = types.SimpleNamespace(
        bindings=lambda function: {"config": None}, build=lambda function: lambda **_: signal.SIGINT, config_text=str
    )
    monkeypatch.setattr(train, "load_recipe", lambda *_: recipe)
    monkeypatch.setattr(machine_memory, "check_training", lambda _: None)
    with pytest.raises(SystemExit) as caught:
        main(["train", RECIPE])
    assert caught.value.code == 130
