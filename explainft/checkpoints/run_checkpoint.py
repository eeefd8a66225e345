"""Reading a checkpoint of a run, for inference, conversion or another run that starts from it."""

import contextlib
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from explainft.checkpoints import integrity
from explainft.checkpoints.metadata import read_metadata, read_model
from explainft.checkpoints.orbax_manager import DIRECTORY, open_manager, step_name
from explainft.checkpoints.orbax_tree import OrbaxTree
from explainft.checkpoints.weights import Weights
from explainft.core.errors import UserError


def open_run(run: Path, step: int | str | None = None) -> Weights:
    """Opens a checkpoint of a run, whose arrays are read and verified one at a time.

    `step`: a number, "best", or None for the latest. Raises UserError where there is no such checkpoint, or where its
    format is another, and CorruptCheckpoint where it is not what was written.
    """
    manager, chosen = _choose(run, step)
    with contextlib.closing(manager):
        meta = read_metadata(manager, chosen)
    origin = f"run {run}, step {chosen}"
    directory = epath.Path(run / DIRECTORY / step_name(chosen)).absolute()
    params, opt_state = OrbaxTree(directory / "params"), OrbaxTree(directory / "opt_state")
    with integrity.reading(run / DIRECTORY, chosen):
        shapes = params.shapes
        # Adafactor's state lies somewhere in a chain of transformations; an exported checkpoint has none.
        saved = opt_state.shapes if opt_state.directory.is_dir() else {}
    prefix = next((name.partition("v_row/")[0] for name in saved if "v_row/" in name), None)

    def read_verified(item: str, saved: OrbaxTree, name: str) -> np.ndarray:
        with integrity.reading(run / DIRECTORY, chosen):
            array = saved.read(name)
            integrity.check_array(meta, item, name, integrity.checksum(array))
            return array

    def read(name: str) -> np.ndarray:
        return read_verified("params", params, name)

    def read_slot(name: str, slot: str) -> np.ndarray:
        return read_verified("opt_state", opt_state, f"{prefix}{slot}/{name}")

    return Weights(
        origin=origin,
        parameters=shapes,
        read=read,
        step=chosen,
        read_slot=None if prefix is None else read_slot,
        vocabulary=run / "vocabulary.model",
        extra_ids=meta["extra_ids"],
        replacement=meta.get("replacement", False),
        config=read_model(meta, origin),
        meta=meta,
    )


def _choose(run: Path, step: int | str | None) -> tuple[ocp.CheckpointManager, int]:
    """Opens the checkpoints of a run, and returns the step that is meant."""
    directory = run / DIRECTORY
    if not directory.is_dir():
        raise UserError(f"{run} holds no checkpoints; give the MODEL_DIR of a run")
    manager = open_manager(directory, create=False)
    steps = sorted(manager.all_steps())
    if not steps:
        raise UserError(f"{run} holds no checkpoints yet; wait for the first save of the run")
    if step == "best":
        step = read_metadata(manager, steps[-1])["progress"]["best_step"]
        if step is None:
            raise UserError(f"{run} was never evaluated, so none of its checkpoints is the best; choose one of {steps}")
    chosen = steps[-1] if step is None else step
    if chosen not in steps:
        raise UserError(f"{run} has no checkpoint of step {chosen}; it has {steps}")
    assert isinstance(chosen, int)
    return manager, chosen
