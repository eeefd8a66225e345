"""What a run survives: signals, kills, NaN, and a second run."""

import dataclasses
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from explainft.checkpoints import run_checkpoint
from explainft.checkpoints.checkpointer import CheckpointConfig, Checkpointer
from explainft.core.errors import UserError
from explainft.data.batches import Batches
from explainft.evaluation import loss_evaluation
from explainft.generation import batching, decoding
from explainft.training import preemption
from explainft.training.run_directory import locked
from tests.survival import suite, victim
from tests.survival.runs import RATE, assert_resumes_to_same_end, assert_same_end, at_call, run

# Minutes of processes that are killed, and file systems that fill up: `make survival` runs them, and the 100 kills.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("number", "owner", "name", "call", "step", "calls_in_all"),
    [
        (signal.SIGTERM, Batches, "__getitem__", 7, 7, 7),
        (signal.SIGTERM, Checkpointer, "save", 1, 5, 2),
        (signal.SIGHUP, Batches, "__getitem__", 7, 7, 7),
        (signal.SIGTERM, loss_evaluation, "_loss_sums", 1, 6, 1),
        (signal.SIGINT, decoding, "_prefill_jit", 1, 6, 1),  # of two batches, one at a time
        (signal.SIGTERM, decoding, "_prefill_jit", 3, 10, 3),  # in the last evaluation
    ],
)
def test_a_signal_saves_and_the_resumed_run_ends_the_same(
    undisturbed, tmp_path, tiny_data_dir, monkeypatch, capsys, number, owner, name, call, step, calls_in_all
):
    handlers = [signal.getsignal(n) for n in preemption.SIGNALS]
    with monkeypatch.context() as patch:
        patch.setattr(batching, "CONCURRENT_BATCHES", 1)
        calls = at_call(patch, owner, name, call, lambda: signal.raise_signal(number))
        assert run(tmp_path, tiny_data_dir) == number
        assert len(calls) == calls_in_all  # what was under way is given up
    assert suite.newest_complete(tmp_path) == step
    line = f"{number.name}: step {step} is saved; rerun the same command to resume\n"
    assert capsys.readouterr().err.endswith(line)
    assert handlers == [signal.getsignal(n) for n in preemption.SIGNALS]
    assert_resumes_to_same_end(tmp_path, tiny_data_dir, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_process_exits_with_its_signal(tmp_path, tiny_data_dir, number):
    process = suite.Victim(tmp_path, "run", tiny_data_dir)
    assert process.runs_until("training")
    status, errors = process.end(number)
    step = suite.newest_complete(process.folder)
    last_line = errors.strip().splitlines()[-1].split(";")[0]
    assert (status, last_line) == (128 + number, f"{number.name}: step {step} is saved")
    assert 0 < step < victim.STEPS


def test_a_closed_terminal_saves(tmp_path, tiny_data_dir):
    """As an SSH session that ends: SIGHUP, and from then on every write to the terminal fails."""
    ours, its = pty.openpty()
    process = suite.Victim(tmp_path, "run", tiny_data_dir, terminal=its)
    os.close(its)
    assert process.runs_until("training")
    os.close(ours)
    assert process.end()[0] == 128 + signal.SIGHUP
    assert 0 < suite.newest_complete(process.folder) < victim.STEPS


def test_killed_at_random_moments(tmp_path, tiny_data_dir):
    """The short version of `make survival`."""
    counts = suite.Counts()
    for counts in suite.kill_at_random(tmp_path, tiny_data_dir, kills=5):
        assert not counts.wrong
    assert counts.kills.total() == 5 and counts.ends > 0


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (7, "the loss is nan at step 8; the last good checkpoint is 4; lower LEARNING_RATE"),
        (8, "is not finite after step 8; the last good checkpoint is 4; lower LEARNING_RATE"),  # the loss of 8 was
        (1, "the loss is nan at step 2; no checkpoint was saved before; lower"),
    ],
)
def test_nan_stops_the_run_and_is_never_saved(update, message, tmp_path, undisturbed, tiny_data_dir):
    def bad_rate(train_steps):
        rate = RATE(train_steps=train_steps)
        return lambda step: jnp.where(step == update - 1, jnp.nan, rate(step))

    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, tiny_data_dir, schedule=bad_rate)
    assert "\n" not in caught.value.line
    assert suite.newest_complete(tmp_path) == (0 if update == 1 else 4)
    metrics = tmp_path / "metrics.jsonl"
    assert update == 1 or '"loss": NaN' not in metrics.read_text()
    run(tmp_path, tiny_data_dir)
    assert_same_end(tmp_path, undisturbed)


def test_a_second_run_is_refused_while_the_first_lives(copy, tiny_data_dir):
    hold = "import sys, time, pathlib; from explainft.training.run_directory import locked\n"
    hold += "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(copy)], cwd=suite.ROOT, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "held\n"
        before = sorted(path for path in copy.rglob("*"))
        named = f"is being trained by process {first.pid} on {socket.gethostname()}; stop that one first"
        with pytest.raises(UserError, match=named):
            run(copy, tiny_data_dir, train_steps=12)
        assert sorted(path for path in copy.rglob("*")) == before
        assert run_checkpoint.open_run(copy).step == 10  # reading is free
        first.kill()
    run(copy, tiny_data_dir, train_steps=12)  # the kernel has taken the lock back
    assert suite.newest_complete(copy) == 12
    with locked(copy):
        pass
    assert Path(copy / "lock").read_text() == ""


def test_the_default_keeps_one_to_fall_back_on():
    assert dataclasses.fields(CheckpointConfig)[1].default == 2
