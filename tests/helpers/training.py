"""Training in the tests' own process, its settings given in one list."""

import dataclasses
import functools
import json

import jax
import numpy as np

from explainft.checkpoints.checkpointer import CheckpointConfig
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.model.config import T5Config
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.training import optimizers
from explainft.training.config import DatasetConfig, InitialCheckpoint, MeshConfig, OptimizationConfig, TrainConfig
from explainft.training.train import train

MODEL = T5Config(
    vocab_size=160, emb_dim=8, num_heads=1, num_encoder_layers=1, num_decoder_layers=1, head_dim=8, mlp_dim=16
)
TASK = "explained_tiny_short_compact"
DATASET = DatasetConfig(TASK, {"inputs": 32, "targets": 48}, batch_size=8, seed=1)
EVALUATION = EvaluationConfig("explained_tiny_short_eval_validation_compact", period=6, batch_size=16, num_examples=8)
OPTIMIZATION = {field.name for field in dataclasses.fields(OptimizationConfig)}


def start(
    directory, data_dir, steps, *, profile=False, config_text=str, initial_checkpoint=None, mesh=None, **settings
):
    """Calls train; `settings` are fields of TrainConfig and of OptimizationConfig."""
    optimization = {name: settings.pop(name) for name in OPTIMIZATION & settings.keys()}
    config = TrainConfig(
        model_dir=str(directory),
        optimization=OptimizationConfig(train_steps=steps, **optimization),
        initial_checkpoint=InitialCheckpoint(**(initial_checkpoint or {})),
        mesh=MeshConfig(**(mesh or {})),
        **settings,
    )
    return train(config, profile=profile, config_text=config_text, tfds_data_dir=data_dir)


def run(folder, data_dir, steps, **changes):
    settings = dict(
        model=T5(dataclasses.replace(MODEL, dropout_rate=0.1)),
        optimizer=optimizers.adamw,
        schedule=functools.partial(optimizers.learning_rate, "constant", 1e-2, 2),
        dataset=DATASET,
        evaluation=EVALUATION,
        checkpoints=CheckpointConfig(period=4, keep=None),
        loss=Loss(),
        seed=1,
        log_period=3,  # so that saves fall between two log lines
    )
    start(folder, data_dir, steps, **{**settings, **changes})


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def assert_close(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5 * np.abs(x).max())
