"""Pipelines: what their stages are, and that each is done once, whatever comes between."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from explainft.cli.main import main, parse
from explainft.core.errors import UserError
from explainft.evaluation.infer import PRETRAINED
from explainft.recipes import recipe
from explainft.sweeps import cost_model, runner
from explainft.sweeps.pipeline import Pipeline
from explainft.sweeps.stages import COMPLETE, STALE, StageRecords
from tests.helpers.datasets import cache_tokens
from tests.helpers.pipelines import FIRST, RECIPE, SECOND, TEST, stages_of, write_pipeline
from tests.helpers.sweeps import ROOT, TASK, stand_in

INFER = "infer {generator} '[MAX 1 2 ]' --output answers.json"
SHIPPED = {**FIRST, "TRAIN_STEPS": 4000}  # of the step of the checkpoint that the stand-in copies
CHECK = "infer {generator} --input {answers} --output checked.json"


@pytest.fixture
def in_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the processes that a pipeline starts
    return tmp_path


# ---- what the stages are


def test_braces_hold_axis_values_what_they_set_and_outputs():
    axes = {"style": {"short": {"steps": 700, "lengths": {"inputs": 34, "targets": 64}}}}
    stages = {
        "generator": {**RECIPE, "TRAIN_STEPS": "{steps}", "TASK_FEATURE_LENGTHS": "{lengths}"},
        "answers": "infer {generator} '[MAX 1 2 ]' --output {style}.jsonl --batch_size={steps}",
        "more": "infer {generator} --input {answers} --output=more",
    }
    found = stages_of(stages, axes)
    assert (
        found["generator"]
        .line(found)
        .endswith(
            "--gin.MODEL_DIR=runs/name/short/generator --gin.TRAIN_STEPS=700 "
            """'--gin.TASK_FEATURE_LENGTHS={'"'"'inputs'"'"': 34, '"'"'targets'"'"': 64}'"""
        )
    )
    assert found["answers"].line(found) == (
        "explainft infer runs/name/short/generator '[MAX 1 2 ]' --output runs/name/short/short.jsonl --batch_size=700"
    )
    assert found["more"].line(found) == (
        "explainft infer runs/name/short/generator --input runs/name/short/short.jsonl --output=runs/name/short/more"
    )


def test_run_from_another_stage_counts_its_own_steps():
    best = {**SECOND, "INITIAL_CHECKPOINT_PATH": "{generator}/checkpoints/best"}
    found = stages_of({"generator": {**FIRST, "KEEP_BEST": True}, "second": best})
    assert found["second"].command(found)[-2:] == [
        "--gin.INITIAL_CHECKPOINT_PATH=runs/name/0/generator/checkpoints/best", "--gin.INITIAL_STEP=0",
    ]  # fmt: skip
    found = stages_of({"generator": FIRST, "second": {**SECOND, "INITIAL_STEP": 2, "TRAIN_STEPS": 3}})
    assert found["second"].command(found)[-1] == "--gin.INITIAL_STEP=2" and found["second"].steps == 1


def test_control_has_the_flops_of_other_stages():
    half = {**FIRST, "BATCH_SIZE": 16}
    del half["TRAIN_STEPS"]
    stages = {"generator": {**FIRST, "TRAIN_STEPS": 30}, "second": {**SECOND, "TRAIN_STEPS": 20}}
    found = stages_of({**stages, "control": {**half, "flops_of": ("generator", "second")}})
    work = found["generator"].flops + found["second"].flops
    assert work == 50 * found["generator"].flops // 30
    assert abs(found["control"].flops - work) <= found["control"].flops / found["control"].steps / 2
    assert found["control"].steps in range(95, 106)  # half the rows cost about half
    assert f"--gin.TRAIN_STEPS={found['control'].steps}" in found["control"].command(found)


def test_hash_depends_on_settings_and_on_what_is_read_not_on_the_directory():
    def hashes(generator: dict, runs="runs"):
        found = stages_of({"generator": generator, "other": FIRST, "test": TEST, "second": SECOND}, runs=runs)
        return StageRecords(list(found.values())).hashes

    here = hashes(FIRST)
    assert here == hashes(FIRST, "/elsewhere")
    changed = hashes({**FIRST, "LEARNING_RATE": 1e-4})
    assert {name for name in here if here[name] != changed[name]} == {"generator", "test", "second"}


@pytest.mark.parametrize(
    "stages, line",
    [
        ({}, "stages={} is empty"),
        ({"a b": TEST}, "stage 'a b' must be a name"),
        ({"seed": FIRST}, "stage 'seed' has the name of an axis"),
        ({"test": TEST}, r"stage test: '{generator}' names 'generator'; names of axes and of earlier stages: seed"),
        ({"generator": FIRST, "test": "eval {generator"}, "'{generator': expected '}' before end of string"),
        ({"generator": FIRST, "test": "eval {generator}"}, "stage test: give --mixture"),
        ({"generator": FIRST, "test": "eval --mixture x {generator}"}, "stage test: give the run first"),
        ({"generator": "train --gin_file=x"}, "stage generator: 'train' is not a command of a stage; a stage that"),
        ({"generator": "infer 'x"}, "stage generator: .*No closing quotation"),
        ({"generator": 3}, "stage generator: 3 must be a command line of explainft, or a dictionary"),
        ({"generator": {"TRAIN_STEPS": 2}}, "stage generator: it has no recipe"),
        ({"generator": {**FIRST, "MODEL_DIR": "x"}}, "stage generator: it sets MODEL_DIR, which the pipeline chooses"),
        ({"generator": {**FIRST, "TRAIN_STEP": 2}}, "nothing reads the macro TRAIN_STEP; did you mean"),
        ({"generator": FIRST, "second": {**SECOND, "flops_of": "generator"}}, "both TRAIN_STEPS and flops_of"),
        ({"control": {**RECIPE, "flops_of": "generator"}}, "flops_of names 'generator'; stages that train before it"),
        ({"generator": FIRST, "test": TEST, "second": {**SECOND, "EVAL_MIXTURE": "{test}"}},
         "stage second: it reads {test}, which writes nothing; give that stage --output or --name"),
        ({"generator": FIRST, "test": f"{TEST} --step best"}, "the best checkpoint of generator; .* 'KEEP_BEST': True"),
        ({"generator": FIRST, "second": {**FIRST, "INITIAL_CHECKPOINT_PATH": "{generator}/checkpoints/best"}},
         "stage second: it reads the best checkpoint of generator"),
    ],
)  # fmt: skip
def test_invalid_pipeline_is_refused_in_one_line(stages, line):
    with pytest.raises(UserError, match=line):
        stages_of(stages)


def test_every_pipeline_of_the_repository_reads_all_its_macros_and_flags(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cost_model, "cost", lambda *_: (1, 1))  # traces each network
    files = sorted(Path("experiments/pipelines").glob("*.gin"))
    assert files
    for file in files:
        trials = recipe.load([str(file)], [], command="pipeline").build(Pipeline)().trials(file.stem, Path("runs"))
        for trial in (trial for trial in trials if trial.axis_values["seed"] == "0"):
            stages = {stage.name: stage for stage in trial.make_stages()}
            for stage in stages.values():
                parse(stage.command(stages))


# ---- running them


@pytest.fixture
def commands(in_directory, monkeypatch, registries):
    """The stand-in for all commands; the network is traced in the tests of the cost model."""
    monkeypatch.setattr(runner, "EXPLAINFT", stand_in(PRETRAINED))
    monkeypatch.setattr(cost_model, "cost", lambda *_: (1, 1))
    return in_directory


def states(directory: Path, stages: dict) -> dict[str, str | None]:
    records = StageRecords(list(stages_of(stages).values()))
    return {name: records.state(stage) for name, stage in records.stages.items()}


def test_second_run_starts_from_the_best_checkpoint_and_is_scored(in_directory, tiny_data_dir, capsys):
    cache_tokens(tiny_data_dir, TASK)
    # The rate is zero: the first evaluation, at step 2, is the best, and training stops after another.
    peak = {"TRAIN_STEPS": 9, "EVAL_PERIOD": 2, "EARLY_STOPPING_PATIENCE": 1, "LEARNING_RATE": 0.0, "KEEP_BEST": True}
    stages = {
        "generator": {**FIRST, **peak, "EVAL_MIXTURE": TASK, "KEEP_CHECKPOINTS": 1},
        "second": {**SECOND, "INITIAL_CHECKPOINT_PATH": "{generator}/checkpoints/best", "EVAL_MIXTURE": TASK},
        "test": f"eval {{second}} --mixture {TASK}",
    }
    file = write_pipeline(in_directory / "grid.gin", stages)
    main(["pipeline", file, "--tfds_data_dir", tiny_data_dir])
    printed = capsys.readouterr().out
    result = json.loads((in_directory / "results/pipelines/grid/0.json").read_text())["stages"]
    assert result["generator"]["report"]["steps"] == 4 and result["generator"]["report"]["best_step"] == 2
    log = (in_directory / "runs/grid/0/second.log").read_text()
    assert "starting at step 0 from run " in log and "/generator, step 2: " in log and "fresh optimizer slots" in log
    assert result["second"]["report"]["steps"] == 2 and result["second"]["report"]["flops"] > 0
    metrics = result["test"]["report"][TASK]
    assert metrics["n"] == 40 and f"0: test {metrics['exact_match']:.1%} [" in printed
    assert result["test"]["seconds"] > 0 and result["test"]["peak_bytes"] > 2**27


def test_stages_are_done_once(commands, capsys):
    stages = {"generator": SHIPPED, "answers": INFER, "checked": CHECK, "test": TEST}
    file = write_pipeline(commands / "grid.gin", stages)
    main(["pipeline", file, "--dry_run"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("grid: 1 trials, 1 to do") and [line.split()[1] for line in printed[1:]] == [
        "train", "infer", "infer", "eval",
    ]  # fmt: skip
    assert not (commands / "runs").exists()
    main(["pipeline", file])
    result = json.loads((commands / "results/pipelines/grid/0.json").read_text())
    checked = result["stages"]["checked"]["report"]["checked.json"]
    assert "runs/grid/0/answers.json" in checked["read"] and result["stages"]["test"]["report"][TASK]["n"] == 4
    assert "0: test 50.0% [25.0, 75.0]" in capsys.readouterr().out

    # A complete trial starts nothing; without its result, its stages are not run again either.
    logs = {log.name: log.read_text() for log in (commands / "runs/grid/0").glob("*.log")}
    main(["pipeline", file])
    assert "0 to do" in capsys.readouterr().out
    (commands / "results/pipelines/grid/0.json").unlink()
    main(["pipeline", file])
    assert json.loads((commands / "results/pipelines/grid/0.json").read_text()) == result
    assert {log.name: log.read_text() for log in (commands / "runs/grid/0").glob("*.log")} == logs


def test_changed_settings_are_refused_or_overwritten(commands, capsys):
    stages = {"generator": SHIPPED, "answers": INFER, "checked": CHECK, "other": {**SHIPPED, "RANDOM_SEED": 1}}
    main(["pipeline", write_pipeline(commands / "grid.gin", stages)])
    kept = (commands / "runs/grid/0/other.log").read_text()
    changed = write_pipeline(commands / "grid.gin", {**stages, "generator": {**SHIPPED, "LEARNING_RATE": 1e-4}})
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(["pipeline", changed])
    line = capsys.readouterr().err
    assert error.value.code == 2 and "runs/grid holds outputs of other settings or inputs: 0/generator, " in line
    assert "0/generator, 0/answers, 0/checked; --overwrite deletes these" in line and "other" not in line.split(":")[3]
    main(["pipeline", changed, "--dry_run"])
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "# stale", "# stale", "# stale", "# complete",
    ]  # fmt: skip
    main(["pipeline", changed, "--overwrite"])
    assert (commands / "runs/grid/0/generator.log").read_text().count("explainft train") == 2
    assert (commands / "runs/grid/0/other.log").read_text() == kept
    result = json.loads((commands / "results/pipelines/grid/0.json").read_text())
    assert "LEARNING_RATE=0.0001" in result["stages"]["generator"]["command"]


def test_stage_is_complete_only_for_the_outputs_that_it_read(commands, monkeypatch):
    stages = {"generator": SHIPPED, "answers": INFER, "checked": CHECK}
    main(["pipeline", write_pipeline(commands / "name.gin", stages)])
    assert set(states(commands, stages).values()) == {COMPLETE}
    # The same settings, run again.
    (commands / "runs/name/0/answers.json").unlink()
    (commands / "runs/name/0/answers.stage.json").unlink()
    assert list(states(commands, stages).values()) == [COMPLETE, None, STALE]
    # An output that no record describes is not taken for the stage's.
    (commands / "runs/name/0/answers.json").write_text("{}")
    assert list(states(commands, stages).values()) == [COMPLETE, STALE, STALE]


def test_failing_stage_is_named_with_its_log(commands, capsys):
    stages = {"generator": SHIPPED, "failing": "infer {generator} --output failing.json", "test": TEST}
    with pytest.raises(SystemExit) as error:
        main(["pipeline", write_pipeline(commands / "grid.gin", stages, ("0", "1"))])
    printed = capsys.readouterr()
    assert error.value.code == 2 and "2 trials failed: " in printed.err
    assert "0: stage failing: infer ended with 1; see runs/grid/0/failing.log" in printed.out
    assert "no samples" in (commands / "runs/grid/0/failing.log").read_text()
    assert not (commands / "results").exists() and not (commands / "runs/grid/0/test.log").exists()


def test_wrong_flag_of_a_stage_is_refused_before_anything_runs(commands, capsys):
    stages = {"generator": SHIPPED, "answers": "infer {generator} --outputs answers.json"}
    with pytest.raises(SystemExit) as error:
        main(["pipeline", write_pipeline(commands / "grid.gin", stages)])
    line = capsys.readouterr().err
    assert error.value.code == 2 and "trial 0, stage answers: unrecognized arguments: --outputs answers.json" in line
    assert not (commands / "runs").exists()


def test_killed_pipeline_resumes(commands):
    stages = {
        "generator": SHIPPED,
        "slow": "infer {generator} --output slow.json",
        "checked": CHECK.replace("answers", "slow"),
    }
    file = write_pipeline(commands / "grid.gin", stages)
    program = (
        "import sys; from explainft.sweeps import cost_model, runner; from explainft.cli.main import main; "
        f"runner.EXPLAINFT = {stand_in(PRETRAINED)!r}; cost_model.cost = lambda *_: (1, 1); main(sys.argv[1:])"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, "pipeline", file], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (commands / "runs/grid/0/started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    generator = (commands / "runs/grid/0/generator.log").read_text()
    assert not (commands / "runs/grid/0/slow.json").exists()
    main(["pipeline", file])
    result = json.loads((commands / "results/pipelines/grid/0.json").read_text())
    assert "runs/grid/0/slow.json" in result["stages"]["checked"]["report"]["checked.json"]["read"]
    assert (commands / "runs/grid/0/generator.log").read_text() == generator
