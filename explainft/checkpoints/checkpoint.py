"""Checkpoints of a run: orbax, one folder a step, with items params, opt_state and meta.

The meta of a step holds a checksum of each of its arrays and one of itself, so that corruption shows,
whatever orbax or the disk does. No second file has to be kept in sync with the first.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from explainft.checkpoints import integrity
from explainft.checkpoints.integrity import CorruptCheckpoint, with_digest
from explainft.checkpoints.orbax_tree import OrbaxTree
from explainft.checkpoints.progress import Progress
from explainft.checkpoints.weights import Weights
from explainft.core.atomic_files import atomic_write
from explainft.core.errors import UserError, require_positive
from explainft.data.token_cache import TokenCache
from explainft.data.vocabulary import Vocabulary
from explainft.model.config import T5Config
from explainft.model.parameters import named_leaves
from explainft.parallel import hosts

logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax narrates every save, and each thread that a full disk ends

META_SAME_RUN = ("model", "task", "data", "pieces")  # what must agree before a run is resumed
ITEMS = ("params", "opt_state")
Made = TypeVar("Made", T5Config, Progress)
CURE_OF_NAN = "lower LEARNING_RATE or set CLIP_NORM, and give the same command again"


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When to save, and what to keep: the newest `keep`, and with `keep_best` the best by the evaluation's metric.

    Of two, one is left where the other is found corrupt.
    """

    period: int = 1000
    keep: int | None = 2
    keep_best: bool = False

    def __post_init__(self):
        require_positive(CHECKPOINT_PERIOD=self.period)
        if self.keep is not None:
            require_positive(KEEP_CHECKPOINTS=self.keep)


class Checkpointer:
    """The checkpoints of one MODEL_DIR. A checkpoint appears when it is complete.

    `meta` describes the run (see `describe`). A corrupt checkpoint is named on standard error, and the one before it is
    the newest. Raises UserError where all are corrupt, where the folder holds another run or cannot be written.
    """

    def __init__(self, model_dir: Path, config: CheckpointConfig, meta: dict[str, Any]):
        self.config = config
        self._described = meta
        self._model_dir = model_dir
        self._corrupt: list[int] = []
        self.latest: int | None = None
        self._latest_meta: dict[str, Any] = {}
        folder = model_dir / "checkpoints"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._manager = _manager(folder, create=True)
        except OSError as e:
            raise UserError(
                f"cannot write MODEL_DIR={str(model_dir)!r} ({e.strerror}); choose a writable folder"
            ) from e
        try:
            self._choose(sorted(self._manager.all_steps()))
        except UserError:
            self._manager.close()
            raise

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            with self._writing():
                self._manager.close()
        except UserError:
            if error is None:  # a save that failed fails once more here; it was told already
                raise

    # ---- reading

    def progress(self) -> Progress:
        """What the run knew of its past at the newest checkpoint."""
        return _made(Progress, self._latest_meta["progress"])

    def check_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Refuses another than that of the run, whose tokens would mean something else from the next update on."""
        file = self._model_dir / "vocabulary.model"
        if self.latest is not None and file.is_file():
            difference = vocabulary.difference(Vocabulary(file, self._latest_meta["extra_ids"]))
            if difference:
                raise UserError(
                    f"{self._model_dir} holds a run with another vocabulary ({difference}); choose another MODEL_DIR"
                )

    def restore(self, params: Any, opt_state: Any) -> tuple[Any, Any]:
        """Parameters and optimizer state of the newest checkpoint, like the given ones, which may be mere shapes.

        `latest` says afterwards which that was: a corrupt one is quarantined under another name.
        """
        like = {"params": params, "opt_state": opt_state}
        while True:
            assert self.latest is not None
            self._check_same_optimizer(opt_state)
            try:
                if jax.process_count() > 1:
                    self._examine(self.latest)
                restored = self._restore(self.latest, like)
                break
            except CorruptCheckpoint as corruption:
                self._skip(corruption)
        self._quarantine()
        return restored["params"], restored["opt_state"]

    def _choose(self, steps: list[int]) -> None:
        """Makes the last of the steps the newest checkpoint."""
        if not steps:
            return
        self.latest = steps[-1]
        try:
            self._latest_meta = _read_meta(self._manager, self.latest)
        except CorruptCheckpoint as corruption:
            self._skip(corruption)
        else:
            self._check_same_run(self._latest_meta)

    def _skip(self, corruption: CorruptCheckpoint) -> None:
        earlier = [step for step in sorted(self._manager.all_steps()) if step < corruption.step]
        if not earlier:
            raise corruption
        print(f"{corruption.what}: resuming from checkpoint {earlier[-1]}", file=sys.stderr)
        self._corrupt.append(corruption.step)
        self._choose(earlier)

    def _check_same_run(self, found: dict[str, Any]) -> None:
        # A checkpoint that is older than a setting of the network was trained with its default.
        known = {f.name: f.default for f in dataclasses.fields(T5Config) if f.name in self._described.get("model", ())}
        found = {**found, "model": known | found.get("model", {})}
        for key in META_SAME_RUN:
            if found.get(key) != self._described[key]:
                differing = _difference(found.get(key), self._described[key])
                raise UserError(
                    f"{self._model_dir} holds a run with another {key}: {differing}; choose another MODEL_DIR"
                )

    def _check_same_optimizer(self, opt_state: Any) -> None:
        checksums = self._latest_meta.get("checksums", {})  # which checkpoints of an older format lack
        if checksums and "opt_state" not in checksums:
            raise UserError(
                f"MODEL_DIR={str(self._model_dir)!r} is an export, without the optimizer's state; choose another "
                f"MODEL_DIR, and start from this with --gin.INITIAL_CHECKPOINT_PATH={self._model_dir}"
            )
        if checksums and set(checksums["opt_state"]) != set(named_leaves(opt_state)):
            raise UserError(
                f"{self._model_dir} holds a run with another OPTIMIZER or CLIP_NORM; choose another MODEL_DIR"
            )

    def _restore(self, step: int, like: Mapping[str, Any]) -> Any:
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(tree) for item, tree in like.items()})
        with integrity.reading(self._manager.directory, step):
            restored = self._manager.restore(step, args=args)
            for item in ITEMS:
                for name, array in integrity.summaries(restored[item]).items():
                    integrity.check_array(self._latest_meta, item, name, array.checksum)
        return restored

    def _examine(self, step: int) -> None:
        """The first host reads the whole checkpoint, and tells the others: where one alone found its part corrupt and
        gave up, the others would wait for it in orbax.
        """
        corruption = None
        if hosts.writes():
            try:
                for item in ITEMS:
                    saved = OrbaxTree(epath.Path(self._manager.directory / f"checkpoint_{step}" / item))
                    with integrity.reading(self._manager.directory, step):
                        for name in saved.shapes:
                            found = integrity.checksum(saved.read(name))
                            integrity.check_array(self._latest_meta, item, name, found)
            except CorruptCheckpoint as e:
                corruption = e
        if multihost_utils.broadcast_one_to_all(np.array(corruption is not None)):
            raise corruption or CorruptCheckpoint(self._manager.directory, step, "found by the first host")

    def _quarantine(self) -> None:
        """Makes room for the same steps; only after an earlier one was restored, so that nothing else is the matter."""
        if not self._corrupt:
            return
        if hosts.writes():
            with self._writing():
                for step in self._corrupt:
                    aside = self._manager.directory / f"corrupt_checkpoint_{step}"
                    if aside.exists():
                        aside.rmtree()
                    (self._manager.directory / f"checkpoint_{step}").rename(aside)
        multihost_utils.sync_global_devices("corrupt checkpoints are quarantined")
        self._corrupt = []
        self._manager.reload()

    # ---- writing

    def save(self, step: int, params: Any, opt_state: Any, progress: Progress) -> None:
        """Saves. At the step of the newest checkpoint only the progress is new: its meta is replaced.

        Raises UserError where an array holds NaN or infinity, and where the disk is full.
        """
        if step == self.latest:
            self._replace_meta({**self._latest_meta, "progress": dataclasses.asdict(progress)})
            return
        found = {"params": integrity.summaries(params), "opt_state": integrity.summaries(opt_state)}
        bad = [name for item in found.values() for name, array in item.items() if not array.finite]
        if bad:
            raise UserError(f"{bad[0]} is not finite after step {step}; {self.last_good()}; {CURE_OF_NAN}")
        sums = {item: {name: array.checksum for name, array in arrays.items()} for item, arrays in found.items()}
        meta = with_digest({**self._described, "progress": dataclasses.asdict(progress), "checksums": sums})
        items = {
            "params": ocp.args.StandardSave(params),
            "opt_state": ocp.args.StandardSave(opt_state),
            "meta": ocp.args.JsonSave(meta),
        }
        with self._writing():
            saved = self._manager.save(step, args=ocp.args.Composite(**items))
            # Training waits: what a disk refuses is told at its step, and no older checkpoint goes before this is whole
            self._manager.wait_until_finished()
        assert saved, step
        self.latest, self._latest_meta = step, meta

    def _replace_meta(self, meta: dict[str, Any]) -> None:
        self._latest_meta = with_digest(meta)
        if hosts.writes():
            file = self._manager.directory / f"checkpoint_{self.latest}" / "meta" / "metadata"  # where JsonSave has it
            with self._writing(), atomic_write(Path(file)) as scratch:
                scratch.write_text(json.dumps(self._latest_meta))
        multihost_utils.sync_global_devices("meta is replaced")

    def prune(self, best_step: int | None) -> None:
        """Deletes what the configuration does not keep."""
        if self.config.keep is None:
            return
        with self._writing():
            for step in sorted(self._manager.all_steps())[: -self.config.keep]:
                if not (self.config.keep_best and step == best_step):
                    self._manager.delete(step)

    def last_good(self) -> str:
        """For an error's line: where a repaired run can go on."""
        steps = self._manager.all_steps()
        return f"the last good checkpoint is {max(steps)}" if steps else "no checkpoint was saved before"

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return integrity.in_one_line(
            lambda error: UserError(
                f"cannot write a checkpoint in {self._manager.directory} ({integrity.reason(error)}); "
                f"{self.last_good()}; make the folder writable or make room, and give the same command again"
            )
        )


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = [name for name in wanted if found.get(name) != wanted[name]]
        return ", ".join(f"{name} {found.get(name)!r} there, {wanted[name]!r} here" for name in names)
    return f"{found!r} there, {wanted!r} here"


def _read_meta(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """A checkpoint's meta as it was written. One of an older format has neither digest nor checksums."""
    with integrity.reading(manager.directory, step):
        meta = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        integrity.verify_digest(meta)
    return meta


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        """No: StopSignal alone asks JAX's service, which lets the processes stop where one certain question is asked.

        Orbax asks in each save, and a signal that came then would wait for a question that nobody repeats.
        """
        return False


def _manager(folder: Path, *, create: bool) -> ocp.CheckpointManager:
    # Reading leaves the folder untouched: it may be an installed package or somebody else's bucket.
    options = ocp.CheckpointManagerOptions(
        create=create, read_only=not create, step_prefix="checkpoint", cleanup_tmp_directories=create
    )
    return _Manager(folder.absolute(), options=options, item_names=("params", "opt_state", "meta"))


def _open(run: Path, step: int | str | None) -> tuple[ocp.CheckpointManager, int]:
    """A run's checkpoints, and which of them is meant."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{run} holds no checkpoints; give the MODEL_DIR of a run")
    manager = _manager(folder, create=False)
    steps = sorted(manager.all_steps())
    if not steps:
        raise UserError(f"{run} holds no checkpoints yet")
    if step == "best":
        step = _read_meta(manager, steps[-1])["progress"]["best_step"]
        if step is None:
            raise UserError(f"{run} was never evaluated, so none of its checkpoints is the best; it has {steps}")
    chosen = steps[-1] if step is None else step
    if chosen not in steps:
        raise UserError(f"{run} has no checkpoint of step {chosen}; it has {steps}")
    assert isinstance(chosen, int)
    return manager, chosen


def weights(run: Path, step: int | str | None = None) -> Weights:
    """A run's checkpoint, to be read one array at a time: a step's, the "best", or the newest (None)."""
    manager, chosen = _open(run, step)
    with contextlib.closing(manager):
        meta = _read_meta(manager, chosen)
    folder = epath.Path(run / "checkpoints" / f"checkpoint_{chosen}").absolute()
    params, opt_state = OrbaxTree(folder / "params"), OrbaxTree(folder / "opt_state")
    with integrity.reading(run / "checkpoints", chosen):
        shapes = params.shapes
        # Adafactor's state lies somewhere in a chain of transformations; an exported checkpoint has none.
        saved = opt_state.shapes if opt_state.folder.is_dir() else {}
    prefix = next((name.partition("v_row/")[0] for name in saved if "v_row/" in name), None)

    def verified(item: str, saved: OrbaxTree, name: str) -> np.ndarray:
        with integrity.reading(run / "checkpoints", chosen):
            array = saved.read(name)
            integrity.check_array(meta, item, name, integrity.checksum(array))
            return array

    def read(name: str) -> np.ndarray:
        return verified("params", params, name)

    def read_slot(name: str, slot: str) -> np.ndarray:
        return verified("opt_state", opt_state, f"{prefix}{slot}/{name}")

    return Weights(
        origin=f"run {run}, step {chosen}",
        parameters=shapes,
        read=read,
        step=chosen,
        read_slot=None if prefix is None else read_slot,
        vocabulary=run / "vocabulary.model",
        extra_ids=meta["extra_ids"],
        config=model_of(meta),
        meta=meta,
    )


def export(run: Path, destination: Path, step: int | str | None, dtype: str) -> None:
    """Writes a run's parameters and meta alone, as `dtype`, into a run folder of their own: what inference needs."""
    if destination.exists():
        raise UserError(f"{destination} exists; name a new folder")
    found = weights(run, step)
    vocabulary = found.tokenizer()
    assert found.step is not None
    params = jax.tree.map(lambda x: x.astype(dtype), found.tree())
    scratch = destination.with_name(f"{destination.name}.{os.getpid()}.incomplete")
    try:
        with integrity.writing(destination):
            scratch.mkdir(parents=True)
            shutil.copyfile(vocabulary.path, scratch / "vocabulary.model")
            with contextlib.closing(_manager(scratch / "checkpoints", create=True)) as manager:
                sums = {name: array.checksum for name, array in integrity.summaries(params).items()}
                meta = with_digest({**found.meta, "checksums": {"params": sums}})
                items = ocp.args.Composite(params=ocp.args.StandardSave(params), meta=ocp.args.JsonSave(meta))
                manager.save(found.step, args=items)
                manager.wait_until_finished()
            for marker in scratch.rglob("commit_success.txt"):
                marker.write_text("")  # orbax notes the folder's path in it, which is about to change
            scratch.rename(destination)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def describe(config: T5Config, cache: TokenCache) -> dict[str, Any]:
    """The meta of a run's checkpoints: the network, and what it was trained to read and write."""
    return {
        "model": {**dataclasses.asdict(config), "mlp_activations": list(config.mlp_activations)},
        "task": cache.task,
        "extra_ids": cache.vocabulary.extra_ids,
        "lengths": cache.lengths(),
        "postprocess": (cache.meta["postprocess"] or {}).get("kwargs", {}),
        "next_input": cache.meta["next_input"],
    }


def model_of(meta: dict[str, Any]) -> T5Config:
    """The network that a checkpoint's meta describes."""
    fields = dict(meta["model"])
    return _made(T5Config, {**fields, "mlp_activations": tuple(fields["mlp_activations"])})


def _made(kind: type[Made], fields: Mapping[str, Any]) -> Made:
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := fields.keys() - known:
        raise UserError(f"the checkpoint was written by a newer explainft ({min(unknown)!r} is unknown); upgrade it")
    return kind(**fields)
