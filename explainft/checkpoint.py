"""Checkpoints of a run: orbax, one folder a step, with items params, opt_state and meta."""

import contextlib
import dataclasses
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from explainft.errors import UserError, require_positive
from explainft.orbax_tree import OrbaxTree
from explainft.t5 import T5Config
from explainft.token_cache import TokenCache
from explainft.weights import Weights

logging.getLogger("absl").setLevel(logging.ERROR)  # orbax narrates every save

COMPILATION = ("remat_policy", "scan_layers")  # of T5Config: how it is compiled, not what it is
META_SAME_RUN = ("model", "task", "data")  # what must agree before a run is resumed


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When to save, and what to keep: the newest `keep`, and with `keep_best` the best by the evaluation's metric."""

    period: int = 1000
    keep: int | None = 1
    keep_best: bool = False

    def __post_init__(self):
        require_positive(CHECKPOINT_PERIOD=self.period)
        if self.keep is not None:
            require_positive(KEEP_CHECKPOINTS=self.keep)


class Checkpoints:
    """The checkpoints of one MODEL_DIR. Saving is asynchronous; a checkpoint appears when it is complete.

    `meta` describes the run (see `describe`). Raises UserError where the folder holds another run or cannot be written.
    """

    def __init__(self, model_dir: Path, config: CheckpointConfig, meta: dict[str, Any]):
        self.config = config
        self._described = meta
        folder = model_dir / "checkpoints"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(
                f"cannot write MODEL_DIR={str(model_dir)!r} ({e.strerror}); choose a writable folder"
            ) from e
        self._manager = _manager(folder, create=True)
        self.latest = self._manager.latest_step()
        if self.latest is not None:
            try:
                self._check_same_run(model_dir, self._read_meta(self.latest))
            except UserError:
                self._manager.close()
                raise

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def _check_same_run(self, model_dir: Path, found: dict[str, Any]) -> None:
        for key in META_SAME_RUN:
            if found.get(key) != self._described[key]:
                differing = _difference(found.get(key), self._described[key])
                raise UserError(f"{model_dir} holds a run with another {key}: {differing}; choose another MODEL_DIR")

    def _read_meta(self, step: int) -> dict[str, Any]:
        with _readable(self._manager.directory, step):
            return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    def save(self, step: int, params: Any, opt_state: Any, progress: dict[str, Any]) -> None:
        items = {
            "params": ocp.args.StandardSave(params),
            "opt_state": ocp.args.StandardSave(opt_state),
            "meta": ocp.args.JsonSave({**self._described, "progress": progress}),
        }
        self._manager.save(step, args=ocp.args.Composite(**items))

    def progress(self, step: int) -> dict[str, Any]:
        """What the run knew of its past at that step."""
        return self._read_meta(step)["progress"]

    def restore(self, step: int, params: Any, opt_state: Any) -> tuple[Any, Any]:
        """Parameters and optimizer state like the given ones, which may be mere shapes."""
        items = {"params": ocp.args.StandardRestore(params), "opt_state": ocp.args.StandardRestore(opt_state)}
        with _readable(self._manager.directory, step, ", or it was trained with another OPTIMIZER or CLIP_NORM"):
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        return restored["params"], restored["opt_state"]

    def prune(self, best_step: int | None) -> None:
        """Deletes what the configuration does not keep."""
        if self.config.keep is None:
            return
        self._manager.wait_until_finished()
        for step in sorted(self._manager.all_steps())[: -self.config.keep]:
            if not (self.config.keep_best and step == best_step):
                self._manager.delete(step)


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = [name for name in wanted if found.get(name) != wanted[name]]
        return ", ".join(f"{name} {found.get(name)!r} there, {wanted[name]!r} here" for name in names)
    return f"{found!r} there, {wanted!r} here"


@contextlib.contextmanager
def _readable(folder: os.PathLike[str], step: int, or_else: str = "") -> Iterator[None]:
    """orbax reports what is missing or damaged in many ways and many lines."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(
            f"checkpoint {step} in {folder} is damaged{or_else}; choose another one, or copy it again"
        ) from e


def _manager(folder: Path, *, create: bool) -> ocp.CheckpointManager:
    # Reading leaves the folder untouched: it may be an installed package or somebody else's bucket.
    options = ocp.CheckpointManagerOptions(
        create=create, read_only=not create, step_prefix="checkpoint", cleanup_tmp_directories=create
    )
    return ocp.CheckpointManager(folder.absolute(), options=options, item_names=("params", "opt_state", "meta"))


_READ_META = ocp.args.Composite(meta=ocp.args.JsonRestore())


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
        with _readable(folder, steps[-1]):
            step = manager.restore(steps[-1], args=_READ_META)["meta"]["progress"]["best_step"]
    chosen = steps[-1] if step is None else step
    if chosen not in steps:
        raise UserError(f"{run} has no checkpoint of step {chosen}; it has {steps}")
    assert isinstance(chosen, int)
    return manager, chosen


def weights(run: Path, step: int | str | None = None) -> Weights:
    """A run's checkpoint, to be read one array at a time: a step's, the "best", or the newest (None)."""
    manager, chosen = _open(run, step)
    with _readable(run / "checkpoints", chosen), contextlib.closing(manager):
        meta = manager.restore(chosen, args=_READ_META)["meta"]
    folder = epath.Path(run / "checkpoints" / f"checkpoint_{chosen}").absolute()
    params, opt_state = OrbaxTree(folder / "params"), OrbaxTree(folder / "opt_state")
    with _readable(run / "checkpoints", chosen):
        shapes = params.shapes
        # Adafactor's state lies somewhere in a chain of transformations; an exported checkpoint has none.
        saved = opt_state.shapes if opt_state.folder.is_dir() else {}
    prefix = next((name.partition("v_row/")[0] for name in saved if "v_row/" in name), None)

    def read(name: str) -> np.ndarray:
        with _readable(run / "checkpoints", chosen):
            return params.read(name)

    def read_slot(name: str, slot: str) -> np.ndarray:
        with _readable(run / "checkpoints", chosen):
            return opt_state.read(f"{prefix}{slot}/{name}")

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
        scratch.mkdir(parents=True)
        shutil.copyfile(vocabulary.path, scratch / "vocabulary.model")
        with contextlib.closing(_manager(scratch / "checkpoints", create=True)) as manager:
            items = ocp.args.Composite(params=ocp.args.StandardSave(params), meta=ocp.args.JsonSave(dict(found.meta)))
            manager.save(found.step, args=items)
            manager.wait_until_finished()
        for marker in scratch.rglob("commit_success.txt"):
            marker.write_text("")  # orbax notes the folder's path in it, which is about to change
        scratch.rename(destination)
    except OSError as e:
        raise UserError(f"cannot write {destination} ({e.strerror}); name a new folder in a writable one") from e
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def describe(model: T5Config, cache: TokenCache) -> dict[str, Any]:
    """The meta of a run's checkpoints: the network, and what it was trained to read and write."""
    network = {**dataclasses.asdict(model), "mlp_activations": list(model.mlp_activations)}
    for choice in COMPILATION:
        del network[choice]
    return {
        "model": network,
        "task": cache.task,
        "extra_ids": cache.vocabulary.extra_ids,
        "lengths": cache.lengths(),
        "postprocess": (cache.meta["postprocess"] or {}).get("kwargs", {}),
    }


def model_of(meta: dict[str, Any]) -> T5Config:
    """The network that a checkpoint's meta describes."""
    fields = dict(meta["model"])
    return T5Config(**{**fields, "mlp_activations": tuple(fields["mlp_activations"])})
