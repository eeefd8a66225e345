"""Where a run starts: from its latest checkpoint, from an initial checkpoint, or from fresh parameters."""

import sys

import jax
import numpy as np
import optax

from explainft.checkpoints import convert
from explainft.checkpoints.block_expansion import expand_blocks
from explainft.checkpoints.checkpointer import Checkpointer
from explainft.checkpoints.progress import Progress
from explainft.checkpoints.weights import Weights, check_parameters, has_adafactor, put, read_parameters, restore_slots
from explainft.core.errors import UserError, require_positive
from explainft.model.config import T5Config
from explainft.parallel import sharding
from explainft.training.config import InitialCheckpoint
from explainft.training.train_state import TrainState, init_state


def starting_point(
    checkpointer: Checkpointer, initial: InitialCheckpoint, model: T5Config, relative: bool
) -> tuple[Weights | None, Progress]:
    """Returns the checkpoint that a new run starts from, and the progress of a run.

    Raises UserError where neither the checkpoint nor a setting contains the step that an absolute TRAIN_STEPS needs.
    """
    if checkpointer.latest is not None:
        return None, checkpointer.progress()
    if initial.path is None:
        return None, Progress()
    weights = convert.open_weights(initial.path)
    if initial.block_expansion:
        weights = expand_blocks(weights, model)
    step = weights.step if initial.step is None else initial.step
    if step is None and not relative:
        raise UserError(
            f"{weights.origin} does not contain its step, and TRAIN_STEPS includes pre-training; "
            "give its step as --gin.INITIAL_STEP=1000000, or the further steps alone as --gin.TRAIN_STEPS_RELATIVE=N"
        )
    return weights, Progress(first_step=step or 0)


def last_step(progress: Progress, train_steps: int, relative: int | None) -> int:
    """Returns the step at which training ends. Raises UserError where the initial checkpoint is past TRAIN_STEPS."""
    first = progress.first_step
    if relative is not None:
        require_positive(TRAIN_STEPS_RELATIVE=relative)
        return first + relative
    if first >= train_steps:
        raise UserError(
            f"TRAIN_STEPS={train_steps} includes the {first} steps of the initial checkpoint; "
            f"give --gin.TRAIN_STEPS={first + train_steps} or --gin.TRAIN_STEPS_RELATIVE={train_steps}"
        )
    return train_steps


def restore_or_init(
    checkpointer: Checkpointer,
    weights: Weights | None,
    step: int,
    model: T5Config,
    tx: optax.GradientTransformation,
    seed: int,
    abstract: TrainState,
) -> TrainState:
    """Restores the run's latest checkpoint, else the initial checkpoint, else initializes; sharded as `abstract` is."""
    if checkpointer.latest is not None:
        params, opt_state = checkpointer.restore(abstract.params, abstract.opt_state)
        return TrainState(put(np.int32(checkpointer.latest), abstract.step), params, opt_state)
    if weights is not None:
        check_parameters(weights, model)
        return state_from(weights, abstract, tx, step)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    devices = list(abstract.step.sharding.device_set)
    if len(devices) == 1 and not sharding.are_one_cpu(devices):
        # One parameter after the other: as one program, a GPU's compiler takes minutes for a large model's.
        return jax.device_put(init_state(model, tx, seed), shardings)
    # Compiled for the mesh, each device makes its own part: no device or host ever holds the whole of a large model.
    return jax.jit(lambda: init_state(model, tx, seed), out_shardings=shardings)()


def state_from(weights: Weights, abstract: TrainState, tx: optax.GradientTransformation, step: int) -> TrainState:
    """Returns a state at `step` with a checkpoint's parameters, and its Adafactor slots where it has them.

    Reports on standard error what was restored.
    """
    params = read_parameters(weights, abstract.params)
    shardings = jax.tree.map(lambda x: x.sharding, abstract.opt_state)
    opt_state = restore_slots(weights, jax.jit(tx.init, out_shardings=shardings)(params), step)
    n = sum(x.size for x in jax.tree.leaves(params))
    restored = has_adafactor(abstract.opt_state) and weights.read_slot is not None
    slots = "its optimizer slots" if restored else "fresh optimizer slots"
    print(f"starting at step {step:,} from {weights.origin}: {n:,} parameters, {slots}", file=sys.stderr)
    return TrainState(put(np.int32(step), abstract.step), params, opt_state)
