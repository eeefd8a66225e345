"""A function mapped over endless arguments by several processes, in order."""

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

AHEAD = 128  # calls at least, so that two processes do not wait while the parent imports TensorFlow


class WorkerDied(Exception):
    """A process ended before it had answered."""


@contextlib.contextmanager
def process_pool(processes: int) -> Iterator[Callable[..., Iterable]]:
    """Yields a lazy `map` over that many processes, in order, which raises WorkerDied when one of them has been.

    Each has a pipe of its own. Through one pipe for all, as that of ProcessPoolExecutor, the others could not answer
    when one was killed while it did, and the parent would wait for ever.
    """
    # Fresh interpreters: TensorFlow's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        free = queue.SimpleQueue()
        for _ in range(processes):
            ours, theirs = context.Pipe()
            with theirs:
                process = context.Process(target=_serve, args=(theirs,))
                process.start()
            stack.callback(process.join)
            stack.callback(ours.close)
            free.put(ours)

        def call(function: Callable, argument: Any) -> Any:
            pipe = free.get()
            try:
                pipe.send((function, argument))
                done, answer = pipe.recv()
            except (EOFError, OSError) as e:
                raise WorkerDied from e
            finally:
                free.put(pipe)
            if not done:
                raise answer
            return answer

        pool = stack.enter_context(ThreadPoolExecutor(processes))  # of which each thread waits for a process
        stack.callback(pool.shutdown, cancel_futures=True)
        ahead = max(AHEAD, 2 * processes)
        yield lambda function, arguments: map_in_order(pool, ahead, partial(call, function), arguments)


def _serve(pipe: Connection) -> None:
    """Answers calls until the parent closes the pipe; an interrupt is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, argument = pipe.recv()
            try:
                answer = True, function(argument)
            except Exception as e:
                e.add_note(traceback.format_exc())  # a traceback does not go through a pipe
                answer = False, e
            pipe.send(answer)


def _end_with_parent() -> None:
    """Where the parent was killed, the call in progress is of no use: it may take minutes and much memory."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


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
