"""A function mapped over endless arguments by several processes, in order."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from explainft.errors import UserError

AHEAD = 128  # calls at least, so that two processes do not wait while the parent imports TensorFlow


@contextlib.contextmanager
def workers(processes: int) -> Iterator[Callable[..., Iterable]]:
    """Yields a lazy `map` over that many processes, in order; the built-in one where a single process is asked for."""
    if processes == 1:
        yield map
        return
    # Fresh interpreters: TensorFlow's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, end_with_parent) as pool:
        try:
            yield partial(map_in_order, pool, max(AHEAD, 2 * processes))
        except BrokenProcessPool as e:
            raise UserError(
                f"one of {processes} worker processes was killed, perhaps for want of memory; give the same command "
                "again, with fewer of them: --processes"
            ) from e
        finally:
            pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Leaves an interrupt to the parent, and ends this worker with it even where it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait():
        parent.join()
        os._exit(1)  # The main thread would wait for work for ever.

    threading.Thread(target=wait, daemon=True).start()


def map_in_order(pool: Executor, ahead: int, function: Callable, arguments: Iterable) -> Iterator:
    """`pool.map` for endless arguments: it is never more than `ahead` calls ahead of what is taken from it."""
    calls = deque()
    try:
        for argument in arguments:
            calls.append(pool.submit(function, argument))
            if len(calls) > ahead:
                yield calls.popleft().result()
        while calls:
            yield calls.popleft().result()
    finally:
        for call in calls:
            call.cancel()


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
