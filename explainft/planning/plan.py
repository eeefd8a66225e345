"""Reports whether a recipe fits absent hardware, and how fast it can be there.

The real train step, and decoding.greedy with a cache of the full length, are compiled ahead of time for the named
topology. On several devices decoding runs that program. On one device `generate` reads and computes less, because its
cache grows and it drops finished rows: the plan is an upper bound. Both programs have the whole output layer, even with
OUTPUT_VOCABULARY="task", because only the data contain its token ids.
"""

import dataclasses
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from explainft.checkpoints.progress import Progress
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.data.batches import Batches
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.planning.compiler import Options, OutOfMemory, Program, check_memory, least_effort_options
from explainft.planning.hardware import LOCAL, Hardware, find_devices
from explainft.planning.memory_search import MemoryConfig, MemoryEstimate, nearest_fitting_config
from explainft.planning.programs import batch_shapes, compile_decoding, compile_train_step
from explainft.recipes.machine_memory import check_plan, device_memory
from explainft.training.config import DatasetConfig, InitialCheckpoint, TrainConfig
from explainft.training.initialize import last_step


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of a recipe. `nearest`: of a train step that does not fit, the nearest config that does.

    `num_steps` and `examples_per_row` are None where this machine has no data to compute them from.
    """

    topology: str
    num_devices: int
    hardware: Hardware | None
    memory_config: MemoryConfig
    batch_size: int
    train_step: Program | OutOfMemory
    decoding: Program | OutOfMemory
    nearest: tuple[MemoryConfig, Program] | None
    num_steps: int | None
    examples_per_row: float | None
    seconds_to_plan: float

    @property
    def seconds(self) -> float | None:
        """Returns the lower bound in seconds of a train step: of the nearest config where the recipe does not fit."""
        program = self.nearest[1] if self.nearest else self.train_step
        if self.hardware is None or not isinstance(program, Program):
            return None
        return max(program.roofline_seconds(self.hardware).values())

    @property
    def hours(self) -> float | None:
        """Returns the lower bound in hours of all steps; None where their number or time is unknown."""
        return self.num_steps * self.seconds / 3600 if self.num_steps and self.seconds else None


def make_plan(config: TrainConfig, topology: str, quick: bool = False) -> Plan:
    """Plans a recipe for a topology (see hardware.find_devices). Raises UserError where no settings could fit it.

    `quick` compiles with XLA's least effort: memory and bytes are not those of the program that would run.
    """
    started = time.monotonic()
    devices, hardware = find_devices(topology)
    check_plan(config, len(devices), device_memory() if topology == LOCAL else hardware and hardware.memory)
    options = least_effort_options(devices) if quick else None
    model, dataset, evaluation, optimization = config.model, config.dataset, config.evaluation, config.optimization
    num_steps = num_train_steps(config.initial_checkpoint, optimization.train_steps, optimization.train_steps_relative)
    memory_config = MemoryConfig(
        config.mesh.model_parallelism, config.mesh.fsdp, optimization.microbatches, model.execution.remat_policy
    )
    available = hardware.memory if hardware else math.inf
    for_decoding = T5(model.config, model.execution.for_inference())
    lengths = dataset.lengths()
    shape = evaluation.batch_size, lengths["inputs"], lengths["targets"]
    with ThreadPoolExecutor(1) as thread:  # each compilation keeps one core busy
        decoding = thread.submit(compile_decoding, devices, memory_config, for_decoding, *shape, options)
        train_step, nearest = plan_train_step(config, memory_config, devices, available, options)
        decoding = check_memory(available, decoding.result())
    return Plan(
        topology, len(devices), hardware, memory_config, dataset.batch_size, train_step, decoding, nearest,
        num_steps, examples_per_row(dataset), time.monotonic() - started,
    )  # fmt: skip


def plan_train_step(
    config: TrainConfig,
    memory_config: MemoryConfig,
    devices: list[Any],
    available: float,
    options: Options | None,
) -> tuple[Program | OutOfMemory, tuple[MemoryConfig, Program] | None]:
    """Returns the recipe's train step, and where it does not fit, the nearest config that does with its program."""
    dataset, optimization = config.dataset, config.optimization
    tx = optimization.optimizer(optimization.schedule(train_steps=optimization.train_steps))
    training = config.model, tx, optimization.loss
    batch = batch_shapes(sharding.make_mesh(1, devices), dataset.batch_size, dataset.lengths())
    estimate = MemoryEstimate(*training, batch, devices)

    def compile(memory_config: MemoryConfig, options: Options | None) -> Program | OutOfMemory:
        return check_memory(available, compile_train_step(devices, memory_config, *training, dataset, options))

    lower_bound = estimate.state(memory_config)
    # What cannot fit need not compile.
    train_step = OutOfMemory(lower_bound, available) if lower_bound > available else compile(memory_config, options)
    if isinstance(train_step, Program):
        return train_step, None
    least_effort = least_effort_options(devices)
    return train_step, nearest_fitting_config(
        memory_config, len(devices), train_step.available, estimate, lambda other: compile(other, least_effort)
    )


def num_train_steps(initial: InitialCheckpoint, train_steps: int, relative: int | None = None) -> int | None:
    """Returns how many steps a new run of the recipe makes; None where only its initial checkpoint contains that.

    Raises UserError where the checkpoint has them all behind it.
    """
    first = initial.step if initial.path else 0
    if initial.path and first is None:
        named = re.search(r"/checkpoint_(\d+)/?$", initial.path)  # T5X writes the step into the name
        first = int(named[1]) if named else None
    if first is None and relative is None:
        return None
    return last_step(Progress(first_step=first or 0), train_steps, relative) - (first or 0)


def examples_per_row(dataset: DatasetConfig) -> float | None:
    """Returns how many examples packing puts in a row; None where this machine has no token cache of the task."""
    try:
        cache = token_cache.newest(dataset.mixture_or_task_name, "train")
        if cache is None:
            return None
        batches: Batches = dataset.batches(cache)
    except (UserError, OSError, ValueError):  # corrupt, or of other lengths than the recipe's
        return None
    return len(batches.cache) / len(batches.packing)
