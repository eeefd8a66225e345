"""Exporting a run: what inference needs of it, in a directory of its own."""

import contextlib
import shutil
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from explainft.checkpoints import integrity
from explainft.checkpoints.orbax_manager import DIRECTORY, open_manager
from explainft.checkpoints.run_checkpoint import open_run
from explainft.core.atomic_files import new_directory, put_in_place
from explainft.core.errors import UserError


def export_run(run: Path, destination: Path, step: int | str | None, dtype: str) -> None:
    """Writes the parameters of a checkpoint as `dtype`, its metadata and its vocabulary into a new run directory.

    `step`: as in open_run. Raises UserError where the destination exists or cannot be written.
    """
    if destination.exists():
        raise UserError(f"{destination} exists; choose a new directory")
    weights = open_run(run, step)
    vocabulary = weights.tokenizer()
    assert weights.step is not None
    params = jax.tree.map(lambda x: x.astype(dtype), weights.tree())
    with integrity.writing(destination), new_directory(destination) as scratch:
        shutil.copyfile(vocabulary.path, scratch / "vocabulary.model")
        with contextlib.closing(open_manager(scratch / DIRECTORY, create=True)) as manager:
            sums = {name: array.checksum for name, array in integrity.summaries(params).items()}
            meta = integrity.with_digest({**weights.meta, "checksums": {"params": sums}})
            items = ocp.args.Composite(params=ocp.args.StandardSave(params), meta=ocp.args.JsonSave(meta))
            manager.save(weights.step, args=items)
            manager.wait_until_finished()
        for marker in scratch.rglob("commit_success.txt"):
            marker.write_text("")  # orbax writes the directory's path into it, which is about to change
        put_in_place(scratch, destination)
