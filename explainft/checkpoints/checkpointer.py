"""The checkpoints of a run: when they are saved, which are kept, and which one a run resumes from.

Orbax keeps a directory for each step, with items params, opt_state and meta. The metadata of a step holds a checksum of
each of its arrays and a digest of itself, so that corruption is detected, whatever orbax or the disk does. No second
file has to be kept in sync with the first.
"""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from explainft.checkpoints import integrity
from explainft.checkpoints.integrity import CorruptCheckpoint
from explainft.checkpoints.metadata import find_difference, read_metadata, read_progress
from explainft.checkpoints.orbax_manager import DIRECTORY, ITEMS, open_manager, step_name
from explainft.checkpoints.orbax_tree import OrbaxTree
from explainft.checkpoints.progress import Progress
from explainft.core.atomic_files import atomic_write
from explainft.core.errors import UserError, require_positive
from explainft.data.vocabulary import Vocabulary
from explainft.model.parameters import named_leaves
from explainft.parallel import hosts

NOT_FINITE_HINT = "lower LEARNING_RATE or set CLIP_NORM, then rerun the same command to resume"


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When to save, and what to keep: the latest `keep`, and with `keep_best` the best by the evaluation's metric.

    With two or more, one is left where another is found corrupt.
    """

    period: int = 1000
    keep: int | None = 2
    keep_best: bool = False

    def __post_init__(self):
        require_positive(CHECKPOINT_PERIOD=self.period)
        if self.keep is not None:
            require_positive(KEEP_CHECKPOINTS=self.keep)


class Checkpointer:
    """Saves and restores the checkpoints of one MODEL_DIR. A checkpoint appears when it is complete.

    `meta` describes the run (see metadata.describe_settings); `describe_run` completes it before the first save.
    `latest` is the step of the latest checkpoint, None before the first. A corrupt checkpoint is reported on standard
    error and skipped: the one before it is the latest then. Raises UserError where all are corrupt, where the directory
    holds another run or a run of another format, or where it cannot be written.
    """

    def __init__(self, model_dir: Path, config: CheckpointConfig, meta: dict[str, Any]):
        self.config = config
        self._description = meta
        self._model_dir = model_dir
        self._corrupt: list[int] = []
        self.latest: int | None = None
        self._latest_meta: dict[str, Any] = {}
        directory = model_dir / DIRECTORY
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._manager = open_manager(directory, create=True)
        except OSError as e:
            raise UserError(
                f"cannot write MODEL_DIR={str(model_dir)!r} ({e.strerror}); choose a writable directory"
            ) from e
        try:
            self._select_latest(sorted(self._manager.all_steps()))
        except UserError:
            self._manager.close()
            raise

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            with self._report_write_errors():
                self._manager.close()
        except UserError:
            if error is None:  # a save that failed fails once more here; it was reported already
                raise

    # ---- reading

    @property
    def latest_meta(self) -> Mapping[str, Any]:
        """The metadata of the latest checkpoint; empty where there is none."""
        return self._latest_meta

    def progress(self) -> Progress:
        """Returns the progress of the run at the latest checkpoint."""
        return read_progress(self._latest_meta, f"checkpoint {self.latest} in {self._manager.directory}")

    def describe_run(self, meta: dict[str, Any]) -> None:
        """Completes the description of the run by what its data specify. Raises UserError for those of another run."""
        self._description = meta
        if self.latest is not None:
            self._check_same_run()

    def check_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Refuses another vocabulary than that of the run: from the next step on its tokens would mean another text."""
        file = self._model_dir / "vocabulary.model"
        if self.latest is not None and file.is_file():
            meta = self._latest_meta
            difference = vocabulary.difference(Vocabulary(file, meta["extra_ids"], meta.get("replacement", False)))
            if difference:
                raise UserError(
                    f"{self._model_dir} holds a run with another vocabulary ({difference}); choose another MODEL_DIR"
                )

    def restore(self, params: Any, opt_state: Any) -> tuple[Any, Any]:
        """Restores parameters and optimizer state of the latest checkpoint, with the shapes and shardings given.

        A corrupt checkpoint is quarantined under another name; `latest` is the step that was restored.
        """
        abstract = {"params": params, "opt_state": opt_state}
        while True:
            assert self.latest is not None
            self.check_optimizer(opt_state)
            try:
                if jax.process_count() > 1:
                    self._verify_on_first_host(self.latest)
                restored = self._restore(self.latest, abstract)
                break
            except CorruptCheckpoint as corruption:
                self._skip(corruption)
        self._quarantine()
        return restored["params"], restored["opt_state"]

    def _select_latest(self, steps: list[int]) -> None:
        if not steps:
            return
        self.latest = steps[-1]
        try:
            self._latest_meta = read_metadata(self._manager, self.latest)
        except CorruptCheckpoint as corruption:
            self._skip(corruption)
        else:
            self._check_same_run()

    def _skip(self, corruption: CorruptCheckpoint) -> None:
        earlier = [step for step in sorted(self._manager.all_steps()) if step < corruption.step]
        if not earlier:
            raise corruption
        print(f"{corruption.what}: resuming from checkpoint {earlier[-1]}", file=sys.stderr)
        self._corrupt.append(corruption.step)
        self._select_latest(earlier)

    def _check_same_run(self) -> None:
        if difference := find_difference(self._latest_meta, self._description):
            raise UserError(f"{self._model_dir} holds a run with {difference}; choose another MODEL_DIR")

    def check_optimizer(self, opt_state: Any) -> None:
        """Refuses an optimizer whose state is not that of the latest checkpoint; shapes suffice."""
        if self.latest is None:
            return
        checksums = self._latest_meta["checksums"]
        if "opt_state" not in checksums:
            raise UserError(
                f"MODEL_DIR={str(self._model_dir)!r} is an export, without an optimizer state; choose another "
                f"MODEL_DIR, and start from this with --gin.INITIAL_CHECKPOINT_PATH={self._model_dir}"
            )
        if set(checksums["opt_state"]) != set(named_leaves(opt_state)):
            raise UserError(
                f"{self._model_dir} holds a run with another OPTIMIZER or CLIP_NORM; choose another MODEL_DIR"
            )

    def _restore(self, step: int, abstract: Mapping[str, Any]) -> Any:
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(tree) for item, tree in abstract.items()})
        with integrity.reading(self._manager.directory, step):
            restored = self._manager.restore(step, args=args)
            for item in ITEMS:
                for name, array in integrity.summaries(restored[item]).items():
                    integrity.check_array(self._latest_meta, item, name, array.checksum)
        return restored

    def _verify_on_first_host(self, step: int) -> None:
        """Reads the whole checkpoint on the first host, and broadcasts whether it is corrupt.

        If one host alone found its part corrupt and gave up, the others would wait for it in orbax.
        """
        corruption = None
        if hosts.writes():
            try:
                for item in ITEMS:
                    saved = OrbaxTree(epath.Path(self._manager.directory / step_name(step) / item))
                    with integrity.reading(self._manager.directory, step):
                        for name in saved.shapes:
                            found = integrity.checksum(saved.read(name))
                            integrity.check_array(self._latest_meta, item, name, found)
            except CorruptCheckpoint as e:
                corruption = e
        if multihost_utils.broadcast_one_to_all(np.array(corruption is not None)):
            raise corruption or CorruptCheckpoint(self._manager.directory, step, "found by the first host")

    def _quarantine(self) -> None:
        """Renames corrupt checkpoints, so that their steps can be saved again.

        Only after an earlier one was restored: then nothing else is wrong.
        """
        if not self._corrupt:
            return
        if hosts.writes():
            with self._report_write_errors():
                for step in self._corrupt:
                    quarantined = self._manager.directory / f"corrupt_{step_name(step)}"
                    if quarantined.exists():
                        quarantined.rmtree()
                    (self._manager.directory / step_name(step)).rename(quarantined)
        multihost_utils.sync_global_devices("corrupt checkpoints are quarantined")
        self._corrupt = []
        self._manager.reload()

    # ---- writing

    def save(self, step: int, params: Any, opt_state: Any, progress: Progress) -> None:
        """Saves a checkpoint. At the step of the latest one only its progress is replaced.

        Raises UserError where an array holds NaN or infinity, and where the disk is full.
        """
        if step == self.latest:
            self._replace_meta({**self._latest_meta, "progress": dataclasses.asdict(progress)})
            return
        found = {"params": integrity.summaries(params), "opt_state": integrity.summaries(opt_state)}
        bad = [name for item in found.values() for name, array in item.items() if not array.finite]
        if bad:
            raise UserError(f"{bad[0]} is not finite after step {step}; {self.last_good()}; {NOT_FINITE_HINT}")
        sums = {item: {name: array.checksum for name, array in arrays.items()} for item, arrays in found.items()}
        meta = integrity.with_digest({**self._description, "progress": dataclasses.asdict(progress), "checksums": sums})
        items = {
            "params": ocp.args.StandardSave(params),
            "opt_state": ocp.args.StandardSave(opt_state),
            "meta": ocp.args.JsonSave(meta),
        }
        with self._report_write_errors():
            saved = self._manager.save(step, args=ocp.args.Composite(**items))
            # Training waits: an error of the disk is raised at its step, and no older checkpoint is deleted before.
            self._manager.wait_until_finished()
        assert saved, step
        self.latest, self._latest_meta = step, meta

    def _replace_meta(self, meta: dict[str, Any]) -> None:
        assert self.latest is not None
        self._latest_meta = integrity.with_digest(meta)
        if hosts.writes():
            file = self._manager.directory / step_name(self.latest) / "meta" / "metadata"  # where JsonSave writes it
            with self._report_write_errors(), atomic_write(Path(file)) as scratch:
                scratch.write_text(json.dumps(self._latest_meta))
        multihost_utils.sync_global_devices("meta is replaced")

    def prune(self, best_step: int | None) -> None:
        """Deletes the checkpoints that the config does not keep."""
        if self.config.keep is None:
            return
        with self._report_write_errors():
            for step in sorted(self._manager.all_steps())[: -self.config.keep]:
                if not (self.config.keep_best and step == best_step):
                    self._manager.delete(step)

    def last_good(self) -> str:
        """Returns a phrase for error messages: the checkpoint that a run can resume from."""
        steps = self._manager.all_steps()
        return f"the last good checkpoint is {max(steps)}" if steps else "no checkpoint was saved before"

    def _report_write_errors(self) -> contextlib.AbstractContextManager[None]:
        return integrity.in_one_line(
            lambda error: UserError(
                f"cannot write a checkpoint in {self._manager.directory} ({integrity.reason(error)}); "
                f"{self.last_good()}; make the directory writable or free space, then rerun the same command to resume"
            )
        )
