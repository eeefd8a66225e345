"""What the steps since the last log line came to: losses, rates, model FLOPs utilization."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from explainft.checkpoints.checkpointer import NOT_FINITE_HINT, Checkpointer
from explainft.checkpoints.progress import Progress
from explainft.core.errors import UserError
from explainft.training import profiling
from explainft.training.train_state import TrainState


class Timer:
    """Measures seconds of training since the last lap; pausing leaves evaluation and saving out."""

    def __init__(self):
        self._started = time.monotonic()
        self._seconds = 0.0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time inside the context out."""
        self._stop()
        yield
        self._started = time.monotonic()

    def lap(self) -> float:
        """Returns the seconds since the last lap, and begins the next."""
        self._stop()
        seconds, self._seconds = self._seconds, 0.0
        self._started = time.monotonic()
        return seconds

    def _stop(self) -> None:
        self._seconds += time.monotonic() - self._started


class TrainMetrics:
    """Accumulates the sums of train steps until they are logged.

    `tokens_per_batch` counts padding; `flops_step` is a step without recomputation. `timer` is to be paused during
    everything that is not training.
    """

    def __init__(self, tokens_per_batch: int, flops_step: Callable[..., Any], peak_flops_per_second: float):
        self.timer = Timer()
        self._tokens_per_batch = tokens_per_batch
        self._flops_step = flops_step
        self._flops_per_step = 0
        self._peak = peak_flops_per_second
        self._sums: list[dict[str, jax.Array]] = []

    def __bool__(self) -> bool:
        return bool(self._sums)

    def count_flops(self, state: TrainState, batch: dict[str, jax.Array]) -> None:
        """Counts the FLOPs of a step, once."""
        self._flops_per_step = self._flops_per_step or profiling.model_flops(self._flops_step, state, batch)

    def add(self, sums: dict[str, jax.Array]) -> None:
        """Adds the sums of a step, and waits until all but the last two steps have ended.

        A signal must not wait for a queue of steps.
        """
        self._sums.append(sums)
        jax.block_until_ready(self._sums[-3:][0])

    def flush(self, step: int, progress: Progress, checkpointer: Checkpointer) -> dict[str, float]:
        """Returns the row of metrics.jsonl for the steps up to `step`, and adds them to the progress.

        Raises UserError for the first of them whose loss is not finite.
        """
        recent, self._sums = self._sums, []
        for number, sums in enumerate(recent, step - len(recent) + 1):
            if not math.isfinite(loss_sum := float(sums["loss_sum"])):
                raise UserError(
                    f"the loss is {loss_sum} at step {number}; {checkpointer.last_good()}; {NOT_FINITE_HINT}"
                )
        total = {name: sum(float(sums[name]) for sums in recent) for name in recent[0]}
        seconds = self.timer.lap()
        flops_per_second = len(recent) * self._flops_per_step / seconds
        # The machine may have been busy when the peak was measured: what training reaches is a lower bound of it.
        self._peak = max(self._peak, flops_per_second)
        progress.add_steps(int(total["examples"]), seconds)
        return {
            "loss": total["loss_sum"] / total["weight_sum"],
            "accuracy": total["correct_sum"] / total["weight_sum"],
            "examples": progress.examples,
            "seconds": progress.seconds,
            "examples_per_second": total["examples"] / seconds,
            "target_tokens_per_second": total["target_tokens"] / seconds,
            "flops_per_second": flops_per_second,
            "padding_share": 1.0 - total["tokens"] / (len(recent) * self._tokens_per_batch),
            "peak_flops_per_second": self._peak,
        }
