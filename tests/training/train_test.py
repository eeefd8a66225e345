"""Training on the real tasks with a model of a few thousand parameters."""

import dataclasses
import functools
import json
import types
from unittest import mock

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from explainft.checkpoints import run_checkpoint
from explainft.checkpoints.checkpointer import CheckpointConfig
from explainft.checkpoints.orbax_manager import open_manager
from explainft.checkpoints.progress import Progress
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.data.batches import Batches
from explainft.evaluation import evaluate
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.model.execution import ExecutionConfig
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.parallel.sharding import make_mesh
from explainft.training import initialize, optimizers, train_state
from explainft.training.run_directory import RunDirectory
from explainft.training.train_state import init_state
from tests.helpers.training import DATASET, EVALUATION, MODEL, TASK, assert_close, assert_equal, rows, run


def saved(folder, step):
    saved_steps = open_manager(folder / "checkpoints", create=False)
    restore = ocp.args.StandardRestore
    restored = saved_steps.restore(step, args=ocp.args.Composite(params=restore(), opt_state=restore()))
    saved_steps.close()
    return restored.params, restored.opt_state


def test_a_run_writes_its_directory(undisturbed, tiny_data_dir):
    train_rows = [row for row in rows(undisturbed) if "loss" in row]
    assert [row["step"] for row in train_rows] == [3, 4, 6, 8, 9, 10]
    assert train_rows[-1]["loss"] < train_rows[0]["loss"]
    batches = [DATASET.batches(token_cache.load(TASK, "train", data_dir=tiny_data_dir))[i] for i in range(3)]
    tokens = np.concatenate([b[k].ravel() for b in batches for k in ("encoder_input_tokens", "decoder_target_tokens")])
    assert train_rows[0]["padding_share"] == pytest.approx((tokens == 0).mean(), abs=1e-6)
    assert train_rows[0]["examples"] == sum(b["decoder_segment_ids"].max(axis=1).sum() for b in batches)
    assert train_rows[-1]["examples"] > train_rows[0]["examples"]
    assert [row["step"] for row in rows(undisturbed) if "eval/loss" in row] == [6, 10]
    evaluations = (undisturbed / "inference_eval" / f"{EVALUATION.mixture_or_task_name}-metrics.jsonl").read_text()
    assert [json.loads(line)["step"] for line in evaluations.splitlines()] == [6, 10]
    predictions = (undisturbed / "inference_eval" / f"{EVALUATION.mixture_or_task_name}-000010.jsonl").read_text()
    first = json.loads(predictions.splitlines()[0])
    assert len(predictions.splitlines()) == 8 and set(first) - {"cut"} == {"input", "target", "prediction"}
    assert sorted(path.name for path in (undisturbed / "checkpoints").iterdir()) == [
        f"checkpoint_{n}" for n in (10, 4, 8)
    ]
    assert list(undisturbed.glob("events.out.tfevents.*"))


def test_bfloat16_matmuls_change_losses_little_and_rates_not(undisturbed, tmp_path, tiny_data_dir):
    run(
        tmp_path / "run",
        tiny_data_dir,
        3,
        model=T5(dataclasses.replace(MODEL, dropout_rate=0.1), ExecutionConfig(matmul_precision="bfloat16")),
        log_period=1,
    )
    losses = {row["step"]: row["loss"] for row in rows(tmp_path / "run") if "loss" in row}
    rates = [row["learning_rate"] for row in rows(tmp_path / "run") if "loss" in row]
    assert rates == pytest.approx([0.005, 0.01, 0.01])  # of the steps that were applied: two of warm-up
    before, after = rows(undisturbed)[0]["loss"], np.mean([losses[step] for step in (1, 2, 3)])
    assert after != before and after == pytest.approx(before, rel=1e-3)
    # How a run's steps are computed is not part of its model.
    run(tmp_path / "run", tiny_data_dir, 4)
    assert {row["step"] for row in rows(tmp_path / "run") if "loss" in row} == {1, 2, 3, 4}


def test_tensorboard_has_the_rows_of_metrics(undisturbed):
    [events] = undisturbed.glob("events.out.tfevents.*")
    found = {}
    for event in EventFileLoader(str(events)).Load():
        for value in event.summary.value:
            found[event.step, value.tag] = value.tensor.float_val[0]
    for row in rows(undisturbed):
        for name in row.keys() - {"step"}:
            assert found[row["step"], name] == pytest.approx(row[name], rel=1e-6)
    assert (10, f"inference_eval/{EVALUATION.mixture_or_task_name}/exact_match") in found


def test_resume_is_bitwise(undisturbed, tmp_path, tiny_data_dir, monkeypatch, capsys):
    class Stopped(Exception):
        pass

    batch = Batches.__getitem__

    def stop_at_seven(self, step):
        if step == 7:  # three updates after the last save, one after an evaluation
            raise Stopped
        return batch(self, step)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Batches, "__getitem__", stop_at_seven)
        run(tmp_path, tiny_data_dir, 10, config_text=lambda: "BATCH_SIZE = 8\nLEARNING_RATE = 0.02\n")
    assert max(row["step"] for row in rows(tmp_path)) == 6
    capsys.readouterr()
    run(tmp_path, tiny_data_dir, 10, config_text=lambda: "BATCH_SIZE = 8\nLEARNING_RATE = 0.01\n")
    line = f"{tmp_path.name}: resuming from checkpoint 4, LEARNING_RATE=0.01, which was 0.02\n"
    assert line in capsys.readouterr().out
    assert_equal(saved(tmp_path, 10), saved(undisturbed, 10))
    timeless = [
        [{k: v for k, v in row.items() if "second" not in k} for row in rows(f)] for f in (tmp_path, undisturbed)
    ]
    assert timeless[0] == timeless[1]
    name = f"inference_eval/{EVALUATION.mixture_or_task_name}-metrics.jsonl"
    assert (tmp_path / name).read_text() == (undisturbed / name).read_text()


@pytest.mark.parametrize(("owner", "name"), [(evaluate, "evaluate_tasks"), (Progress, "record_score")])
def test_a_failed_evaluation_costs_no_steps(undisturbed, tmp_path, tiny_data_dir, monkeypatch, owner, name):
    periods = {"checkpoints": CheckpointConfig(period=6, keep=None)}
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(owner, name, mock.Mock(side_effect=MemoryError))
        run(tmp_path, tiny_data_dir, 10, **periods)
    assert run_checkpoint.open_run(tmp_path).step == 6
    run(tmp_path, tiny_data_dir, 10, **periods)
    assert_equal(saved(tmp_path, 10), saved(undisturbed, 10))
    name = f"inference_eval/{EVALUATION.mixture_or_task_name}-metrics.jsonl"
    assert (tmp_path / name).read_text() == (undisturbed / name).read_text()
    assert run_checkpoint.open_run(tmp_path, 6).meta["progress"]["best_step"] == 6  # told afterwards
    assert [row["step"] for row in rows(tmp_path) if "eval/loss" in row] == [6, 10]


def test_scores_of_another_metric_are_not_compared():
    progress = Progress()
    progress.set_metric_id("n of 8")
    progress.record_score(2, 8.0)
    progress.set_metric_id("n of 8")
    assert (progress.best_step, progress.best_score) == (2, 8.0)
    progress.record_score(4, 7.0)
    progress.set_metric_id("exact_match of 8")
    assert (progress.best_step, progress.best_score, progress.evaluations_without_gain) == (None, None, 0)


def test_another_metric_resets_the_best_score(tmp_path, tiny_data_dir):
    def go(steps, **evaluation):
        settings = dataclasses.replace(EVALUATION, period=2, **evaluation)
        run(tmp_path, tiny_data_dir, steps, evaluation=settings, checkpoints=CheckpointConfig(2, keep=None))
        return run_checkpoint.open_run(tmp_path, steps).meta["progress"]

    assert go(2, metric="n", patience=1)["best_score"] == 8.0
    assert go(4, metric="exact_match", patience=1)["best_step"] == 4


def test_a_log_reports_phases_and_metrics(undisturbed, tmp_path, tiny_data_dir, capsys):
    run(tmp_path / "run", tiny_data_dir, 2, seed=2)
    [loss] = [row["loss"] for row in rows(tmp_path / "run") if "loss" in row]
    assert loss != rows(undisturbed)[0]["loss"]
    *start, trained, scored = capsys.readouterr().out.splitlines()
    assert start[:4] == [
        f"run: reading {TASK}",
        "run: 1 x cpu (cpu)",
        "run: 2,680 parameters, batches of 8 rows of 32 inputs + 48 targets tokens",
        "run: compiling the train step",
    ]
    assert start[4].startswith("run: the first step took ") and len(start) == 5
    assert trained.startswith(f"run: step 2 of 2: loss {loss:.3f}, ") and trained.endswith("% MFU")
    assert scored == "run: step 2 of 2: exact_match 0.000"


def test_a_complete_run_is_unchanged(undisturbed, tiny_data_dir, capsys):
    def content():
        return {path: path.read_bytes() for path in undisturbed.rglob("*") if path.is_file()}

    before = content()
    run(undisturbed, tiny_data_dir, 10)
    run(undisturbed, tiny_data_dir, 5)
    assert content() == before
    assert capsys.readouterr().err == f"{undisturbed} is complete at step 10: nothing to train\n" * 2


def test_a_run_without_a_checkpoint_restarts(tmp_path, undisturbed, tiny_data_dir):
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "loss": 9.0}\n{"step": 3, "lo')
    run(tmp_path, tiny_data_dir, 3)
    assert [row["step"] for row in rows(tmp_path) if "loss" in row] == [3]
    assert rows(tmp_path)[0]["loss"] == rows(undisturbed)[0]["loss"]


def test_corrupt_metrics_are_named(tmp_path):
    (tmp_path / "vocabulary").write_bytes(b"")
    folder = RunDirectory(tmp_path / "run", "", tmp_path / "vocabulary")
    folder.metrics_file.write_bytes(b"\xff\xfe\n")
    with folder, pytest.raises(UserError, match="metrics.jsonl line 1 is corrupt; .*; correct or delete"):
        folder.truncate_after(4)


def test_early_stopping_and_the_best_checkpoint(tmp_path, tiny_data_dir):
    # A rate of zero: no evaluation is better than the first, at step 2.
    rate = functools.partial(optimizers.learning_rate, "constant", 0.0, 0)
    evaluation = EvaluationConfig(EVALUATION.mixture_or_task_name, period=2, batch_size=16, num_examples=8, patience=2)
    run(
        tmp_path,
        tiny_data_dir,
        20,
        schedule=rate,
        evaluation=evaluation,
        checkpoints=CheckpointConfig(100, keep=1, keep_best=True),
    )
    assert rows(tmp_path)[-1]["step"] == 6  # two evaluations after the best
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["checkpoint_2", "checkpoint_6"]
    # Called again it stays stopped: what stopped it is in the checkpoint.
    run(
        tmp_path,
        tiny_data_dir,
        20,
        schedule=rate,
        evaluation=evaluation,
        checkpoints=CheckpointConfig(100, keep=1, keep_best=True),
    )
    assert rows(tmp_path)[-1]["step"] == 6


def test_eager_and_compiled_initialization_agree(monkeypatch):
    tx = optimizers.adafactor(lambda _: 0.1)
    like = train_state.abstract_state(MODEL, tx, make_mesh(1))
    arguments = (types.SimpleNamespace(latest=None), None, 0, MODEL, tx, 3, like)
    traced = []

    def watched(*arguments):
        state = init_state(*arguments)
        traced.append(isinstance(state.step, jax.core.Tracer))
        return state

    monkeypatch.setattr(initialize, "init_state", watched)
    compiled = initialize.restore_or_init(*arguments)
    monkeypatch.setattr(sharding, "are_one_cpu", lambda devices: False)
    eager = initialize.restore_or_init(*arguments)
    assert traced == [True, False]
    assert_close(compiled, eager)
    assert jax.tree.map(lambda x: x.sharding, eager) == jax.tree.map(lambda x: x.sharding, like)


def test_the_score_of_a_mixture_is_the_mean_of_its_tasks(tmp_path, tiny_data_dir, monkeypatch):
    evaluate_tasks, seen = evaluate.evaluate_tasks, []

    def rise_by_task(*arguments, **settings):
        metrics = evaluate_tasks(*arguments, **settings)
        seen.extend(metrics)
        return {task: {**scores, "exact_match": i / 8} for i, (task, scores) in enumerate(metrics.items())}

    monkeypatch.setattr(evaluate, "evaluate_tasks", rise_by_task)
    evaluation = dataclasses.replace(EVALUATION, mixture_or_task_name="explained_tiny_short_eval_compact")
    run(tmp_path, tiny_data_dir, 1, evaluation=evaluation)
    splits = ("larger_numbers", "longer", "test", "validation")
    assert seen == [f"explained_tiny_short_eval_{split}_compact" for split in splits]
    assert run_checkpoint.open_run(tmp_path).meta["progress"]["best_score"] == (0 + 1 + 2 + 3) / 8 / 4
