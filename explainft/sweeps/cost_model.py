"""What the trials of a sweep will cost, before any of them is trained, and how many run at once."""

import dataclasses
import functools
import glob
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import optax
from tqdm import tqdm

from explainft.core.errors import UserError
from explainft.core.process_pool import available_cores
from explainft.data import sample_datasets, token_cache
from explainft.data.questions.descriptor import descriptor_file, read_descriptor
from explainft.data.questions.importing import data_directory
from explainft.data.sample_datasets import parse_rows
from explainft.listops.configs import CONFIGS
from explainft.model import flops
from explainft.model.loss import Loss
from explainft.model.parameters import parameter_shapes
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.planning.plan import num_train_steps
from explainft.planning.plan_text import format_number
from explainft.planning.programs import batch_shapes
from explainft.recipes import machine_memory, recipe
from explainft.sweeps.trial import Trial, TrialPlan, cpu
from explainft.training import profiling, train
from explainft.training.config import DatasetConfig, TrainConfig
from explainft.training.context import choose_lengths
from explainft.training.train_state import abstract_state
from explainft.training.train_step import make_train_step

ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/accel[0-9]*", "/dev/vfio/[0-9]*")  # as Linux names a GPU and TPUs
MEMORY_A_RUN = 2 * 2**30  # bytes, until the first trial of a sweep is measured
FRACTION_OF_PEAK = 0.3  # of the measured FLOP/s: of a small model on a CPU, until the first trial is measured


def make_trial_plans(trials: Sequence[Trial]) -> dict[str, TrialPlan]:
    """Returns the plan of each trial, by its name: all macros are read before the first trial trains.

    Must be called in the main thread, because gin has one configuration in each process. Raises UserError, which names
    the trial.
    """
    plans = {}
    for trial in tqdm(trials, desc="reading the recipes", unit=" trials", disable=None, leave=False):
        try:
            plans[trial.name] = _make_trial_plan(trial)
        except UserError as e:
            raise UserError(f"trial {trial.name}: {e.line}") from e
    return plans


def _make_trial_plan(trial: Trial) -> TrialPlan:
    bindings = ["MODEL_DIR=run", *(f"{name}={value}" for name, value in trial.macros.items())]
    loaded = recipe.load([trial.gin_file], bindings, command="train")
    config: TrainConfig = loaded.bindings(train.train)["config"]
    dataset, optimization = config.dataset, config.optimization
    steps = optimization.train_steps
    num_steps = num_train_steps(config.initial_checkpoint, steps)
    if num_steps is None or optimization.train_steps_relative is not None:
        raise UserError(
            "only its INITIAL_CHECKPOINT_PATH contains the step that it starts at; "
            "give INITIAL_STEP, and with it TRAIN_STEPS, not TRAIN_STEPS_RELATIVE"
        )
    check_config(config)
    load = functools.partial(token_cache.load, task_module=dataset.module, vocabulary_file=dataset.vocabulary_file)
    dataset = choose_lengths(dataset, load)
    parameters, flops_per_step = step_cost(config, dataset)
    content = dataset_digests(loaded.macros)
    return TrialPlan(
        loaded.hash(*content),
        loaded.hash(*trial.mixtures, *content),
        config.evaluation.mixture_or_task_name,
        steps,
        parameters,
        num_steps * flops_per_step,
        dataset.module,
    )


def check_config(config: TrainConfig) -> None:
    """Refuses a run that does not fit the memory of this machine, and settings out of range. Raises UserError."""
    if has_accelerator():  # whose memory this process, which uses the CPU alone, cannot read
        machine_memory.check_batches(config)
    else:
        machine_memory.check_training(config)
    optimization = config.optimization
    optimization.optimizer(optimization.schedule(train_steps=optimization.train_steps))


@dataclasses.dataclass(frozen=True)
class TrainCost:
    """What a recipe trains, and at what cost. `flops` and `flops_per_step` are None where the data choose the lengths.

    `keeps_best` is whether the best checkpoint is there at the end.
    """

    settings: list[str]
    macros: dict[str, Any]
    parameters: int
    steps: int
    flops_per_step: int | None
    keeps_best: bool

    @property
    def flops(self) -> int | None:
        """The FLOPs of all train steps of the run."""
        return None if self.flops_per_step is None else self.steps * self.flops_per_step


def train_cost(gin_file: str, bindings: Sequence[str]) -> TrainCost:
    """Returns the cost of training from a recipe, which reads no data: earlier stages of a pipeline may make them.

    Must be called in the main thread, because gin has one configuration in each process. Raises UserError.
    """
    loaded = recipe.load([gin_file], bindings, command="train")
    config: TrainConfig = loaded.bindings(train.train)["config"]
    optimization, initial = config.optimization, config.initial_checkpoint
    relative = optimization.train_steps_relative
    steps = relative or num_train_steps(initial, optimization.train_steps)
    if steps is None:
        raise UserError("only its INITIAL_CHECKPOINT_PATH contains the step that it starts at; give INITIAL_STEP")
    check_config(config)
    parameters, flops_per_step = sum(map(math.prod, parameter_shapes(config.model.config).values())), None
    if config.dataset.task_feature_lengths is not None:
        parameters, flops_per_step = step_cost(config, config.dataset)
    keeps_best = config.checkpoints.keep_best or config.checkpoints.keep is None
    return TrainCost(loaded.settings(), loaded.macros, parameters, steps, flops_per_step, keeps_best)


def step_cost(config: TrainConfig, dataset: DatasetConfig) -> tuple[int, int]:
    """Returns the number of parameters, and the FLOPs of a train step.

    A loss that decodes a target several times counts as one of so many times the length, which is slightly more.
    """
    lengths = dataset.lengths()
    shape = dataset.batch_size, lengths["inputs"], lengths["targets"] * config.optimization.loss.decoder_passes
    return cost(config.model, *shape)  # pyright: ignore[reportArgumentType]  T5 hashes


def dataset_digests(macros: Mapping[str, Any]) -> list[str]:
    """Returns the digests of a recipe's DATASET, whose name may come to stand for other rows; none without one."""
    name, data_dir = macros.get("DATASET"), data_directory(None)
    if name is None or name.partition("-")[0] in CONFIGS:  # the rows of ListOps are those of its version
        return []
    if "ROWS" in macros:
        file = sample_datasets.descriptor_file(f"{name}_{'_'.join(parse_rows(macros['ROWS']))}", data_dir)
        descriptor = sample_datasets.read_descriptor(file)
    else:
        descriptor = read_descriptor(descriptor_file(name, data_dir))
    return [f"{split} {digest}" for split, digest in sorted(descriptor.digests.items())]


@functools.cache
def cost(model: T5, rows: int, inputs: int, targets: int) -> tuple[int, int]:
    """Returns the number of parameters, and the FLOPs of a train step of that many rows of such lengths.

    Traces the step with the whole output layer, and compiles nothing.
    """
    mesh = sharding.make_mesh(1)
    abstract = abstract_state(model.config, optax.identity(), mesh)
    with jax.set_mesh(mesh):
        traced = make_train_step(model, optax.identity(), Loss(), 0).trace(
            abstract, batch_shapes(mesh, rows, {"inputs": inputs, "targets": targets})
        )
    return sum(x.size for x in jax.tree.leaves(abstract.params)), flops.jaxpr_matmul_flops(traced.jaxpr.jaxpr)


def describe_cost(pending: Sequence[TrialPlan], done: Sequence[dict[str, Any]], jobs: int) -> str:
    """Describes the pending trials in a line: their FLOPs, and the time that `jobs` at once take."""
    if not pending:
        return "0 to do: all have results; --results=DIRECTORY makes new ones"
    work = sum(plan.flops for plan in pending) / 1e15
    here = [result for result in done if result["made_with"]["cpu"] == cpu()]
    seconds = seconds_of(pending, here) / min(jobs, len(pending))
    estimated = "" if here else ", estimated from the speed of this CPU"
    return f"{len(pending)} to do, {jobs} at a time: {format_number(work)} PFLOP, about {duration(seconds)}{estimated}"


def seconds_of(
    plans: Sequence[TrialPlan],
    here: Sequence[dict[str, Any]],
    peak: Callable[[str], float] = profiling.peak_flops_per_second,
) -> float:
    """Estimates the seconds of all trials, one after the other, from results of this machine.

    A trial takes as long as those of the same size and FLOPs, which differ in the seed. Without such, it has the speed
    of those of the same size, else of all, else FRACTION_OF_PEAK.
    """
    speed = FRACTION_OF_PEAK * peak("float32") / available_cores() if not here else 0.0

    def seconds(plan: TrialPlan) -> float:
        same_size = [result for result in here if result["parameters"] == plan.parameters]
        alike = [result for result in same_size if result["flops"] == plan.flops]
        known = alike or same_size or here
        flops, took = sum(result["flops"] for result in known), sum(_wall_seconds(result) for result in known)
        return plan.flops * took / flops if known else plan.flops / speed

    return sum(map(seconds, plans))


def _wall_seconds(result: dict[str, Any]) -> float:
    """Returns the seconds with evaluations; files of earlier versions have those of training alone."""
    return result.get("wall_seconds", result["seconds"])


def has_accelerator() -> bool:
    """Returns whether the runs use a GPU or TPU of this machine."""
    return os.environ.get("JAX_PLATFORMS") != "cpu" and any(map(glob.glob, ACCELERATORS))


def max_parallel_jobs(done: Sequence[dict[str, Any]]) -> int:
    """Returns how many runs fit at once: one per core, as many as free memory allows, and one on an accelerator."""
    if has_accelerator():
        return 1
    need = max((result["peak_bytes"] for result in done), default=MEMORY_A_RUN)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return available_cores()
    free = next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), need)
    return max(1, min(available_cores(), free // need))


def duration(seconds: float) -> str:
    """Formats seconds as seconds, minutes or hours, whichever has two digits or so."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:,.1f} h"
