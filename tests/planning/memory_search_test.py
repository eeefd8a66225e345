"""Which config needs less memory, and how much a train step needs, against counts by hand."""

import jax
import numpy as np
import optax
import pytest

from explainft.core.errors import UserError
from explainft.model.config import T5Config
from explainft.model.execution import ExecutionConfig
from explainft.model.loss import Loss
from explainft.model.parameters import parameter_shapes
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.planning import hlo
from explainft.planning.compiler import OutOfMemory, Program
from explainft.planning.memory_search import (
    MAX_COMPILATIONS,
    MemoryConfig,
    MemoryEstimate,
    bytes_per_device,
    configs_with_less_memory,
    nearest_fitting_config,
    saved_bytes,
)
from explainft.planning.programs import batch_shapes
from explainft.training.config import DatasetConfig
from explainft.training.train_state import abstract_state

SMALL = T5Config(64, 16, 2, 1, 1, 8, 32)


def test_nearest_config_comes_first():
    current = MemoryConfig()
    flags = [config.flags(current) for config in configs_with_less_memory(current, 8)]
    assert flags[:6] == [
        "REMAT_POLICY=minimal",
        "REMAT_POLICY=full",
        "MICROBATCHES=2 REMAT_POLICY=full",
        "MICROBATCHES=4 REMAT_POLICY=full",
        "MICROBATCHES=8 REMAT_POLICY=full",
        "FSDP=True",
    ]
    assert "MODEL_PARALLELISM=8" in flags and "MODEL_PARALLELISM=16" not in flags
    assert len(flags) == len(set(flags)) and "" not in flags


def test_config_above_the_estimate_is_not_compiled():
    program = Program(1, 1, 1.0, hlo.Costs(1.0, {}, {}), 1.0)
    too_large = OutOfMemory(20.0, 16.0)
    compiled = []

    def compile(config):
        compiled.append(config.flags(MemoryConfig()))
        return program if config.fsdp else too_large

    def estimate(config, available):
        if config.microbatches in (2, 8):
            raise UserError("does not divide")
        return 99.0 if config.remat_policy != "full" else 10.0

    config, found = nearest_fitting_config(MemoryConfig(), 8, 16.0, estimate, compile)
    assert found is program and config == MemoryConfig(fsdp=True, remat_policy="full")
    assert compiled == [
        "REMAT_POLICY=full",
        "MICROBATCHES=4 REMAT_POLICY=full",
        "FSDP=True REMAT_POLICY=full",
    ]
    compiled.clear()
    assert (
        nearest_fitting_config(
            MemoryConfig(), 8, 16.0, lambda *_: 0.0, lambda config: compiled.append(config) or too_large
        )
        is None
    )
    assert len(compiled) == MAX_COMPILATIONS


def test_estimate_counts_state_gradients_and_activations():
    devices = jax.devices()[:1]
    tx = optax.adam(1e-3)
    parameters = 4 * sum(int(np.prod(shape)) for shape in parameter_shapes(SMALL).values())
    mesh = sharding.make_mesh(1, devices)
    state = abstract_state(SMALL, tx, mesh)
    assert bytes_per_device(state) == 3 * parameters + 8  # two slots; the step and Adam's own count
    dataset = DatasetConfig("task", {"inputs": 12, "targets": 10}, 8)
    batch = batch_shapes(mesh, dataset.batch_size, dataset.task_feature_lengths)
    saved = {
        policy: saved_bytes(T5(SMALL, ExecutionConfig(remat_policy=policy)), Loss(), batch, 8)
        for policy in ("none", "minimal", "full")
    }
    assert saved["none"] > saved["minimal"] > saved["full"] >= 8 * 10 * 64 * 4  # the logits at least
    estimate = MemoryEstimate(T5(SMALL), tx, Loss(), batch, devices)
    assert estimate(MemoryConfig()) == 4 * parameters + 8 + saved["none"] / 2
    assert estimate(MemoryConfig(microbatches=2)) < estimate(MemoryConfig())
    assert estimate(MemoryConfig(), available=4 * parameters) == 4 * parameters + 8
    with pytest.raises(UserError, match="BATCH_SIZE=8"):
        estimate(MemoryConfig(microbatches=3))
