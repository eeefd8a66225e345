"""Settings that a run refuses, and when."""

import dataclasses
import functools
import json
import shutil

import pytest

from explainft.checkpoints import export, integrity, run_checkpoint
from explainft.checkpoints.checkpointer import CheckpointConfig
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.data.vocabulary import Vocabulary
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.training import optimizers
from explainft.training.config import DatasetConfig
from tests.helpers.training import DATASET, EVALUATION, MODEL, TASK, run


@pytest.fixture
def no_data(monkeypatch):
    """Reading data fails."""
    monkeypatch.setattr(token_cache, "load", lambda *_, **__: pytest.fail("data were read"))


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
        ({"model": T5(dataclasses.replace(MODEL, vocab_size=50))}, "vocab_size=50 is smaller than the 159 tokens"),
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
def test_a_refused_run_writes_nothing(tmp_path, tiny_data_dir, changes, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", tiny_data_dir, **{"steps": 2, **changes})
    assert not (tmp_path / "run").exists()


def test_an_impossible_schedule_is_refused_before_data_are_read(tmp_path, tiny_data_dir, no_data):
    with pytest.raises(UserError, match="WARMUP_STEPS=9 leaves nothing of TRAIN_STEPS=2 to the cosine"):
        run(tmp_path, tiny_data_dir, 2, schedule=functools.partial(optimizers.learning_rate, "cosine", 1e-2, 9))


def test_an_unwritable_directory_is_refused_before_data_are_read(tmp_path, tiny_data_dir, no_data):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write MODEL_DIR=.*choose a writable directory"):
        run(tmp_path / "file" / "run", tiny_data_dir, 2)


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
        ({"dataset": dataclasses.replace(DATASET, batch_size=4)}, "holds a run with batch_size=8, not 4"),
        (
            {"optimizer": optimizers.adafactor},
            "holds a run with another OPTIMIZER or CLIP_NORM; choose another MODEL_DIR",
        ),
    ],
)
def test_another_run_is_refused_before_data_are_read(undisturbed, tiny_data_dir, no_data, changes, message):
    before = (undisturbed / "config.gin").read_text()
    with pytest.raises(UserError, match=message):
        run(undisturbed, tiny_data_dir, 12, **{"model": T5(dataclasses.replace(MODEL, dropout_rate=0.1)), **changes})
    assert (undisturbed / "config.gin").read_text() == before


def test_another_vocabulary_is_refused(undisturbed, tmp_path, tiny_data_dir, monkeypatch):
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


def test_an_export_cannot_be_resumed(undisturbed, tmp_path, tiny_data_dir):
    export.export_run(undisturbed, tmp_path / "small", 10, "float32")
    with pytest.raises(UserError, match="is an export, .*start from this with --gin.INITIAL_CHECKPOINT_PATH="):
        run(tmp_path / "small", tiny_data_dir, 12)


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
