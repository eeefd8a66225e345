"""Orbax's CheckpointManager, set up for a run: a directory for each step, with items params, opt_state and meta."""

import logging
from pathlib import Path

import orbax.checkpoint as ocp

# Orbax logs every save, and each thread and asynchronous task that a full disk ends; the error itself is raised.
logging.getLogger("absl").setLevel(logging.CRITICAL)
logging.getLogger("asyncio").addFilter(lambda record: "orbax" not in record.getMessage())

DIRECTORY = "checkpoints"  # in a run's directory
ITEMS = ("params", "opt_state")
PREFIX = "checkpoint"


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        """Returns False: StopSignal alone asks JAX's service, which lets the processes stop at one certain step.

        Orbax asks in each save, and a signal that came then would wait for a question that is never repeated.
        """
        return False


def open_manager(directory: Path, *, create: bool) -> ocp.CheckpointManager:
    """Opens a directory of checkpoints. Without `create` nothing in it changes: it may be an installed package."""
    options = ocp.CheckpointManagerOptions(
        create=create, read_only=not create, step_prefix=PREFIX, cleanup_tmp_directories=create
    )
    return _Manager(directory.absolute(), options=options, item_names=(*ITEMS, "meta"))


def step_name(step: int) -> str:
    """Returns the name of a step's directory."""
    return f"{PREFIX}_{step}"


def parse_step(name: str) -> int | None:
    """Returns the step that a directory's name stands for; None for any other name."""
    number = name.removeprefix(f"{PREFIX}_")
    return int(number) if number != name and number.isdecimal() else None
