"""Maps a function over an endless iterator with several processes, in order."""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

MIN_PREFETCH = 128  # calls, so that two processes do not wait while the parent imports TensorFlow


class WorkerDied(Exception):
    """A worker process ended before it returned a result."""


@contextlib.contextmanager
def process_pool(processes: int) -> Iterator[Callable[..., Iterable]]:
    """Yields a lazy, ordered `map` over that many processes, which raises WorkerDied where one of them dies.

    Each process has a pipe of its own. ProcessPoolExecutor has one for all: when a process is killed while it writes
    its result, the others cannot write child_end, and the parent waits forever.
    """
    # New interpreters: TensorFlow's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        free = queue.SimpleQueue()
        for _ in range(processes):
            parent_end, child_end = context.Pipe()
            with child_end:
                process = context.Process(target=_serve, args=(child_end,))
                process.start()
            stack.callback(process.join)
            stack.callback(parent_end.close)
            free.put(parent_end)

        def call(function: Callable, argument: Any) -> Any:
            pipe = free.get()
            try:
                pipe.send((function, argument))
                succeeded, result = pipe.recv()
            except (EOFError, OSError) as e:
                raise WorkerDied from e
            finally:
                free.put(pipe)
            if not succeeded:
                raise result
            return result

        pool = stack.enter_context(ThreadPoolExecutor(processes))  # each thread waits for a process
        stack.callback(pool.shutdown, cancel_futures=True)
        prefetch = max(MIN_PREFETCH, 2 * processes)
        yield lambda function, arguments: map_in_order(pool, prefetch, partial(call, function), arguments)


def _serve(pipe: Connection) -> None:
    """Runs calls until the parent closes the pipe. The parent alone handles an interrupt."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, argument = pipe.recv()
            try:
                result = True, function(argument)
            except Exception as e:
                e.add_note(traceback.format_exc())  # a traceback cannot be pickled
                result = False, e
            pipe.send(result)


def _exit_with_parent() -> None:
    """Ends the process when the parent is killed: the call in progress may take minutes and much memory."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def map_in_order(pool: Executor, prefetch: int, function: Callable, arguments: Iterable) -> Iterator:
    """Yields results in order, as `pool.map` does, with at most `prefetch` calls submitted before they are consumed."""
    calls = deque()
    try:
        for argument in arguments:
            calls.append(pool.submit(function, argument))
            if len(calls) > prefetch:
                yield calls.popleft().result()
        while calls:
            yield calls.popleft().result()
    finally:
        for call in calls:
            call.cancel()


def available_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
