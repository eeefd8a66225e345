"""Trials: hashes, the state beside a run's directory, and the result that a run gives."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.reporting.runs import SCORED_SUFFIX
from explainft.sweeps import cost_model, results
from explainft.sweeps import trial as trial_module
from tests.helpers.run_directories import evaluation, shipped, training_row, write_lines
from tests.helpers.sweeps import ROOT, grid


def test_hashes_depend_on_the_config_not_on_the_directory(monkeypatch):
    monkeypatch.chdir(ROOT)
    [here], [there] = (grid(axes={"n": {"x": {}}}, evaluations=("e",)).trials("s", Path(p)) for p in ("runs", "/other"))
    [scored] = grid(axes={"n": {"x": {}}}, evaluations=("other",)).trials("s", Path("runs"))
    [longer] = grid(axes={"n": {"x": {"TRAIN_STEPS": 999}}}, evaluations=("e",)).trials("s", Path("runs"))
    plans = [cost_model.make_trial_plans([trial])["x"] for trial in (here, there, scored, longer)]
    result_hashes = [plan.result_hash for plan in plans]
    assert result_hashes[0] == result_hashes[1] and len(set(result_hashes)) == 3
    config_hashes = [plan.config_hash for plan in plans]
    assert config_hashes[0] == config_hashes[1] == config_hashes[2] != config_hashes[3]


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_result_names_its_commit(tmp_path, monkeypatch):
    def git(*command):
        settings = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(["git", *settings, *command], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(trial_module, "__file__", str(package / "sweeps" / "trial.py"))
    git("init", "-q")
    assert trial_module.made_with()["commit"] is None  # an installed copy, inside a checkout that is not its own
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert trial_module.made_with()["commit"] == git("rev-parse", "--short=12", "HEAD")
    (package / "__init__.py").write_text("changed")
    assert trial_module.made_with()["commit"] == git("rev-parse", "--short=12", "HEAD") + "+"


@pytest.fixture
def in_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_only_the_sweep_s_own_evaluation_counts(in_directory, registries):
    """Not an evaluation by hand, of other examples or with other kernels."""
    task = "explained_tiny_medium_eval_test_compact"
    [trial] = grid(axes={"n": {"x": {}}}, evaluations=(task,)).trials("s", Path("runs"))
    folder = trial.run / "inference_eval"
    folder.mkdir(parents=True)
    (trial.run / "metrics.jsonl").write_text("")
    (folder / f"{task}-000002.jsonl").write_text("")
    metrics = folder / f"{task}-metrics.jsonl"
    metrics.write_text(json.dumps({"step": 2, "exact_match": 0.5, "n": 4}) + "\n")
    assert not trial.is_scored(task, 2)  # the run's own, while it trained
    trial.note_scored(task, 2)
    assert trial.is_scored(task, 2) and not trial.is_scored(task, 3)
    metrics.write_text(json.dumps({"step": 2, "exact_match": 0.25, "n": 4}) + "\n")
    assert not trial.is_scored(task, 2)
    trial.note_scored(task, 2)
    (folder / f"{task}-000002.jsonl").unlink()
    assert not trial.is_scored(task, 2)


def test_config_hash_survives_a_full_disk(in_directory, monkeypatch):
    [trial] = grid(axes={"n": {"x": {}}}, evaluations=("e",)).trials("s", Path("runs"))
    trial.check_config_hash("a hash")

    def full(path, text):
        path.write_bytes(b"")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        trial.check_config_hash("a hash")
        with pytest.raises(UserError, match="No space left on device.*free space"):
            trial.check_config_hash("another hash")
    trial.run.mkdir()
    trial.check_config_hash("a hash")
    with pytest.raises(UserError, match="holds a run of another config"):
        trial.check_config_hash("another hash")


def test_result_has_every_task_and_the_curve_of_a_mixture(tmp_path, monkeypatch):
    """Also of a user's tasks, whose outputs and metrics are not known here."""
    ours, theirs = "explained_tiny_medium_eval_test_compact", "theirs_eval_test"
    run = shipped(tmp_path / "runs/grid/0")
    write_lines(run / "metrics.jsonl", [training_row(2000, 300, 1.0), training_row(4000, 600, 3.0)])
    write_lines(run / f"inference_eval/{ours}-metrics.jsonl", [evaluation(2000, 0.25), evaluation(4000, 0.5)])
    target = {"expression": "[MAX 2 9 ]", "answer": 9, "style": "medium", "modulus": 10}
    predictions = [{"input": {}, "target": target, "prediction": "Final answer: 9"}]
    write_lines(run / f"inference_eval/{ours}-004000.jsonl", predictions)
    write_lines(run / f"inference_eval/{theirs}-metrics.jsonl", [{"step": 4000, "accuracy": 0.75}])
    write_lines(run / "inference_eval/other-metrics.jsonl", [evaluation(2000, 0.75), {**evaluation(4000, 1), "n": 50}])
    trial = trial_module.Trial("grid", {}, "gin/medium_tiny.gin", {}, (), run)
    mixtures = {"both": [ours, "other"], "one": [ours], "theirs": [theirs]}
    monkeypatch.setattr(token_cache, "task_names", lambda mixture, module: mixtures[mixture])

    def curve(mixture):
        return trial_module.result_of(trial, trial_module.TrialPlan("", "", mixture, 4000, 1, 1))["curve"]["rows"]

    assert curve("one") == [[2000, 300, 0.25, 100], [4000, 600, 0.5, 100]]
    assert curve("both") == [[2000, 300, 0.5, 200], [4000, 600, 0.75, 150]]
    assert curve("theirs") == [[4000, 600, None, None]]
    result = trial_module.result_of(trial, trial_module.TrialPlan("", "", "both", 4000, 1, 1))
    assert result["evaluations"][theirs] == {"accuracy": 0.75}
    assert result["evaluations"][ours]["exact_match"] == 0.5 and result["evaluations"][ours]["decoded_tokens"] == 3
    assert "theirs test scored" in results.summary(result)


def test_interrupted_run_has_no_result(in_directory):
    run = in_directory / "runs/grid/0"
    (run / "inference_eval").mkdir(parents=True)
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, "examples": 3, "seconds": 1.0}) + "\n")
    trial = trial_module.Trial("grid", {"seed": "0"}, "gin/medium_tiny.gin", {}, (), run)
    with pytest.raises(UserError, match="stopped at step 1 of 4,000"):
        trial_module.result_of(trial, trial_module.TrialPlan("", "", "", 4000, 1, 1))


@pytest.mark.parametrize("text", ["", "{", "[" * 10_000])
def test_corrupt_note_of_scores_means_not_scored(tmp_path, text):
    [trial] = grid(axes={"style": {"medium": {}}}).trials("name", tmp_path)
    trial.run.mkdir(parents=True)
    trial.run.with_name(f"{trial.name}.{trial.mixtures[0]}{SCORED_SUFFIX}").write_text(text)
    assert not trial.is_scored(trial.mixtures[0], 1)
