"""Checkpoints of a run: orbax, one folder a step, with items params, opt_state and meta."""

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from explainft.errors import UserError
from explainft.t5 import T5Config
from explainft.token_cache import TokenCache

logging.getLogger("absl").setLevel(logging.ERROR)  # orbax narrates every save

META_SAME_RUN = ("model", "task")  # what must agree before a run is resumed


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When to save, and what to keep: the newest `keep`, and with `keep_best` the best by the evaluation's metric."""

    period: int = 1000
    keep: int | None = 1
    keep_best: bool = False


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
            found = self._meta(self.latest)
            for key in META_SAME_RUN:
                if found[key] != meta[key]:
                    self._manager.close()
                    raise UserError(
                        f"{model_dir} holds a run with {key} {found[key]}, not {meta[key]}; choose another MODEL_DIR"
                    )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def _meta(self, step: int) -> dict[str, Any]:
        return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    def save(self, step: int, params: Any, opt_state: Any, progress: dict[str, Any]) -> None:
        items = {
            "params": ocp.args.StandardSave(params),
            "opt_state": ocp.args.StandardSave(opt_state),
            "meta": ocp.args.JsonSave({**self._described, "progress": progress}),
        }
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, step: int, params: Any, opt_state: Any) -> tuple[Any, Any, dict[str, Any]]:
        """Parameters and optimizer state like the given ones, which may be mere shapes; and the run's progress."""
        items = {"params": ocp.args.StandardRestore(params), "opt_state": ocp.args.StandardRestore(opt_state)}
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        return restored["params"], restored["opt_state"], self._meta(step)["progress"]

    def prune(self, best_step: int | None) -> None:
        """Deletes what the configuration does not keep."""
        if self.config.keep is None:
            return
        self._manager.wait_until_finished()
        for step in sorted(self._manager.all_steps())[: -self.config.keep]:
            if not (self.config.keep_best and step == best_step):
                self._manager.delete(step)


def _manager(folder: Path, *, create: bool) -> ocp.CheckpointManager:
    # Reading leaves the folder untouched: it may be an installed package or somebody else's bucket.
    options = ocp.CheckpointManagerOptions(
        create=create, read_only=not create, step_prefix="checkpoint", cleanup_tmp_directories=create
    )
    return ocp.CheckpointManager(folder.absolute(), options=options, item_names=("params", "opt_state", "meta"))


def load(run: Path, step: int | None = None) -> tuple[dict[str, Any], Any, int]:
    """Meta, parameters (float32) and step of a run's checkpoint, the newest where no step is given."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{run} holds no checkpoints; give the MODEL_DIR of a run")
    manager = _manager(folder, create=False)
    steps = sorted(manager.all_steps())
    if step is None and steps:
        step = steps[-1]
    if step not in steps:
        raise UserError(f"{run} has no checkpoint of step {step}; it has {steps or 'none'}")
    meta = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
    # Restored onto this machine's first device, wherever the run had put them.
    local = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    saved = manager.item_metadata(step)["params"]
    abstract = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=local), saved)
    params = manager.restore(step, args=ocp.args.Composite(params=ocp.args.StandardRestore(abstract)))["params"]
    manager.close()
    assert step is not None
    return meta, jax.tree.map(lambda x: x.astype("float32"), params), step


def export(run: Path, destination: Path, step: int | None, dtype: str) -> None:
    """Writes a run's parameters and meta alone, as `dtype`, into a run folder of their own: what inference needs."""
    meta, params, step = load(run, step)
    if destination.exists():
        raise UserError(f"{destination} exists; name a new folder")
    manager = _manager(destination / "checkpoints", create=True)
    shutil.copyfile(run / "vocabulary.model", destination / "vocabulary.model")
    params = jax.tree.map(lambda x: x.astype(dtype), params)
    manager.save(step, args=ocp.args.Composite(params=ocp.args.StandardSave(params), meta=ocp.args.JsonSave(meta)))
    manager.wait_until_finished()
    manager.close()


def describe(model: T5Config, cache: TokenCache) -> dict[str, Any]:
    """The meta of a run's checkpoints: the network, and what it was trained to read and write."""
    return {
        "model": {**dataclasses.asdict(model), "mlp_activations": list(model.mlp_activations)},
        "task": cache.task,
        "extra_ids": cache.vocabulary.extra_ids,
        "lengths": cache.lengths(),
        "postprocess": cache.meta["postprocess"]["kwargs"],
    }


def model_of(meta: dict[str, Any]) -> T5Config:
    """The network that a checkpoint's meta describes."""
    fields = dict(meta["model"])
    return T5Config(**{**fields, "mlp_activations": tuple(fields["mlp_activations"])})
