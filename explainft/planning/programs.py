"""The programs that a plan compiles: the recipe's train step, and greedy decoding of a batch."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from explainft.generation import decoding
from explainft.model.t5 import T5
from explainft.model.verifier_losses import AnyLoss
from explainft.parallel import sharding
from explainft.planning.compiler import Options, OutOfMemory, Program, compile_program
from explainft.planning.memory_search import MemoryConfig
from explainft.training.config import DatasetConfig
from explainft.training.train_state import abstract_state
from explainft.training.train_step import make_train_step


def compile_train_step(
    devices: list[Any],
    memory_config: MemoryConfig,
    model: T5,
    tx: Any,
    loss: AnyLoss,
    dataset: DatasetConfig,
    options: Options | None = None,
) -> Program | OutOfMemory:
    """Compiles the recipe's train step for the devices. Raises UserError where it does not divide over them."""
    mesh = sharding.make_mesh(memory_config.model_parallelism, devices)
    config, lengths = model.config, dataset.lengths()
    execution = dataclasses.replace(model.execution, remat_policy=memory_config.remat_policy)
    model = T5(config, sharding.resolve_execution(execution, config, mesh, lengths.values()))
    sharding.check_model(config, mesh, memory_config.fsdp)
    sharding.check_batch(dataset.batch_size, mesh, memory_config.microbatches, loss.group)
    abstract = abstract_state(config, tx, mesh, memory_config.fsdp)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    with jax.set_mesh(mesh):
        step = make_train_step(model, tx, loss, 0, memory_config.microbatches, shardings)
        traced = step.trace(abstract, batch_shapes(mesh, dataset.batch_size, lengths))
        return compile_program(traced, mesh, options=options)


def compile_decoding(
    devices: list[Any],
    memory_config: MemoryConfig,
    model: T5,
    batch_size: int,
    inputs: int,
    targets: int,
    options: Options | None = None,
) -> Program | OutOfMemory:
    """Compiles decoding.greedy of a batch to its full length: an upper bound of what decoding.generate costs.

    On accelerators the parameters are a copy in the activations' dtype (see quantization.py), and the original is
    counted with it.
    """
    mesh = sharding.make_mesh(memory_config.model_parallelism, devices)
    params = sharding.abstract_parameters(model.config, mesh, memory_config.fsdp)
    original = 0
    if model.config.dtype != "float32" and not sharding.are_one_cpu(devices):
        original = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(params))
        params = jax.tree.map(lambda x: x.update(dtype=jax.numpy.dtype(model.config.dtype)), params)
    with jax.set_mesh(mesh):
        traced = decoding.greedy.trace(model, params, _tokens(mesh, batch_size, inputs), targets)
        program = compile_program(traced, mesh, targets, options)
    if isinstance(program, OutOfMemory):
        return program
    return dataclasses.replace(program, arguments=program.arguments + original)


def batch_shapes(mesh: Mesh, rows: int, lengths: Mapping[str, int]) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a training batch [rows, length], split over `data`; `lengths` of inputs and targets."""
    length_of = {"encoder": lengths["inputs"], "decoder": lengths["targets"]}
    names = ("encoder_input_tokens", "encoder_segment_ids", "decoder_input_tokens", "decoder_target_tokens",
             "decoder_segment_ids")  # fmt: skip
    return {name: _tokens(mesh, rows, length_of[name.partition("_")[0]]) for name in names}


def _tokens(mesh: Mesh, rows: int, length: int) -> jax.ShapeDtypeStruct:
    divides = rows % mesh.shape["data"] == 0  # as in sharding.put_rows_like
    rows_sharding = NamedSharding(mesh, PartitionSpec("data" if divides else None))
    return jax.ShapeDtypeStruct((rows, length), np.int32, sharding=rows_sharding)
