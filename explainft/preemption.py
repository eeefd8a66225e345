"""Being told to stop: SIGTERM, as from a cluster that takes the machine back, and Ctrl-C."""

import collections
import functools
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

LAG = 2  # questions between a host's asking and the answer of all: the devices need not be waited for


class Stopped(Exception):
    """What was under way is given up, because the run has been told to stop."""


class StopSignal:
    """A context in which SIGTERM and the first SIGINT do nothing but answer `requested`. A second SIGINT interrupts.

    SIGTERM may come several times: `timeout` sends it to the process and to its group.
    """

    def __init__(self):
        self._received: str | None = None
        self._everywhere: bool = False
        self._under_way: collections.deque[jax.Array] = collections.deque()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no signals
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self._received == "SIGINT":
            raise KeyboardInterrupt
        self._received = signal.Signals(number).name

    @property
    def name(self) -> str:
        return self._received or "a signal to another host"

    def requested(self) -> bool:
        """Whether to stop now. With several processes, all of them ask equally often, and all get the same answer."""
        if jax.process_count() == 1:
            return self._received is not None
        if not self._everywhere:
            self._under_way.append(_on_any_host(self._received is not None))
            if len(self._under_way) > LAG:
                self._everywhere = bool(self._under_way.popleft())
        return self._everywhere

    def check(self) -> None:
        """Raises Stopped where `requested`: to be called between two batches of an evaluation."""
        if self.requested():
            raise Stopped


def _on_any_host(here: bool) -> jax.Array:
    split, any_of = _over_all_devices()
    return any_of(jax.make_array_from_process_local_data(split, np.full(jax.local_device_count(), here)))


@functools.cache
def _over_all_devices() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    mesh = Mesh(np.array(jax.devices()), ("device",))
    whole = NamedSharding(mesh, PartitionSpec())
    return NamedSharding(mesh, PartitionSpec("device")), jax.jit(jax.numpy.any, out_shardings=whole)
