"""Calls to several processes, of which one may die or a call fail."""

import itertools
import os
import signal
import threading

import pytest

from explainft.core.process_pool import WorkerDied, process_pool


def squared(argument):
    return argument, argument**2, os.getpid()


def test_results_are_ordered_and_pending_calls_dropped():
    with process_pool(2) as run:
        first = list(itertools.islice(run(squared, itertools.count()), 300))
        second = list(run(squared, range(5)))
    assert [result[:2] for result in first] == [(i, i**2) for i in range(300)]
    assert [result[:2] for result in second] == [(i, i**2) for i in range(5)]
    assert len({process for *_, process in first + second} - {os.getpid()}) == 2


def kill_while_returning(argument):
    """Kills its process while it returns a result that fills the pipe many times."""
    if argument == 3:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return bytes(2**28)
    return argument


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_killed_process_does_not_block_the_others():
    results = []
    with pytest.raises(WorkerDied), process_pool(2) as run:
        results.extend(run(kill_while_returning, itertools.count()))
    assert results[:3] == [0, 1, 2]


def fail(argument):
    raise ValueError(f"no {argument}")


def test_error_keeps_its_traceback():
    with pytest.raises(ValueError, match="no 0") as raised, process_pool(2) as run:
        list(run(fail, range(5)))
    assert "in fail" in raised.value.__notes__[0]
