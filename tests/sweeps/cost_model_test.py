"""What the trials of a sweep cost, before any of them is trained."""

from pathlib import Path

import pytest

from explainft.core.errors import UserError
from explainft.data.questions.importing import Import, import_questions
from explainft.sweeps import cost_model
from explainft.sweeps import trial as trial_module
from tests.helpers.questions import import_homes, rows, write_jsonl
from tests.helpers.sweeps import ROOT, grid


def test_cost_is_proportional_to_steps(monkeypatch):
    monkeypatch.chdir(ROOT)
    steps = {"short": 10, "twice": 20, "seed": 10}
    axes = {"n": {name: {"TRAIN_STEPS": n, "WARMUP_STEPS": 0} for name, n in steps.items()}}
    axes["n"]["seed"]["RANDOM_SEED"] = 7
    trials = grid(axes=axes, evaluations=("x",)).trials("name", Path("runs"))
    found = cost_model.make_trial_plans(trials)
    assert found["twice"].flops == 2 * found["short"].flops > 0 and found["twice"].steps == 20
    assert found["seed"].flops == found["short"].flops and found["short"].parameters == 240_512
    assert len({plan.result_hash for plan in found.values()}) == 3


def test_another_import_of_a_dataset_is_another_result(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    import_homes(tmp_path, tmp_path)
    found = cost_model.dataset_digests({"DATASET": "homes"})
    assert cost_model.dataset_digests({}) == cost_model.dataset_digests({"DATASET": "tiny"}) == []
    import_homes(tmp_path, tmp_path, overwrite=True)
    assert len(found) == 3 and cost_model.dataset_digests({"DATASET": "homes"}) == found
    files = {"train": write_jsonl(tmp_path / "other.jsonl", rows(5, 7))}
    import_questions(Import(name="homes", problem="choice", files=files, overwrite=True), tmp_path)
    assert not set(cost_model.dataset_digests({"DATASET": "homes"})) & set(found)
    with pytest.raises(UserError, match="no dataset 'shop' in .*; run: explainft data import --name shop"):
        cost_model.dataset_digests({"DATASET": "shop"})
    with pytest.raises(UserError, match="no dataset 'shop_verifier' in .*; run: explainft data samples"):
        cost_model.dataset_digests({"DATASET": "shop", "ROWS": "verifier"})


def test_time_comes_from_results_of_this_machine_or_its_peak():
    trials = [trial_module.TrialPlan("", "", "", 1, 1, flops) for flops in (4 * 10**9, 2 * 10**9)]
    done = {"flops": 10**9, "parameters": 1, "seconds": 1.0, "wall_seconds": 2.0, "made_with": trial_module.made_with()}
    assert cost_model.seconds_of(trials, [done]) == pytest.approx(12)
    peak = 1e9 * cost_model.available_cores() / cost_model.FRACTION_OF_PEAK
    assert cost_model.seconds_of(trials, [], peak=lambda _: peak) == pytest.approx(6)
    assert cost_model.describe_cost(trials, [done], 2).endswith("about 6 s")
    elsewhere = {**done, "made_with": {"cpu": "another"}}
    assert cost_model.describe_cost(trials, [elsewhere], 2).endswith(", estimated from the speed of this CPU")
    assert cost_model.describe_cost([], [done], 2) == "0 to do: all have results; --results=DIRECTORY makes new ones"


def test_time_comes_from_the_most_similar_trials():
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
    with pytest.raises(UserError, match="trial none-x: only its INITIAL_CHECKPOINT_PATH contains .* give INITIAL_STEP"):
        cost_model.make_trial_plans(grid(axes=recipes | local).trials("s", Path("runs")))


@pytest.mark.parametrize(
    ("macros", "line"),
    [
        ({"BATCH_SIZE": 10**12}, "trial x: BATCH_SIZE=1000000000000 must be at most 4,294,967,295"),
        ({"BATCH_SIZE": 4 * 10**9}, "trial x: BATCH_SIZE=4,000,000,000 needs .* for the tokens of one batch"),
        ({"VOCAB_SIZE": 2 * 10**9}, "trial x: .* parameters and their optimizer state need"),
        ({"NUM_LAYERS": 10**5}, "trial x: num_encoder_layers=100,000 must be at most 1,000"),
        ({"TASK_FEATURE_LENGTHS": {"inputs": 10**9, "targets": 64}}, "trial x: BATCH_SIZE=32 needs"),
    ],
)
def test_trial_that_cannot_fit_is_refused_before_it_is_traced(monkeypatch, macros, line):
    monkeypatch.setattr(cost_model, "cost", lambda *_: pytest.fail("traced"))
    trials = grid(axes={"n": {"x": macros}}, evaluations=("x",)).trials("name", Path("runs"))
    with pytest.raises(UserError, match=line):
        cost_model.make_trial_plans(trials)


def test_accelerator_runs_one_job_at_a_time(tmp_path, monkeypatch):
    (tmp_path / "nvidia0").write_text("")
    monkeypatch.setattr(cost_model, "ACCELERATORS", (str(tmp_path / "nvidia[0-9]*"),))
    monkeypatch.setattr(cost_model, "available_cores", lambda: 8)
    assert cost_model.max_parallel_jobs([{"peak_bytes": 1}]) == 8  # JAX_PLATFORMS=cpu, as in all tests
    monkeypatch.delenv("JAX_PLATFORMS")
    assert cost_model.max_parallel_jobs([{"peak_bytes": 1}]) == 1
    (tmp_path / "nvidia0").unlink()
    assert cost_model.max_parallel_jobs([{"peak_bytes": 1}]) == 8
