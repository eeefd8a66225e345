"""Calls to several processes, and what becomes of them when one of these dies or its call fails."""

import itertools
import os
import signal
import threading

import pytest

from explainft.core.process_pool import WorkerDied, process_pool


def squared(argument):
    return argument, argument**2, os.getpid()


def test_answers_come_in_order_from_all_processes_and_what_is_left_is_forgotten():
    with process_pool(2) as run:
        first = list(itertools.islice(run(squared, itertools.count()), 300))
        second = list(run(squared, range(5)))
    assert [answer[:2] for answer in first] == [(i, i**2) for i in range(300)]
    assert [answer[:2] for answer in second] == [(i, i**2) for i in range(5)]
    assert len({process for *_, process in first + second} - {os.getpid()}) == 2


def killed_at_its_answer(argument):
    """Kills its process while that answers: the answer fills the pipe many times."""
    if argument == 3:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return bytes(2**28)
    return argument


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_a_process_killed_at_its_answer_holds_up_nobody():
    answers = []
    with pytest.raises(WorkerDied), process_pool(2) as run:
        answers.extend(run(killed_at_its_answer, itertools.count()))
    assert answers[:3] == [0, 1, 2]


def wrong(argument):
    raise ValueError(f"no {argument}")


def test_an_error_is_raised_with_its_traceback():
    with pytest.raises(ValueError, match="no 0") as raised, process_pool(2) as run:
        list(run(wrong, range(5)))
    assert "in wrong" in raised.value.__notes__[0]
