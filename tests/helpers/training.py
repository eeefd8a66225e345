"""Training in the tests' own process, its settings given in one list."""

import dataclasses

from explainft.training.config import InitialCheckpoint, MeshConfig, OptimizationConfig, TrainConfig
from explainft.training.train import train

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
