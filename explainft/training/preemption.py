"""Being told to stop: SIGTERM, as from a cluster that takes the machine back, and Ctrl-C."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class Stopped(Exception):
    """What was under way is given up, because the run has been told to stop."""


class StopSignal:
    """A context in which SIGTERM and the first SIGINT do nothing but answer `requested`. A second SIGINT interrupts.

    SIGTERM may come several times: `timeout` sends it to the process and to its group. With several processes, JAX's
    preemption service takes SIGTERM, on any of them, and finds the question at which all of them hear of it.
    """

    def __init__(self):
        self._received: str | None = None
        self._asked = 0
        self._everywhere = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no signals
            for number in [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]:
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self._received == "SIGINT":
            raise KeyboardInterrupt
        self._received = signal.Signals(number).name
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)  # the service knows no other

    @property
    def name(self) -> str:
        return self._received or "SIGTERM to a host"

    def requested(self) -> bool:
        """Whether to stop now. With several processes, all of them ask equally often, and all get the same answer."""
        if jax.process_count() == 1:
            return self._received is not None
        self._asked += 1
        self._everywhere = self._everywhere or multihost_utils.reached_preemption_sync_point(self._asked)
        return self._everywhere

    def check(self) -> None:
        """Raises Stopped where `requested`: to be called between two batches of an evaluation."""
        if self.requested():
            raise Stopped
