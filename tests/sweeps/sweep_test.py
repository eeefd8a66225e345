"""Grids of runs: what their trials are, and that they are done once, whatever comes between."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.recipes import recipe
from explainft.reporting.runs import read_run
from explainft.sweeps import cost_model, sweep
from explainft.sweeps import trial as trial_module
from tests.helpers.run_directories import evaluation, shipped, training_row, write_lines

ROOT = Path(__file__).parents[2]
TINY = {
    "TRAIN_STEPS": 2,
    "WARMUP_STEPS": 0,
    "EVALUATOR_NUM_EXAMPLES": 4,
    "EVAL_STEPS": 1,
    "EMB_DIM": 32,
    "NUM_LAYERS": 1,
    "LOG_PERIOD": 1,
}


def grid(**changed):
    settings = {
        "axes": {"seed": {"0": {"RANDOM_SEED": 0}}, "style": {"none": {"recipe": "gin/none_tiny.gin"}, "medium": {}}},
        "evaluations": ("explained_tiny_{style}_eval_compact",),
        "recipe": "gin/medium_tiny.gin",
    }
    return sweep.Sweep(**(settings | changed))


def write(path, axes, recipe=str(ROOT / "gin/medium_tiny.gin")):
    path.write_text(
        f"from __gin__ import dynamic_registration\nfrom explainft.sweeps import sweep\nsweep.Sweep.axes = {axes!r}\n"
        f"sweep.Sweep.recipe = {recipe!r}\n"
        "sweep.Sweep.evaluations = ('explained_tiny_medium_eval_test_compact',)\n"
    )
    return str(path)


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the processes that a sweep starts
    return tmp_path


# ---- what the trials are


def test_trials_are_all_combinations_the_last_axis_first():
    axes = {"seed": {"0": {}, "1": {}}, "style": {"a": {}, "b": {}}}
    trials = grid(axes=axes).trials("name", Path("runs"))
    assert [trial.axis_values for trial in trials] == [
        {"seed": "0", "style": "a"}, {"seed": "0", "style": "b"},
        {"seed": "1", "style": "a"}, {"seed": "1", "style": "b"},
    ]  # fmt: skip
    assert [trial.run for trial in trials] == [Path("runs/name", n) for n in ("0-a", "0-b", "1-a", "1-b")]


def test_a_module_of_tasks_is_that_of_the_evaluations_too():
    axes = {"style": {"none": {"MIXTURE_OR_TASK_MODULE": "my_tasks"}}}
    [trial] = grid(axes=axes).trials("name", Path("runs"))
    assert trial.lines()[1].endswith("--mixture explained_tiny_none_eval_compact --module=my_tasks")


def test_texts_are_filled_in_with_the_trial_s_own_values():
    axes = {"style": {"none": {}}, "n": {"5": {"MIXTURE_OR_TASK_NAME": "tiny_{n}_{style}", "TRAIN_STEPS": 5}}}
    [trial] = grid(axes=axes, evaluations=("{style}_eval",)).trials("name", Path("runs"))
    assert trial.macros == {"MIXTURE_OR_TASK_NAME": "tiny_5_none", "TRAIN_STEPS": 5} and trial.mixtures == (
        "none_eval",
    )


def test_a_later_axis_has_the_last_word_and_the_command_says_all():
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
        ({"axes": {"seed": {"a/b": {}}}}, "axis 'seed', value='a/b' names files"),
        ({"axes": {"a": {"x": {}, "x-y": {}}, "b": {"z": {}, "y-z": {}}}, "evaluations": ("e",)},
         "2 trials would be named 'x-y-z'"),
        ({"evaluations": ()}, "name the mixture"),
        ({"evaluations": "an_eval"}, r"evaluations='an_eval' must be a list of names: \['an_eval'\]"),
        ({"data": "tiny"}, "data='tiny' must be a list"),
        ({"jobs": 0}, "jobs=0 must be "),
        ({"evaluations": ("a{",)}, r"'a{': Single '{' encountered .*; braces hold the name of an axis \(seed, style\)"),
        ({"evaluations": ("{sise}",)}, "'{sise}' names the axis 'sise'; axes: seed, style"),
        ({"recipe": None}, "has no recipe"),
    ],
)  # fmt: skip
def test_a_grid_that_cannot_be_is_refused_in_one_line(changed, line):
    with pytest.raises(UserError, match=line):
        grid(**changed).trials("name", Path("runs"))


def test_every_sweep_of_the_repository_reads_all_its_macros(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cost_model, "cost", lambda *_: (1, 1))  # traces each network
    files = sorted(Path("experiments").glob("*.gin"))
    assert files
    for file in files:
        found = recipe.load([str(file)], []).build(sweep.Sweep)().trials(file.stem, Path("runs"))
        assert len({trial.name for trial in found}) == len(found)
        cost_model.make_trial_plans(found)  # raises for a macro that nothing reads


# ---- how long they take


def test_twice_the_updates_cost_twice_and_a_seed_nothing(monkeypatch):
    monkeypatch.chdir(ROOT)
    steps = {"short": 10, "twice": 20, "seed": 10}
    axes = {"n": {name: {"TRAIN_STEPS": n, "WARMUP_STEPS": 0} for name, n in steps.items()}}
    axes["n"]["seed"]["RANDOM_SEED"] = 7
    trials = grid(axes=axes, evaluations=("x",)).trials("name", Path("runs"))
    found = cost_model.make_trial_plans(trials)
    assert found["twice"].flops == 2 * found["short"].flops > 0 and found["twice"].steps == 20
    assert found["seed"].flops == found["short"].flops and found["short"].parameters == 240_512
    assert len({plan.result_hash for plan in found.values()}) == 3


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


def test_time_is_told_from_what_is_done_on_this_machine_and_else_from_the_peak():
    trials = [trial_module.TrialPlan("", "", "", 1, 1, flops) for flops in (4 * 10**9, 2 * 10**9)]
    done = {"flops": 10**9, "parameters": 1, "seconds": 1.0, "wall_seconds": 2.0, "made_with": trial_module.made_with()}
    assert cost_model.seconds_of(trials, [done]) == pytest.approx(12)
    peak = 1e9 * cost_model.available_cores() / cost_model.SHARE_OF_PEAK
    assert cost_model.seconds_of(trials, [], peak=lambda _: peak) == pytest.approx(6)
    assert cost_model.describe_cost(trials, [done], 2).endswith("about 6 s")
    elsewhere = {**done, "made_with": {"cpu": "another"}}
    assert cost_model.describe_cost(trials, [elsewhere], 2).endswith(", a guess from the speed of this CPU")
    assert (
        cost_model.describe_cost([], [done], 2) == "0 to do: their results are there, and --results=FOLDER makes others"
    )


def test_trials_that_differ_in_the_seed_tell_the_time_and_else_those_of_the_same_size():
    def result(parameters, flops, seconds):
        return {"parameters": parameters, "flops": flops, "seconds": seconds}

    done = [result(1, 100, 10.0), result(1, 300, 60.0), result(2, 100, 1.0), result(2, 100, 3.0)]
    assert cost_model.seconds_of([trial_module.TrialPlan("", "", "", 1, 1, 100)], done) == pytest.approx(10)
    assert cost_model.seconds_of([trial_module.TrialPlan("", "", "", 1, 2, 100)], done) == pytest.approx(2)
    assert cost_model.seconds_of([trial_module.TrialPlan("", "", "", 1, 1, 200)], done) == pytest.approx(200 * 70 / 400)
    assert cost_model.seconds_of([trial_module.TrialPlan("", "", "", 1, 3, 600)], done) == pytest.approx(74)


def test_pretraining_steps_cost_nothing(monkeypatch):
    monkeypatch.chdir(ROOT)
    recipes = {"style": {"none": {"recipe": "gin/none_small.gin"}}}
    public, local = (
        {"n": {"x": {"BATCH_SIZE": 8, "TRAIN_STEPS": 1_000_010, "INITIAL_CHECKPOINT_PATH": path}}}
        for path in ("gs://bucket/checkpoint_1000000", "a_folder")
    )
    [plan] = cost_model.make_trial_plans(grid(axes=recipes | public).trials("s", Path("runs"))).values()
    assert plan.steps == 1_000_010 and plan.flops % 10 == 0 and plan.flops < 10 * 2e12
    with pytest.raises(UserError, match="trial none-x starts at a step that only .* give INITIAL_STEP"):
        cost_model.make_trial_plans(grid(axes=recipes | local).trials("s", Path("runs")))


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_a_result_names_the_checkout_that_made_it(tmp_path, monkeypatch):
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


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no cores to deal out")
@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_each_job_has_cores_and_together_they_have_all(jobs):
    cores = os.sched_getaffinity(0)
    core_sets = sweep.partition_cores(jobs)
    dealt = [core_sets.get() for _ in range(jobs)]
    assert all(dealt) and set().union(*dealt) == cores
    if jobs <= len(cores):
        assert sum(map(len, dealt)) == len(cores)


# ---- running them


def test_a_sweep_ends_with_a_file_for_each_trial_and_does_nothing_twice(in_folder, tiny_data_dir, capsys):
    # What is evaluated of 4 examples while the run trains is scored on all 40.
    evaluated = {**TINY, "EVAL_MIXTURE": "explained_tiny_medium_eval_test_compact"}
    file = write(
        in_folder / "grid.gin",
        {"seed": {"0": evaluated, "bad": {**evaluated, "TASK_FEATURE_LENGTHS": {"inputs": 8, "targets": 8}}}},
    )
    command = ["sweep", file, "--tfds_data_dir", tiny_data_dir, "--jobs=2"]
    main(["sweep", file, "--dry_run", "--gin.sweep.Sweep.jobs=1"])
    assert "2 to do, 1 at a time: " in capsys.readouterr().out
    main([*command, "--gin.sweep.Sweep.jobs=1", "--dry_run"])  # the command has the last word
    out = capsys.readouterr().out
    assert (
        "grid: 2 trials, 2 to do, 2 at a time: " in out and ", a guess from" in out and "TASK_FEATURE_LENGTHS={" in out
    )
    assert not (in_folder / "runs").exists()

    with pytest.raises(SystemExit) as error:
        main(command)
    assert error.value.code == 2
    captured = capsys.readouterr()
    assert "1 trials failed: bad" in captured.err
    assert "TASK_FEATURE_LENGTHS inputs=8 is too short" in (in_folder / "runs/grid/bad.log").read_text()
    result = json.loads((in_folder / "results/grid/0.json").read_text())
    share = result["evaluations"]["explained_tiny_medium_eval_test_compact"]["exact_match"]
    assert f"0: tiny_medium test {share:.1%}" in captured.out
    assert not (in_folder / "results/grid/bad.json").exists()

    run = read_run(in_folder / "runs/grid/0")
    [metrics] = run.evaluations["explained_tiny_medium_eval_test_compact"].values()
    found = result["evaluations"]["explained_tiny_medium_eval_test_compact"]
    assert found["n"] == metrics["n"] == 40 and found["exact_match"] == pytest.approx(metrics["exact_match"], rel=1e-4)
    assert found["decoded_tokens"] >= 1
    assert result["steps"] == 2 and result["examples"] == run.train[2]["examples"]
    assert result["curve"]["rows"] == [[2, result["examples"], *result["curve"]["rows"][0][2:]]]
    assert result["commands"][0].startswith("explainft train --gin_file=") and tiny_data_dir not in str(result)
    assert result["parameters"] > 0 and result["flops"] > 0 and result["peak_bytes"] > 2**27
    assert result["wall_seconds"] > result["seconds"] > 0 and result["made_with"] == trial_module.made_with()

    # The outcome of another config is not taken for this trial's.
    write(in_folder / "grid.gin", {"seed": {"0": {**evaluated, "LEARNING_RATE": 1e-4}}})
    with pytest.raises(SystemExit):
        main(command)
    captured = capsys.readouterr()
    assert "0: runs/grid/0 holds a run of another config; delete it" in captured.out

    # Its file is what counts: with it nothing is done, without it what the run's folder holds is used.
    (in_folder / "results/grid/0.json").rename(in_folder / "kept.json")
    write(in_folder / "grid.gin", {"seed": {"0": evaluated}})
    main(command)
    again = json.loads((in_folder / "results/grid/0.json").read_text())
    assert "nothing to train" in (in_folder / "runs/grid/0.log").read_text()
    assert again["evaluations"] == result["evaluations"]
    capsys.readouterr()
    main(command)
    assert "1 trials, 0 to do" in capsys.readouterr().out

    # Another evaluation is another result of the same training; a name that nobody knows is told before hours of it.
    tasks = ["explained_tiny_medium_eval_test_compact", "explained_tiny_medium_eval_longer_compact"]
    trained = (in_folder / "runs/grid/0/metrics.jsonl").read_bytes()
    scored = (in_folder / f"runs/grid/0/inference_eval/{tasks[0]}-000002.jsonl").stat().st_mtime_ns
    main([*command, f"--gin.sweep.Sweep.evaluations={tasks!r}"])
    more = json.loads((in_folder / "results/grid/0.json").read_text())["evaluations"]
    assert more.keys() == again["evaluations"].keys() | {*tasks} and tasks[1] not in again["evaluations"]
    assert (in_folder / "runs/grid/0/metrics.jsonl").read_bytes() == trained
    assert (in_folder / f"runs/grid/0/inference_eval/{tasks[0]}-000002.jsonl").stat().st_mtime_ns == scored
    with pytest.raises(SystemExit):
        main([*command, "--gin.sweep.Sweep.evaluations=['explained_tiny_mediun_eval_test_compact']"])
    assert "did you mean 'explained_tiny_medium_eval_test_compact'" in capsys.readouterr().err


def test_a_sweep_takes_its_own_evaluation_alone(in_folder, registries):
    """Not one that somebody made by hand, of other examples or with other kernels."""
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


def test_config_hash_survives_a_full_disk(in_folder, monkeypatch):
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


def test_one_run_at_a_time_where_there_is_an_accelerator(tmp_path, monkeypatch):
    (tmp_path / "nvidia0").write_text("")
    monkeypatch.setattr(cost_model, "ACCELERATORS", (str(tmp_path / "nvidia[0-9]*"),))
    monkeypatch.setattr(cost_model, "available_cores", lambda: 8)
    assert cost_model.max_parallel_jobs([{"peak_bytes": 1}]) == 8  # JAX_PLATFORMS=cpu, as in all tests
    monkeypatch.delenv("JAX_PLATFORMS")
    assert cost_model.max_parallel_jobs([{"peak_bytes": 1}]) == 1
    (tmp_path / "nvidia0").unlink()
    assert cost_model.max_parallel_jobs([{"peak_bytes": 1}]) == 8


def test_a_result_holds_every_task_s_metrics_and_the_curve_of_a_mixture(tmp_path, monkeypatch):
    """Also of tasks of somebody else, whose texts and metrics are not known here."""
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
    assert "theirs test scored" in trial_module.summary(result)


def test_a_sweep_that_is_stopped_saves_and_goes_on(in_folder, tiny_data_dir):
    file = write(in_folder / "grid.gin", {"seed": {"0": {**TINY, "TRAIN_STEPS": 200, "LOG_PERIOD": 5}}})
    command = [*sweep.EXPLAINFT, "sweep", file, "--tfds_data_dir", tiny_data_dir]
    metrics = in_folder / "runs/grid/0/metrics.jsonl"
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not metrics.exists() or not metrics.read_text():
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 128 + signal.SIGTERM and "stopped; the same command goes on" in err
    assert not (in_folder / "results").exists()
    assert 0 < max(read_run(in_folder / "runs/grid/0").train) < 200

    again = subprocess.run(
        [*command, f"--gin.sweep.Sweep.recipe={ROOT / 'gin/medium_tiny.gin'}"], capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    result = json.loads((in_folder / "results/grid/0.json").read_text())
    assert result["steps"] == 200
    assert "goes on from it" in (in_folder / "runs/grid/0.log").read_text()


def test_a_trial_whose_run_was_cut_off_has_no_result(in_folder):
    run = in_folder / "runs/grid/0"
    (run / "inference_eval").mkdir(parents=True)
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, "examples": 3, "seconds": 1.0}) + "\n")
    trial = trial_module.Trial("grid", {"seed": "0"}, "gin/medium_tiny.gin", {}, (), run)
    with pytest.raises(UserError, match="stopped at step 1 of 4,000"):
        trial_module.result_of(trial, trial_module.TrialPlan("", "", "", 4000, 1, 1))


def test_a_damaged_result_is_named(in_folder):
    trial = trial_module.Trial("grid", {"seed": "0"}, "gin/medium_tiny.gin", {}, (), Path("runs/grid/0"))
    (in_folder / "results/grid").mkdir(parents=True)
    (in_folder / "results/grid/0.json").write_text("{")
    with pytest.raises(UserError, match=r"0.json is damaged .*; delete it"):
        trial_module.read_result(Path("results"), trial, trial_module.TrialPlan("", "", "", 1, 1, 1))
