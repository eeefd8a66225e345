"""Training on the real tasks with a network of a few thousand parameters."""

import dataclasses
import functools
import json
import shutil
import types
from unittest import mock

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from explainft.checkpoints import export, integrity, run_checkpoint
from explainft.checkpoints.checkpointer import CheckpointConfig
from explainft.checkpoints.orbax_manager import open_manager
from explainft.checkpoints.progress import Progress
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.data.batches import Batches
from explainft.data.vocabulary import Vocabulary
from explainft.evaluation import evaluate
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.model.config import T5Config
from explainft.model.execution import ExecutionConfig
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.parallel.sharding import make_mesh
from explainft.training import initialize, optimizers, train_state
from explainft.training.config import DatasetConfig
from explainft.training.run_directory import RunDirectory
from explainft.training.train_state import init_state
from explainft.training.train_step import make_train_step
from tests.data.batches_test import write_cache
from tests.helpers.training import start

MODEL = T5Config(
    vocab_size=160, emb_dim=8, num_heads=1, num_encoder_layers=1, num_decoder_layers=1, head_dim=8, mlp_dim=16
)
TASK = "explained_tiny_short_compact"
UNDISTURBED_DATA = DatasetConfig(TASK, {"inputs": 32, "targets": 48}, batch_size=8, seed=1)
EVALUATION = EvaluationConfig("explained_tiny_short_eval_validation_compact", period=6, batch_size=16, num_examples=8)


def run(folder, data_dir, steps, **changes):
    settings = dict(
        model=T5(dataclasses.replace(MODEL, dropout_rate=0.1)),
        optimizer=optimizers.adamw,
        schedule=functools.partial(optimizers.learning_rate, "constant", 1e-2, 2),
        dataset=UNDISTURBED_DATA,
        evaluation=EVALUATION,
        checkpoints=CheckpointConfig(period=4, keep=None),
        loss=Loss(),
        seed=1,
        log_period=3,  # so that saves fall between two log lines
    )
    start(folder, data_dir, steps, **{**settings, **changes})


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def saved(folder, step):
    saved_steps = open_manager(folder / "checkpoints", create=False)
    restore = ocp.args.StandardRestore
    restored = saved_steps.restore(step, args=ocp.args.Composite(params=restore(), opt_state=restore()))
    saved_steps.close()
    return restored.params, restored.opt_state


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_data_dir):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, tiny_data_dir, 10)
    return folder


def test_a_run_s_folder(undisturbed, tiny_data_dir):
    train_rows = [row for row in rows(undisturbed) if "loss" in row]
    assert [row["step"] for row in train_rows] == [3, 4, 6, 8, 9, 10]
    assert train_rows[-1]["loss"] < train_rows[0]["loss"]
    batches = [UNDISTURBED_DATA.batches(token_cache.load(TASK, "train", data_dir=tiny_data_dir))[i] for i in range(3)]
    tokens = np.concatenate([b[k].ravel() for b in batches for k in ("encoder_input_tokens", "decoder_target_tokens")])
    assert train_rows[0]["padding_share"] == pytest.approx((tokens == 0).mean(), abs=1e-6)
    assert train_rows[0]["examples"] == sum(b["decoder_segment_ids"].max(axis=1).sum() for b in batches)
    assert train_rows[-1]["examples"] > train_rows[0]["examples"]
    assert [row["step"] for row in rows(undisturbed) if "eval/loss" in row] == [6, 10]
    evaluations = (undisturbed / "inference_eval" / f"{EVALUATION.mixture_or_task_name}-metrics.jsonl").read_text()
    assert [json.loads(line)["step"] for line in evaluations.splitlines()] == [6, 10]
    predictions = (undisturbed / "inference_eval" / f"{EVALUATION.mixture_or_task_name}-000010.jsonl").read_text()
    first = json.loads(predictions.splitlines()[0])
    assert len(predictions.splitlines()) == 8 and set(first) == {"input", "target", "prediction"}
    assert sorted(path.name for path in (undisturbed / "checkpoints").iterdir()) == [
        f"checkpoint_{n}" for n in (10, 4, 8)
    ]
    assert list(undisturbed.glob("events.out.tfevents.*"))


def test_products_of_bfloat16_numbers_change_a_run_a_little(undisturbed, tmp_path, tiny_data_dir):
    run(
        tmp_path / "run",
        tiny_data_dir,
        3,
        model=T5(dataclasses.replace(MODEL, dropout_rate=0.1), ExecutionConfig(matmul_precision="bfloat16")),
        log_period=1,
    )
    losses = {row["step"]: row["loss"] for row in rows(tmp_path / "run") if "loss" in row}
    before, after = rows(undisturbed)[0]["loss"], np.mean([losses[step] for step in (1, 2, 3)])
    assert after != before and after == pytest.approx(before, rel=1e-3)
    # How a run's steps are computed is not part of its model.
    run(tmp_path / "run", tiny_data_dir, 4)
    assert {row["step"] for row in rows(tmp_path / "run") if "loss" in row} == {1, 2, 3, 4}


def test_tensorboard_reads_the_same_numbers(undisturbed):
    [events] = undisturbed.glob("events.out.tfevents.*")
    found = {}
    for event in EventFileLoader(str(events)).Load():
        for value in event.summary.value:
            found[event.step, value.tag] = value.tensor.float_val[0]
    for row in rows(undisturbed):
        for name in row.keys() - {"step"}:
            assert found[row["step"], name] == pytest.approx(row[name], rel=1e-6)
    assert (10, f"inference_eval/{EVALUATION.mixture_or_task_name}/exact_match") in found


def test_stopped_and_resumed_equals_undisturbed_bitwise(undisturbed, tmp_path, tiny_data_dir, monkeypatch):
    class Stopped(Exception):
        pass

    batch = Batches.__getitem__

    def stop_at_seven(self, step):
        if step == 7:  # three updates after the last save, one after an evaluation
            raise Stopped
        return batch(self, step)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Batches, "__getitem__", stop_at_seven)
        run(tmp_path, tiny_data_dir, 10)
    assert max(row["step"] for row in rows(tmp_path)) == 6
    run(tmp_path, tiny_data_dir, 10)
    assert_equal(saved(tmp_path, 10), saved(undisturbed, 10))
    timeless = [
        [{k: v for k, v in row.items() if "second" not in k} for row in rows(f)] for f in (tmp_path, undisturbed)
    ]
    assert timeless[0] == timeless[1]
    name = f"inference_eval/{EVALUATION.mixture_or_task_name}-metrics.jsonl"
    assert (tmp_path / name).read_text() == (undisturbed / name).read_text()


@pytest.mark.parametrize(("owner", "name"), [(evaluate, "evaluate_tasks"), (Progress, "record_score")])
def test_an_evaluation_that_fails_costs_no_updates(undisturbed, tmp_path, tiny_data_dir, monkeypatch, owner, name):
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


def test_tokens_that_mean_something_else_are_refused(undisturbed, tmp_path, tiny_data_dir, monkeypatch):
    shutil.copytree(undisturbed, tmp_path / "run")
    before = (tmp_path / "run" / "vocabulary.model").read_bytes()
    model = Vocabulary(tmp_path / "run" / "vocabulary.model").proto
    model.pieces[40].piece, model.pieces[41].piece = model.pieces[41].piece, model.pieces[40].piece
    (tmp_path / "other.model").write_bytes(model.SerializeToString())
    load = token_cache.load

    def other(*arguments, **settings):
        cache = load(*arguments, **settings)
        cache.vocabulary = Vocabulary(tmp_path / "other.model")
        return cache

    monkeypatch.setattr(token_cache, "load", other)
    with pytest.raises(UserError, match=r"run with another vocabulary \(piece 40 is .*; choose another MODEL_DIR"):
        run(tmp_path / "run", tiny_data_dir, 12)
    assert (tmp_path / "run" / "vocabulary.model").read_bytes() == before


def change_meta(folder, step, change):
    file = folder / "checkpoints" / f"checkpoint_{step}" / "meta" / "metadata"
    meta = json.loads(file.read_text())
    change(meta)
    file.write_text(json.dumps(integrity.with_digest(meta)))


def test_a_run_of_another_format_is_refused(undisturbed, tmp_path, tiny_data_dir):
    shutil.copytree(undisturbed, tmp_path / "run")
    change_meta(tmp_path / "run", 10, lambda meta: meta.update(format=1))
    with pytest.raises(UserError, match="has format 1 of an older explainft, .*; use the explainft that wrote it"):
        run(tmp_path / "run", tiny_data_dir, 12)
    change_meta(tmp_path / "run", 10, lambda meta: meta.update(format=99))
    with pytest.raises(UserError, match="has format 99, .*; upgrade explainft"):
        run(tmp_path / "run", tiny_data_dir, 12)


def test_an_export_is_no_run_to_go_on_with(undisturbed, tmp_path, tiny_data_dir):
    export.export_run(undisturbed, tmp_path / "small", 10, "float32")
    with pytest.raises(UserError, match="is an export, .*start from this with --gin.INITIAL_CHECKPOINT_PATH="):
        run(tmp_path / "small", tiny_data_dir, 12)


def test_scores_of_another_metric_are_not_compared():
    progress = Progress()
    progress.set_metric_id("n of 8")
    progress.record_score(2, 8.0)
    progress.set_metric_id("n of 8")
    assert (progress.best_step, progress.best_score) == (2, 8.0)
    progress.record_score(4, 7.0)
    progress.set_metric_id("exact_match of 8")
    assert (progress.best_step, progress.best_score, progress.evaluations_without_gain) == (None, None, 0)


def test_another_metric_begins_the_count_anew(tmp_path, tiny_data_dir):
    def go(steps, **evaluation):
        settings = dataclasses.replace(EVALUATION, period=2, **evaluation)
        run(tmp_path, tiny_data_dir, steps, evaluation=settings, checkpoints=CheckpointConfig(2, keep=None))
        return run_checkpoint.open_run(tmp_path, steps).meta["progress"]

    assert go(2, metric="n", patience=1)["best_score"] == 8.0
    assert go(4, metric="exact_match", patience=1)["best_step"] == 4


def test_another_seed_is_another_run_whose_progress_a_log_tells(undisturbed, tmp_path, tiny_data_dir, capsys):
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


def test_a_finished_run_is_left_as_it_is(undisturbed, tiny_data_dir, capsys):
    def content():
        return {path: path.read_bytes() for path in undisturbed.rglob("*") if path.is_file()}

    before = content()
    run(undisturbed, tiny_data_dir, 10)
    run(undisturbed, tiny_data_dir, 5)
    assert content() == before
    assert capsys.readouterr().err == f"{undisturbed} is complete at step 10: nothing to train\n" * 2


def test_a_run_killed_before_its_first_save_starts_anew(tmp_path, undisturbed, tiny_data_dir):
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "loss": 9.0}\n{"step": 3, "lo')
    run(tmp_path, tiny_data_dir, 3)
    assert [row["step"] for row in rows(tmp_path) if "loss" in row] == [3]
    assert rows(tmp_path)[0]["loss"] == rows(undisturbed)[0]["loss"]


def test_damaged_metrics_are_named(tmp_path):
    (tmp_path / "vocabulary").write_bytes(b"")
    folder = RunDirectory(tmp_path / "run", "", tmp_path / "vocabulary")
    folder.metrics_file.write_bytes(b"\xff\xfe\n")
    with folder, pytest.raises(UserError, match="metrics.jsonl line 1 is corrupt; .*; correct or delete"):
        folder.truncate_after(4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset": DatasetConfig("explained_tiny_none_compact", {"inputs": 32, "targets": 8}, 8)},
            "holds a run with task='explained_tiny_short_compact', not 'explained_tiny_none_compact'; choose",
        ),
        (
            {"model": T5(dataclasses.replace(MODEL, emb_dim=16, dropout_rate=0.1))},
            "holds a run with emb_dim=8, not 16; choose another MODEL_DIR",
        ),
        ({"dataset": dataclasses.replace(UNDISTURBED_DATA, batch_size=4)}, "holds a run with batch_size=8, not 4"),
        (
            {"optimizer": optimizers.adafactor},
            "holds a run with another OPTIMIZER or CLIP_NORM; choose another MODEL_DIR",
        ),
    ],
)
def test_a_folder_of_another_run_is_refused(undisturbed, tiny_data_dir, changes, message):
    before = (undisturbed / "config.gin").read_text()
    with pytest.raises(UserError, match=message):
        run(undisturbed, tiny_data_dir, 12, **{"model": T5(dataclasses.replace(MODEL, dropout_rate=0.1)), **changes})
    assert (undisturbed / "config.gin").read_text() == before


def test_reading_a_corrupt_checkpoint(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "checkpoint_10" / "meta" / "metadata").write_text('{"model"')
    with pytest.raises(UserError, match="checkpoint 10 in .* is corrupt") as caught:
        run_checkpoint.open_run(tmp_path / "run")
    assert "\n" not in caught.value.line
    assert run_checkpoint.open_run(tmp_path / "run", 8).step == 8
    (tmp_path / "run" / "vocabulary.model").write_text("junk")
    with pytest.raises(UserError, match="is not a SentencePiece model"):
        export.export_run(tmp_path / "run", tmp_path / "small", 8, "float32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CheckpointConfig(keep=0), "KEEP_CHECKPOINTS=0 must be an integer of at least 1"),
        (lambda: CheckpointConfig(period=0), "CHECKPOINT_PERIOD=0"),
        (lambda: EvaluationConfig("a_task", period=0), "EVAL_PERIOD=0"),
        (lambda: EvaluationConfig("a_task", num_examples=-1), "EVALUATOR_NUM_EXAMPLES=-1"),
        (lambda: EvaluationConfig(None), "EVAL_MIXTURE=None must be a non-empty string"),
        (lambda: DatasetConfig(3, {}, 8), "MIXTURE_OR_TASK_NAME=3 must be a non-empty string"),
        (lambda: DatasetConfig(TASK, {}, 0), "BATCH_SIZE=0 must be"),
        (lambda: DatasetConfig(TASK, {}, 8, seed=-1), "RANDOM_SEED=-1 must be an integer of at least 0"),
        (lambda: dataclasses.replace(MODEL, dropout_rate=2), "DROPOUT_RATE=2 must be at least 0 and below 1"),
        (lambda: optimizers.learning_rate("constant", -1.0, 0, 1), "LEARNING_RATE=-1.0 must be"),
        (lambda: optimizers.adamw(lambda _: 0.1, clip_norm=0), "CLIP_NORM=0 must be above 0"),
        (lambda: Loss(normalizing_factor=0), "LOSS_NORMALIZING_FACTOR=0 must be above 0"),
        (lambda: Loss(label_smoothing=1), "LABEL_SMOOTHING=1 must be at least 0 and below 1"),
        (lambda: Loss(z_loss=-1.0), "Z_LOSS=-1.0 must be"),
        (lambda: dataclasses.replace(MODEL, num_heads=0), "num_heads=0 must be an integer of at least 1"),
        (lambda: dataclasses.replace(MODEL, mlp_dim=None), "mlp_dim=None must be an integer"),
        (lambda: dataclasses.replace(MODEL, mlp_activations="relu"), "mlp_activations='relu' must be a tuple like"),
        (lambda: dataclasses.replace(MODEL, mlp_activations=("relux",)), "must be a tuple .*, of linear, relu, gelu"),
        (lambda: dataclasses.replace(MODEL, dtype="bf16"), "ACTIVATION_DTYPE='bf16' must be one of float32, bfloat16"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "TRAIN_STEPS=0 must be an integer of at least 1"),
        ({"log_period": 0}, "LOG_PERIOD=0 must be"),
        ({"initial_checkpoint": {"step": 1e6}}, "INITIAL_STEP=1000000.0 must be an integer"),
        ({"evaluation": EvaluationConfig(EVALUATION.mixture_or_task_name, metric="exact_mach")}, "mean 'exact_match'"),
        ({"microbatches": 3}, r"BATCH_SIZE=8 must be a positive multiple of 3 .*try 6"),
        ({"model": T5(dataclasses.replace(MODEL, vocab_size=50))}, "vocab_size=50 is smaller than the 159 pieces"),
        (
            {"dataset": DatasetConfig(TASK, {"inputs": 32, "targets": 9}, 8)},
            "targets=9 is too short for .* of 600 examples",
        ),
        (
            {"evaluation": dataclasses.replace(EVALUATION, mixture_or_task_name=TASK, seqio_split="train")},
            f"split 'train' of {TASK} is kept as tokens alone, .* name another split",
        ),
        (
            {"evaluation": EvaluationConfig("explained_tiny_short_eval_tests_compact")},
            "did you mean 'explained_tiny_short_eval_test",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_written(tmp_path, tiny_data_dir, changes, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", tiny_data_dir, **{"steps": 2, **changes})
    assert not (tmp_path / "run").exists()


def test_a_schedule_that_cannot_be_is_told_before_the_data_is_read(tmp_path, tiny_data_dir, monkeypatch):
    monkeypatch.setattr(token_cache, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(UserError, match="WARMUP_STEPS=9 leaves nothing of TRAIN_STEPS=2 to the cosine"):
        run(tmp_path, tiny_data_dir, 2, schedule=functools.partial(optimizers.learning_rate, "cosine", 1e-2, 9))


def test_an_unwritable_folder(tmp_path, tiny_data_dir):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write MODEL_DIR=.*choose a writable directory"):
        run(tmp_path / "file" / "run", tiny_data_dir, 2)


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


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    rng = np.random.default_rng(0)
    inputs = [np.append(rng.integers(3, 150, rng.integers(2, 14)), 1) for _ in range(60)]
    targets = [np.append(rng.integers(3, 150, rng.integers(1, 20)), 1) for _ in range(60)]
    cache = write_cache(tmp_path_factory.mktemp("tokens"), inputs, targets)
    return lambda size, packed: Batches(cache, {"inputs": 30, "targets": 50}, size, seed=0, packed=packed)


UNSMOOTHED = Loss()


def gradients(state):
    """Adam's first moments after one step: a tenth of the gradients."""
    return next(
        part.mu for part in jax.tree.leaves(state.opt_state, is_leaf=lambda x: hasattr(x, "mu")) if hasattr(part, "mu")
    )


def assert_close(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5 * np.abs(x).max())


def one_step(batch, microbatches=1, loss=UNSMOOTHED):
    tx = optimizers.adamw(lambda _: 0.1, clip_norm=None)
    state, sums = make_train_step(T5(MODEL), tx, loss, 0, microbatches)(init_state(MODEL, tx, 0), batch)
    return state, {name: float(value) for name, value in sums.items()}


def test_packed_and_unpacked_losses_and_updates_agree(batches):
    packed = batches(len(batches(1, True).packing), True)[0]
    loose = batches(60, False)[0]
    assert len(packed["encoder_input_tokens"]) < 40
    (packed_state, packed_sums), (loose_state, loose_sums) = one_step(packed), one_step(loose)
    for name in ("loss_sum", "correct_sum", "weight_sum", "examples", "tokens"):
        assert packed_sums[name] == pytest.approx(loose_sums[name], rel=1e-5)
    assert_close(gradients(packed_state), gradients(loose_state))


def test_parameters_made_one_after_the_other_on_an_accelerator_are_those_of_one_program(monkeypatch):
    tx = optimizers.adafactor(lambda _: 0.1)
    like = train_state.abstract_state(MODEL, tx, make_mesh(1))
    arguments = (types.SimpleNamespace(latest=None), None, 0, MODEL, tx, 3, like)
    traced = []

    def watched(*arguments):
        state = init_state(*arguments)
        traced.append(isinstance(state.step, jax.core.Tracer))
        return state

    monkeypatch.setattr(initialize, "init_state", watched)
    as_one = initialize.restore_or_init(*arguments)
    monkeypatch.setattr(sharding, "are_one_cpu", lambda devices: False)
    one_by_one = initialize.restore_or_init(*arguments)
    assert traced == [True, False]
    assert_close(as_one, one_by_one)
    assert jax.tree.map(lambda x: x.sharding, one_by_one) == jax.tree.map(lambda x: x.sharding, like)


def test_dropout_is_drawn_anew_at_each_step_from_seed_and_step_alone(batches):
    config = T5Config(**{**vars(MODEL), "dropout_rate": 0.5})
    tx = optimizers.adamw(lambda _: 0.0)  # nothing is learnt: only dropout tells two steps apart
    batch = batches(12, True)[0]

    def losses(seed):
        step, state, found = make_train_step(T5(config), tx, UNSMOOTHED, seed), init_state(config, tx, 0), []
        for _ in range(2):
            state, sums = step(state, batch)
            found.append(float(sums["loss_sum"]))
        return found

    assert losses(0) == losses(0)
    assert len({*losses(0), *losses(1)}) == 4


@pytest.mark.parametrize("factor", ["NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", 100.0])
def test_microbatches_change_nothing(batches, factor):
    batch, loss = batches(12, True)[0], Loss(normalizing_factor=factor)
    (whole, whole_sums), (split, split_sums) = one_step(batch, 1, loss), one_step(batch, 4, loss)
    assert split_sums == pytest.approx(whole_sums, rel=1e-5)
    assert_close(gradients(whole), gradients(split))
