"""Several processes as one, one per host: how they connect, which of them writes, how an error ends them all."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from explainft.core.errors import UserError

HEARTBEAT_TIMEOUT = 30  # seconds until the others notice that a process died
SHUTDOWN_TIMEOUT = 60  # seconds that the first process to end waits for the others


@contextlib.contextmanager
def connected(
    coordinator_address: str | None, process_count: int | None, process_index: int | None, *, preemptible: bool
) -> Iterator[None]:
    """Connects the processes of a run for the duration of a context, in which each process sees all devices.

    `preemptible`: SIGTERM goes to JAX's preemption service, which StopSignal reads; else it ends the process. Without
    the other three arguments, JAX detects them: on a TPU pod, under SLURM, Open MPI or Kubernetes. Raises UserError if
    they are inconsistent or the processes do not connect. An error inside ends this process without waiting for the
    others, which may wait for it: they end too, within HEARTBEAT_TIMEOUT.
    """
    _check(coordinator_address, process_count, process_index)
    jax.config.update("jax_enable_preemption_service", preemptible)
    try:
        jax.distributed.initialize(
            coordinator_address,
            process_count,
            process_index,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
            shutdown_timeout_seconds=SHUTDOWN_TIMEOUT,
        )
    except (RuntimeError, ValueError) as e:
        reason = " ".join(str(e).split())[:200]
        raise UserError(
            f"the processes of this run did not connect ({reason}); start it on a TPU pod or under srun, or give "
            "--coordinator_address=HOST:PORT --process_count=N --process_index=I, I from 0"
        ) from e
    try:
        yield
    except BaseException as e:
        code = 1
        if isinstance(e, UserError):
            print(f"explainft: error: {e.line}", file=sys.stderr)
            code = 2
        elif isinstance(e, KeyboardInterrupt):
            code = 130
        else:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    jax.distributed.shutdown()


def _check(coordinator_address: str | None, process_count: int | None, process_index: int | None) -> None:
    given = [coordinator_address, process_count, process_index]
    if given.count(None) not in (0, 3):
        raise UserError("--coordinator_address, --process_count and --process_index go together: give all or none")
    if coordinator_address is not None and not coordinator_address.rpartition(":")[2].isdecimal():
        raise UserError(f"--coordinator_address={coordinator_address} has no port; give HOST:PORT, as in 10.0.0.1:8476")
    if process_count is not None and process_index is not None and not 0 <= process_index < process_count:
        raise UserError(f"--process_index={process_index} must be at least 0 and below --process_count={process_count}")


def writes() -> bool:
    """Returns whether this process writes what is written once."""
    return jax.process_index() == 0


def whole(array: jax.Array) -> np.ndarray:
    """Returns a whole array in this host's memory, other hosts' parts included. All processes must call it."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
