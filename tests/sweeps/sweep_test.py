"""Grids of runs: what their trials are, and that each is done once, whatever comes between."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.evaluation.infer import PRETRAINED
from explainft.recipes import recipe
from explainft.reporting.runs import read_run
from explainft.sweeps import cost_model, runner, sweep
from explainft.sweeps import trial as trial_module
from tests.helpers.datasets import cache_tokens
from tests.helpers.questions import import_homes, train_vocabulary
from tests.helpers.sweeps import ROOT, TASK, TINY, grid, stand_in, write_sweep


@pytest.fixture
def in_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the processes that a sweep starts
    return tmp_path


# ---- what the trials are


def test_trials_are_all_combinations():
    axes = {"seed": {"0": {}, "1": {}}, "style": {"a": {}, "b": {}}}
    trials = grid(axes=axes).trials("name", Path("runs"))
    assert [trial.axis_values for trial in trials] == [
        {"seed": "0", "style": "a"}, {"seed": "0", "style": "b"},
        {"seed": "1", "style": "a"}, {"seed": "1", "style": "b"},
    ]  # fmt: skip
    assert [trial.run for trial in trials] == [Path("runs/name", n) for n in ("0-a", "0-b", "1-a", "1-b")]


def test_evaluations_use_the_module_of_the_tasks():
    axes = {"style": {"none": {"MIXTURE_OR_TASK_MODULE": "my_tasks"}}}
    [trial] = grid(axes=axes).trials("name", Path("runs"))
    assert trial.lines()[1].endswith("--mixture explained_tiny_none_eval_compact --module=my_tasks")


def test_braces_hold_axis_values():
    axes = {"style": {"none": {}}, "n": {"5": {"MIXTURE_OR_TASK_NAME": "tiny_{n}_{style}", "TRAIN_STEPS": 5}}}
    [trial] = grid(axes=axes, evaluations=("{style}_eval",)).trials("name", Path("runs"))
    assert trial.macros == {"MIXTURE_OR_TASK_NAME": "tiny_5_none", "TRAIN_STEPS": 5} and trial.mixtures == (
        "none_eval",
    )


def test_later_axis_overrides_earlier_ones():
    axes = {
        "first": {"x": {"TRAIN_STEPS": 5, "EMB_DIM": 32}},
        "style": {"none": {"TRAIN_STEPS": 7, "recipe": "other.gin"}},
    }
    [trial] = grid(axes=axes).trials("name", Path("runs"))
    assert trial.lines() == [
        "explainft train --gin_file=other.gin --gin.MODEL_DIR=runs/name/x-none --gin.TRAIN_STEPS=7 --gin.EMB_DIM=32",
        "explainft eval runs/name/x-none --mixture explained_tiny_none_eval_compact",
    ]


@pytest.mark.parametrize(
    "changed, line",
    [
        ({"axes": {}}, "at least one axis"),
        ({"axes": {"seed": {"0": 0}}}, "axis 'seed' must give each of its values a dictionary"),
        ({"axes": {"seed": {0: {}, "1": {}}}}, "axis 'seed', value=0 must be a non-empty string"),
        ({"axes": {"seed": {"a/b": {}}}}, "axis 'seed', value='a/b' names directories of runs"),
        ({"axes": {"seed": {"..": {}}}}, r"axis 'seed', value='\.\.' names directories of runs"),
        ({"axes": {"seed": {"-x": {}}}}, "axis 'seed', value='-x' names directories of runs"),
        ({"axes": {"seed": {"a.log": {}}}}, r"value='a\.log' names .* none of \.config_hash, \.log and \.scored"),
        ({"axes": {"seed": {"0": {"MODEL_DIR": "x"}}}}, "axis 'seed' sets MODEL_DIR, which the sweep chooses"),
        ({"axes": {"seed": {"0": {"config.TrainConfig.model_dir": "x"}}}}, "axis 'seed' sets config.TrainConfig"),
        ({"axes": {"a": {"x": {}, "x-y": {}}, "b": {"z": {}, "y-z": {}}}, "evaluations": ("e",)},
         "2 trials would be named 'x-y-z'"),
        ({"axes": {"seed": {"x" * 130: {}}, "style": {"y" * 130: {}}}, "evaluations": ("e",)},
         r"a file of 270 bytes, x{40}\.\.\., and names have at most 255; give the axes shorter values"),
        ({"evaluations": ()}, "name the mixture"),
        ({"evaluations": "an_eval"}, r"evaluations='an_eval' must be a list of names: \['an_eval'\]"),
        ({"data": "tiny"}, "data='tiny' must be a list"),
        ({"jobs": 0}, "jobs=0 must be "),
        ({"evaluations": ("a{",)}, r"'a{': Single '{' encountered .*; braces hold the name of an axis \(seed, style\)"),
        ({"evaluations": ("{sise}",)}, "'{sise}' names the axis 'sise'; axes: seed, style"),
        ({"recipe": None}, "has no recipe"),
    ],
)  # fmt: skip
def test_invalid_grid_is_refused_in_one_line(changed, line):
    with pytest.raises(UserError, match=line):
        grid(**changed).trials("name", Path("runs"))


def test_every_sweep_of_the_repository_reads_all_its_macros(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cost_model, "cost", lambda *_: (1, 1))  # traces each network
    # Students read a vocabulary and datasets that a pipeline makes.
    files = [file for file in sorted(Path("experiments").glob("*.gin")) if not file.stem.startswith("students_")]
    assert files
    for file in files:
        found = recipe.load([str(file)], []).build(sweep.Sweep)().trials(file.stem, Path("runs"))
        assert len({trial.name for trial in found}) == len(found)
        cost_model.make_trial_plans(found)  # raises for a macro that nothing reads


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no cores to deal out")
@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_cores_are_partitioned_over_the_jobs(jobs):
    cores = os.sched_getaffinity(0)
    core_sets = runner.partition_cores(jobs)
    dealt = [core_sets.get() for _ in range(jobs)]
    assert all(dealt) and set().union(*dealt) == cores
    if jobs <= len(cores):
        assert sum(map(len, dealt)) == len(cores)


# ---- running them


def test_trial_is_trained_and_scored_by_the_commands(in_directory, tiny_data_dir, capsys):
    cache_tokens(tiny_data_dir, TASK)
    # The evaluation of 4 examples while the run trains is followed by one of all 40.
    file = write_sweep(in_directory / "grid.gin", {"seed": {"0": {**TINY, "EVAL_MIXTURE": TASK}}})
    main(["sweep", file, "--tfds_data_dir", tiny_data_dir])
    printed = capsys.readouterr().out
    result = json.loads((in_directory / "results/grid/0.json").read_text())
    found = result["evaluations"][TASK]
    assert f"0: tiny_medium test {found['exact_match']:.1%}" in printed

    run = read_run(in_directory / "runs/grid/0")
    [metrics] = run.evaluations[TASK].values()
    assert found["n"] == metrics["n"] == 40 and found["exact_match"] == pytest.approx(metrics["exact_match"], rel=1e-4)
    assert found["decoded_tokens"] >= 1
    assert result["steps"] == 2 and result["examples"] == run.train[2]["examples"]
    assert result["curve"]["rows"] == [[2, result["examples"], *result["curve"]["rows"][0][2:]]]
    assert result["commands"][0].startswith("explainft train --gin_file=") and tiny_data_dir not in str(result)
    assert result["parameters"] > 0 and result["flops"] > 0 and result["peak_bytes"] > 2**27
    assert result["wall_seconds"] > result["seconds"] > 0 and result["made_with"] == trial_module.made_with()
    # Complete: the same command prints the results and starts nothing.
    main(["sweep", file, "--tfds_data_dir", tiny_data_dir])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("grid: 1 trials, 0 to do") and "tiny test" in printed[1]
    assert f"{found['exact_match']:.1%} [" in printed[3]


@pytest.fixture
def commands(in_directory, monkeypatch, registries):
    """The stand-in for train and eval; the network is traced in the tests of the cost model."""
    monkeypatch.setattr(runner, "EXPLAINFT", stand_in(PRETRAINED))
    monkeypatch.setattr(cost_model, "cost", lambda *_: (1, 1))
    return in_directory


def test_failing_trial_does_not_end_the_sweep(commands, capsys):
    file = write_sweep(commands / "grid.gin", {"seed": {"0": TINY, "failing": TINY}})
    main(["sweep", file, "--dry_run", "--gin.sweep.Sweep.jobs=1"])
    assert "2 to do, 1 at a time: " in capsys.readouterr().out
    main(["sweep", file, "--jobs=2", "--gin.sweep.Sweep.jobs=1", "--dry_run"])  # the flag overrides the macro
    printed = capsys.readouterr().out
    assert "grid: 2 trials, 2 to do, 2 at a time: " in printed and ", estimated from" in printed
    assert "--gin.EMB_DIM=32" in printed and not (commands / "runs").exists()

    with pytest.raises(SystemExit) as error:
        main(["sweep", file])
    assert error.value.code == 2
    captured = capsys.readouterr()
    assert "1 trials failed: failing; see runs/grid/<trial>.log" in captured.err
    assert "inputs=8 is too short" in (commands / "runs/grid/failing.log").read_text()
    assert "0: tiny_medium test 50.0% [25.0, 75.0]" in captured.out and "| seed" not in captured.out
    assert [file.name for file in (commands / "results/grid").iterdir()] == ["0.json"]


def test_trial_is_done_once(commands, capsys):
    def seconds_of_predictions() -> int:
        return (commands / f"runs/grid/0/inference_eval/{TASK}-000002.jsonl").stat().st_mtime_ns

    file, run, result = commands / "grid.gin", commands / "runs/grid/0", commands / "results/grid/0.json"
    main(["sweep", write_sweep(file, {"seed": {"0": TINY}})])
    first, scored = json.loads(result.read_text()), seconds_of_predictions()

    # The run of another config is not taken for this trial's.
    with pytest.raises(SystemExit):
        main(["sweep", write_sweep(file, {"seed": {"0": {**TINY, "LEARNING_RATE": 1e-4}}})])
    assert "0: runs/grid/0 holds a run of another config; delete it" in capsys.readouterr().out

    # Without its result a trial takes what the run's directory holds.
    result.unlink()
    main(["sweep", write_sweep(file, {"seed": {"0": TINY}})])
    assert "nothing to train" in (commands / "runs/grid/0.log").read_text()
    assert json.loads(result.read_text())["evaluations"] == first["evaluations"]

    # Another evaluation makes another result of the same training.
    other = "explained_tiny_medium_eval_longer_compact"
    trained = (run / "metrics.jsonl").read_bytes()
    main(["sweep", write_sweep(file, {"seed": {"0": TINY}}, (TASK, other))])
    assert json.loads(result.read_text())["evaluations"].keys() == {TASK, other}
    assert (run / "metrics.jsonl").read_bytes() == trained and seconds_of_predictions() == scored


@pytest.mark.parametrize("flags", [[], ["--dry_run"]])
def test_unknown_evaluation_is_refused_before_training(commands, capsys, flags):
    file = write_sweep(commands / "grid.gin", {"seed": {"0": TINY}}, ("explained_tiny_mediun_eval_test_compact",))
    with pytest.raises(SystemExit) as error:
        main(["sweep", file, *flags])
    assert error.value.code == 2 and "explained_tiny_medium_eval_test_compact" in capsys.readouterr().err
    assert not (commands / "runs").exists()


def test_stopped_sweep_resumes(commands, capsys):
    file = write_sweep(commands / "grid.gin", {"seed": {"slow": TINY}})
    metrics = commands / "runs/grid/slow/metrics.jsonl"

    def stop():
        deadline = time.monotonic() + 60
        while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", file])
    stopper.join()
    assert stopped.value.code == 128 + signal.SIGTERM
    assert "stopped; rerun the same command to resume" in capsys.readouterr().err
    assert not (commands / "results").exists() and list(read_run(metrics.parent).train) == [1]
    main(["sweep", file])
    assert json.loads((commands / "results/grid/slow.json").read_text())["steps"] == 2


def test_a_sweep_over_the_form_of_imported_questions(in_directory, registries, seqio_unchanged, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(in_directory / "data"))
    import_homes(in_directory, in_directory / "data")
    train_vocabulary(in_directory / "homes.model")
    macros = {
        "recipe": str(ROOT / "gin/questions_tiny.gin"),
        "DATASET": "homes",
        "VOCABULARY_FILE": str(in_directory / "homes.model"),
        "TASK_FEATURE_LENGTHS": {"inputs": 64, "targets": 80},
    }
    forms = {form: {**macros, "FORM": form} for form in ("answer", "explain_answer")}
    file = write_sweep(in_directory / "grid.gin", {"form": forms}, ("explained_homes_{form}_eval",))
    main(["sweep", file, "--dry_run"])
    printed = capsys.readouterr().out
    assert "grid: 2 trials" in printed and "--mixture explained_homes_explain_answer_eval" in printed
