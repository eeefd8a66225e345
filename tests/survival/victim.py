"""A short run in a process of its own, which tells in a file what it is doing.

Its argument is a JSON object: `folder` (MODEL_DIR), `data` (datasets), `diary` (that file), `compiled` (JAX's cache of
compiled programs), `terminal` (whether standard input is one, which it takes as its own), and `changes` to the fields
of train().
"""

import functools
import json
import os
import signal
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_CPU_ENABLE_ASYNC_DISPATCH"] = "false"

import jax

from explainft.checkpoints.checkpointer import CheckpointConfig, Checkpointer
from explainft.core.errors import UserError
from explainft.data.batches import Batches
from explainft.evaluation import evaluate
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.model.config import T5Config
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.training import hooks, optimizers, profiling
from explainft.training.config import DatasetConfig
from explainft.training.run_directory import RunDirectory
from tests.helpers.training import start

MODEL = T5Config(
    vocab_size=160,
    emb_dim=32,  # so that arrays, not names, fill most of a checkpoint
    num_heads=1,
    num_encoder_layers=1,
    num_decoder_layers=1,
    head_dim=8,
    mlp_dim=16,
    dropout_rate=0.1,
)
EVAL_TASK = "explained_tiny_short_eval_validation_compact"
STEPS = 30


def run(folder: Path, data_dir: str, **changes) -> signal.Signals | None:
    settings = dict(
        model=T5(MODEL),
        optimizer=optimizers.adamw,
        schedule=functools.partial(optimizers.learning_rate, "constant", 1e-2, 2),
        dataset=DatasetConfig("explained_tiny_short_compact", {"inputs": 32, "targets": 48}, batch_size=48, seed=1),
        evaluation=EvaluationConfig(EVAL_TASK, period=5, eval_steps=5, batch_size=4),
        checkpoints=CheckpointConfig(period=4, keep=2),
        loss=Loss(),
        log_period=3,
        seed=1,
    )
    return start(folder, data_dir, changes.pop("train_steps", STEPS), **{**settings, **changes})


def telling(diary: Path) -> None:
    """Each change of phase becomes a line of the diary: starting, training, saving, evaluating; and `resumed at STEP`.

    Starting, which restores and compiles, ends with the first update.
    """
    lines = open(diary, "a", buffering=1)  # noqa: SIM115  open to the end
    phase = ""

    def tell(now: str) -> None:
        nonlocal phase
        if now != phase:
            phase = now
            lines.write(now + "\n")

    def during(owner, name: str, now: str, afterwards: str | None = None) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            tell(now)
            result = function(*args, **kwargs)
            if afterwards:
                tell(afterwards)
            return result

        setattr(owner, name, wrapped)

    tell("starting")
    asked = 0

    def count(self: Batches, step: int) -> dict:
        nonlocal asked
        asked += 1
        if asked > 1:
            tell("training")
        return batch(self, step)

    batch, Batches.__getitem__ = Batches.__getitem__, count
    during(hooks, "evaluate_loss", "evaluating")
    during(evaluate, "evaluate_tasks", "evaluating", "training")
    during(Checkpointer, "save", "saving")
    during(Checkpointer, "prune", "saving", "training")
    truncate_after = RunDirectory.truncate_after

    def tell_the_step(self: RunDirectory, step: int, **owed: bool) -> None:
        lines.write(f"resumed at {step}\n")
        truncate_after(self, step, **owed)

    RunDirectory.truncate_after = tell_the_step


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    if settings["terminal"]:
        os.login_tty(0)  # here, not in preexec_fn, for which the parent would fork with JAX's threads
    jax.config.update("jax_compilation_cache_dir", settings["compiled"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    profiling.CPU_SIZES = (64, 128)  # as in conftest
    telling(Path(settings["diary"]))
    try:
        stopped_by = run(Path(settings["folder"]), settings["data"], **settings.get("changes", {}))
    except UserError as e:  # as explainft.cli.main does it
        print(f"explainft: error: {e.line}", file=sys.stderr)
        sys.exit(2)
    if stopped_by:  # as explainft.cli.train does it
        sys.exit(128 + stopped_by)
