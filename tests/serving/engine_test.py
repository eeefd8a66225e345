"""When requests join and leave, counted in steps of the engine's thread."""

import threading
import time

import pytest

from explainft.data.vocabulary import EOS_ID
from explainft.serving.engine import MAX_ENCODED, Delta, Job, Prompt, QueueFull, Settings
from tests.serving.requests import EXPRESSIONS

SETTINGS = Settings(temperature=2.0, top_p=1.0, seed=11, streams=True)


class Client:
    """Submits a job, and notes at which step each event came. `wait`: blocks the engine in the first event."""

    def __init__(self, service, count, held=False):
        self.engine = service.engine
        self.events: list[tuple[int, object]] = []
        self.began, self.proceed = threading.Event(), threading.Event()
        if not held:
            self.proceed.set()
        ids = [*service.reader.vocabulary.encode(EXPRESSIONS[4]), EOS_ID]
        self.job = Job([Prompt(ids, 60)], count, SETTINGS, self._receive)
        self.engine.submit(self.job)

    def _receive(self, event):
        self.events.append((self.engine.metrics.steps, event))
        self.began.set()
        assert self.proceed.wait(30)

    def finished(self):
        return [event.output for _, event in self.events if isinstance(event, Delta) and event.finish_reason]


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_idle(engine):
    return not engine.metrics.running and not engine.metrics.waiting


def test_a_request_joins_within_a_step_of_those_that_run(service):
    first = Client(service, 8, held=True)
    assert first.began.wait(30)
    now = service.engine.metrics.steps  # the engine is held inside this step
    second = Client(service, 3)
    first.proceed.set()
    wait_for(lambda: len(second.finished()) == 3 and len(first.finished()) == 8)
    assert second.events[0][0] == now + 1
    assert any(step > now + 1 for step, _ in first.events)


def test_of_a_burst_four_prompts_join_before_each_step(service):
    first = Client(service, 1, held=True)
    assert first.began.wait(30)
    now = service.engine.metrics.steps
    burst = [Client(service, 1) for _ in range(2 * MAX_ENCODED)]
    first.proceed.set()
    wait_for(lambda: is_idle(service.engine))
    assert [client.events[0][0] - now for client in burst] == [1] * MAX_ENCODED + [2] * MAX_ENCODED


def test_a_client_that_leaves_frees_its_rows_within_a_step(service):
    engine = service.engine
    leaves, stays = Client(service, 12), Client(service, 4, held=True)
    waits = Client(service, 20)
    assert stays.began.wait(30)
    now, done = engine.metrics.steps, len(leaves.finished())
    engine.cancel(leaves.job)
    engine.cancel(waits.job)  # of which most wait for rows
    stays.proceed.set()
    wait_for(lambda: len(stays.finished()) == 4 and is_idle(engine))
    assert max((step for client in (leaves, waits) for step, _ in client.events), default=0) <= now
    assert done == len(leaves.finished()) < 12 and len(waits.finished()) < 20


def test_a_queue_that_is_full_refuses_and_recovers(service):
    engine = service.engine
    first = Client(service, 16, held=True)
    assert first.began.wait(30)
    Client(service, 60)
    with pytest.raises(QueueFull):
        Client(service, 9)
    last = Client(service, 2)
    first.proceed.set()
    wait_for(lambda: is_idle(engine))
    assert len(last.finished()) == 2 and len(first.finished()) == 16
