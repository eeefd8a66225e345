"""Signals that stop one process or several. What a run saves then is tested in tests/survival and hosts_test."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from explainft.training.preemption import StopSignal

ROOT = Path(__file__).parents[2]


def test_only_a_second_interrupt_interrupts():
    with StopSignal() as stop:
        assert not stop.requested()
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert stop.requested() and stop.name == "SIGTERM"
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_an_ignored_signal_stays_ignored():
    """As SIGHUP under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested()
    finally:
        signal.signal(signal.SIGHUP, before)


# After two steps a checkpoint, during which the signal comes; then steps until it is received.
HOST = """
import pathlib, sys, time
import jax
from jax.experimental import multihost_utils

import orbax.checkpoint as ocp
from explainft.checkpoints.orbax_manager import open_manager
from explainft.training.preemption import StopSignal
jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
with StopSignal() as stop:
    for n in range(300):
        if stop.requested():
            break
        if n == 2:
            manager = open_manager(pathlib.Path(sys.argv[3]), create=True)
            manager.save(1000, args=ocp.args.Composite(meta=ocp.args.JsonSave({})))
            manager.wait_until_finished()
            print("saved", flush=True)
            sys.stdin.readline()
        time.sleep(0.05)
        multihost_utils.sync_global_devices("a step")
print(n, stop.name)
"""


def test_hosts_stop_at_the_same_step(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, str(port), str(i), str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        for i in range(2)
    ]
    try:
        for host in hosts:
            assert "saved\n" in host.stdout  # read up to there
        hosts[1].send_signal(signal.SIGTERM)
        time.sleep(4)  # until both have received it
        for host in hosts:
            print("continue", file=host.stdin, flush=True)
        stopped = [host.communicate(timeout=60)[0].splitlines()[-1].split(" ", 1) for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    assert stopped[0][0] == stopped[1][0] and 2 < int(stopped[0][0]) < 299
    assert [name for _, name in stopped] == ["SIGTERM to a host"] * 2
