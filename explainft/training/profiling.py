"""Model FLOPs utilization of a run, and traces that show where its time goes."""

import collections
import contextlib
import functools
import gzip
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from explainft.core import jax_setup
from explainft.model import flops

WARM_UP, TRACED = 3, 3  # steps before a trace, and in it
PEAK_TRIALS = 3  # of each size
CPU_SIZES, ACCELERATOR_SIZES = (1024, 2048), (8192,)  # rows and columns of a matrix
CONTROL_FLOW = ("while", "conditional", "call")  # their time is that of what they run


def peak_flops_per_second(dtype: str) -> float:
    """Measures the FLOP/s of all devices together in square matmuls of this dtype, in tenths of a second.

    The fastest of several counts: a busy machine is slower, never faster. On a CPU the caches choose the best size.
    """
    on_cpu = jax.devices()[0].platform == "cpu"
    if on_cpu and not jax_setup.has_bfloat16_matmul():
        dtype = "float32"  # as in layers.bfloat16_matmul
    return max(_matmul_flops_per_second(n, dtype, on_cpu) for n in (CPU_SIZES if on_cpu else ACCELERATOR_SIZES))


def _matmul_flops_per_second(n: int, dtype: str, on_cpu: bool) -> float:
    devices = jax.devices()
    # XLA uses a CPU's bfloat16 instructions only for float32 accumulation. To launch a GPU's program takes a tenth of
    # the time of a matmul.
    repetitions, accumulation = (1, jnp.float32) if on_cpu else (10, None)
    mesh = Mesh(np.array(devices), ("device",))
    rows, replicated = (NamedSharding(mesh, spec) for spec in (PartitionSpec("device"), PartitionSpec()))
    key = jax.random.key(0)
    # Simulated devices share one CPU's cores: together they have its FLOP/s.
    num_rows = len(devices) * (max(1, n // jax.local_device_count()) if on_cpu else n)
    # Random: a GPU multiplies equal numbers faster, because it draws less power.
    left = jax.jit(lambda: jax.random.normal(key, (num_rows, n), dtype), out_shardings=rows)()
    right = jax.jit(
        lambda: jax.random.normal(key, (n, n), dtype) / np.sqrt(n).astype(dtype), out_shardings=replicated
    )()

    @functools.partial(jax.jit, out_shardings=rows)
    def matmuls(left: jax.Array, right: jax.Array) -> jax.Array:
        def times_right(_: int, x: jax.Array) -> jax.Array:
            return jnp.matmul(x, right, preferred_element_type=accumulation).astype(dtype)

        return jax.lax.fori_loop(0, repetitions, times_right, left)

    jax.block_until_ready(matmuls(left, right))
    times = []
    for _ in range(PEAK_TRIALS):
        started = time.perf_counter()
        jax.block_until_ready(matmuls(left, right))
        times.append(time.perf_counter() - started)
    return repetitions * 2 * num_rows * n**2 / min(times)


def model_flops(step: Any, *arguments: Any) -> int:
    """Returns the FLOPs of the matmuls of a jitted step. JAX keeps the traced step for the call that follows."""
    return flops.jaxpr_matmul_flops(step.trace(*arguments).jaxpr.jaxpr)


def time_fractions(directory: Path) -> dict[str, float]:
    """Returns the fraction of time of each kind of compiled operation, largest first, from the latest trace there.

    Kinds are XLA's names without their numbers. Operations that ran at once on several threads all count.
    """
    time_of: collections.Counter[str] = collections.Counter()
    trace = max(directory.rglob("perfetto_trace.json.gz"))  # in a directory named by its time
    with gzip.open(trace) as file:
        events = json.load(file)["traceEvents"]
    for event in events:
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            kind = re.sub(r"\.\d+", "", event["name"])
            if kind not in CONTROL_FLOW:
                time_of[kind] += event["dur"]
    return {kind: time / time_of.total() for kind, time in time_of.most_common()}


class Trace(contextlib.AbstractContextManager):
    """A trace of some steps after the first ones, in `directory`, for TensorBoard and Perfetto. None: no trace."""

    def __init__(self, directory: Path | None, first: int):
        self._directory = directory
        self._begin, self._end = first + WARM_UP, first + WARM_UP + TRACED
        self._running = False

    def is_due(self, step: int) -> bool:
        """Whether the trace begins or ends after this step."""
        return self._directory is not None and step in (self._begin, self._end)

    def toggle(self, output: Any) -> None:
        """Begins the trace, or ends it, once `output` of the last step is computed."""
        jax.block_until_ready(output)
        if self._running:
            self._stop()
        else:
            jax.profiler.start_trace(str(self._directory), create_perfetto_trace=True)
            self._running = True

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._running = False
        assert self._directory is not None
        fractions = time_fractions(self._directory)
        most = ", ".join(f"{kind} {fraction:.0%}" for kind, fraction in fractions.items() if fraction >= 0.02)
        print(f"a trace of {TRACED} steps is in {self._directory}; time by operation: {most}", file=sys.stderr)

    def __exit__(self, *_: object) -> None:
        if self._running:
            self._stop()
        elif self._directory is not None and not self._directory.exists():
            print(f"no trace: fewer than {WARM_UP + TRACED} steps were made", file=sys.stderr)
