"""Signals that stop a run: SIGTERM of a cluster that reclaims the machine, SIGHUP of a closed session, Ctrl-C."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """The work in progress is given up, because a signal stops the run."""


class StopSignal:
    """A context in which a signal only sets `requested`, so that the run can save. A second SIGINT interrupts.

    SIGTERM may come several times: `timeout` sends it to the process and to its group. A signal that is ignored, as
    SIGHUP under nohup, stays ignored. With several processes, JAX's preemption service receives SIGTERM, on any of
    them, and chooses the call of `requested` at which all of them learn of it.
    """

    def __init__(self):
        self._received: signal.Signals | None = None
        self._calls = 0
        self._everywhere = False
        self._before: dict[signal.Signals, Any] = {}
        self._terminals = [fd for fd in (1, 2) if os.isatty(fd)]

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python receives no signals
            for number in SIGNALS:
                service = number == signal.SIGTERM and jax.process_count() > 1
                if not service and signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if number == self._received == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number)
        if number == signal.SIGHUP:
            _mute(self._terminals)
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)  # the only signal that the service receives

    @property
    def signal(self) -> signal.Signals:
        """Returns the signal; with several processes, SIGTERM where another one received it."""
        return self._received or signal.SIGTERM

    @property
    def name(self) -> str:
        return self._received.name if self._received else "SIGTERM to a host"

    def requested(self) -> bool:
        """Returns whether to stop now.

        Of several processes, all must call it equally often, and all get the same answer.
        """
        if jax.process_count() == 1:
            return self._received is not None
        self._calls += 1
        self._everywhere = self._everywhere or multihost_utils.reached_preemption_sync_point(self._calls)
        return self._everywhere

    def check(self) -> None:
        """Raises Stopped where `requested`: to be called between two batches of an evaluation."""
        if self.requested():
            raise Stopped


def _mute(terminals: list[int]) -> None:
    """Sends what is written to closed terminals to nowhere: a failed write must not keep the run from saving."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    for terminal in terminals:
        os.dup2(devnull, terminal)
    os.close(devnull)
