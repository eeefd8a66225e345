"""What the trials of a sweep will cost, before any of them is trained, and how many run at once."""

import functools
import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import optax
from tqdm import tqdm

from explainft.core.errors import UserError
from explainft.core.process_pool import available_cores
from explainft.data import token_cache
from explainft.model import flops
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.planning.plan import num_train_steps
from explainft.planning.plan_text import format_number
from explainft.planning.programs import batch_shapes
from explainft.recipes import recipe
from explainft.sweeps.trial import Trial, TrialPlan, cpu
from explainft.training import profiling, train
from explainft.training.config import TrainConfig
from explainft.training.context import choose_lengths
from explainft.training.train_state import abstract_state
from explainft.training.train_step import make_train_step

ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/accel[0-9]*", "/dev/vfio/[0-9]*")  # as Linux names a GPU and TPUs
MEMORY_A_RUN = 2 * 2**30  # bytes, until the first trial of a sweep is measured
FRACTION_OF_PEAK = 0.3  # of the measured FLOP/s: of a small network on a CPU, until the first trial is measured


def make_trial_plans(trials: Sequence[Trial]) -> dict[str, TrialPlan]:
    """By the trials' names; every macro is read now, not after hours of other trials. To be called in the main thread:
    gin's settings are those of the process.
    """
    found = {}
    for trial in tqdm(trials, desc="reading the recipes", unit=" trials", disable=None, leave=False):
        bindings = ["MODEL_DIR=run", *(f"{name}={value}" for name, value in trial.macros.items())]
        loaded = recipe.load([trial.gin_file], bindings, command="train")
        config: TrainConfig = loaded.bindings(train.train)["config"]
        dataset, optimization = config.dataset, config.optimization
        steps = optimization.train_steps
        updates = num_train_steps(config.initial_checkpoint, steps)
        if updates is None or optimization.train_steps_relative is not None:
            raise UserError(
                f"trial {trial.name} starts at a step that only its INITIAL_CHECKPOINT_PATH tells; "
                "give INITIAL_STEP, and with it TRAIN_STEPS, not TRAIN_STEPS_RELATIVE"
            )
        optimization.optimizer(optimization.schedule(train_steps=steps))  # they refuse what they cannot be
        load = functools.partial(token_cache.load, task_module=dataset.module, vocabulary_file=dataset.vocabulary_file)
        lengths = choose_lengths(dataset, load).lengths()
        shape = dataset.batch_size, lengths["inputs"], lengths["targets"]
        parameters, flops_an_update = cost(config.model, *shape)  # pyright: ignore[reportArgumentType]  T5 hashes
        found[trial.name] = TrialPlan(
            loaded.hash(),
            loaded.hash(*trial.mixtures),
            config.evaluation.mixture_or_task_name,
            steps,
            parameters,
            updates * flops_an_update,
        )
    return found


@functools.cache
def cost(model: T5, rows: int, inputs: int, targets: int) -> tuple[int, int]:
    """Parameters, and FLOPs of an update by so many rows: traced, not compiled, with the whole output layer."""
    mesh = sharding.make_mesh(1)
    like = abstract_state(model.config, optax.identity(), mesh)
    with jax.set_mesh(mesh):
        traced = make_train_step(model, optax.identity(), Loss(), 0).trace(
            like, batch_shapes(mesh, rows, {"inputs": inputs, "targets": targets})
        )
    return sum(x.size for x in jax.tree.leaves(like.params)), flops.jaxpr_matmul_flops(traced.jaxpr.jaxpr)


def describe_cost(pending: Sequence[TrialPlan], done: Sequence[dict[str, Any]], jobs: int) -> str:
    """How much there is to do, and how long that takes `jobs` at a time."""
    if not pending:
        return "0 to do: their results are there, and --results=FOLDER makes others"
    work = sum(plan.flops for plan in pending) / 1e15
    here = [result for result in done if result["made_with"]["cpu"] == cpu()]
    seconds = seconds_of(pending, here) / min(jobs, len(pending))
    guessed = "" if here else ", a guess from the speed of this CPU"
    return f"{len(pending)} to do, {jobs} at a time: {format_number(work)} PFLOP, about {duration(seconds)}{guessed}"


def seconds_of(
    plans: Sequence[TrialPlan],
    here: Sequence[dict[str, Any]],
    peak: Callable[[str], float] = profiling.peak_flops_per_second,
) -> float:
    """Of doing all trials one after the other, from results of this machine: as long as the trials of the same size
    and FLOPs took, which differ in the seed; else at the speed of those of the same size, of all, or as a guess.
    """
    guess = FRACTION_OF_PEAK * peak("float32") / available_cores() if not here else 0.0

    def seconds(plan: TrialPlan) -> float:
        same_size = [result for result in here if result["parameters"] == plan.parameters]
        alike = [result for result in same_size if result["flops"] == plan.flops]
        known = alike or same_size or here
        flops, took = sum(result["flops"] for result in known), sum(_wall_seconds(result) for result in known)
        return plan.flops * took / flops if known else plan.flops / guess

    return sum(map(seconds, plans))


def _wall_seconds(result: dict[str, Any]) -> float:
    """With evaluations, where the file tells; files of earlier versions have the updates' seconds alone."""
    return result.get("wall_seconds", result["seconds"])


def max_parallel_jobs(done: Sequence[dict[str, Any]]) -> int:
    """As many runs as there are cores, and as the memory that is free has room for, where Linux tells; one where
    there is an accelerator."""
    if os.environ.get("JAX_PLATFORMS") != "cpu" and any(map(glob.glob, ACCELERATORS)):
        return 1
    need = max((result["peak_bytes"] for result in done), default=MEMORY_A_RUN)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return available_cores()
    free = next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), need)
    return max(1, min(available_cores(), free // need))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:,.1f} h"
