"""What a run survives: signals, kills, corrupt checkpoints, disks that fill or vanish, NaN, and a second run."""

import contextlib
import dataclasses
import functools
import os
import pty
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from explainft.checkpoints import export, integrity, run_checkpoint
from explainft.checkpoints.checkpointer import CheckpointConfig, Checkpointer
from explainft.core.errors import UserError
from explainft.data.batches import Batches
from explainft.evaluation import loss_evaluation, prediction_files
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.generation import batching, decoding
from explainft.model.parameters import named_leaves
from explainft.training import optimizers, preemption
from explainft.training.config import DatasetConfig
from explainft.training.run_directory import RunDirectory, locked
from explainft.training.train_state import abstract_state
from tests.survival import suite, victim

# Minutes of processes that are killed, and file systems that fill up: `make survival` runs them, and the 100 kills.
pytestmark = pytest.mark.slow

EVALUATION = EvaluationConfig(victim.EVAL_TASK, period=6, eval_steps=2, batch_size=4, num_examples=8)
RATE = functools.partial(optimizers.learning_rate, "constant", 1e-2, 2)


def run(folder, data_dir, **changes):
    settings = dict(
        dataset=DatasetConfig("explained_tiny_short_compact", {"inputs": 32, "targets": 48}, batch_size=8, seed=1),
        evaluation=EVALUATION,
        checkpoints=CheckpointConfig(period=4, keep=None),
        schedule=RATE,
        train_steps=10,
    )
    return victim.run(folder, data_dir, **{**settings, **changes})


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
    """Else each run would compile the same step again."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, before):
        compilation_cache.reset_cache()
        for name, value in values.items():
            jax.config.update(name, value)
        if values is settings:
            yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_data_dir):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, tiny_data_dir)
    return folder


@pytest.fixture
def copy(undisturbed, tmp_path):
    """The undisturbed run with its checkpoints 4, 8 and 10, to be corrupted."""
    return shutil.copytree(undisturbed, tmp_path / "run")


def assert_same_end(folder, undisturbed, but=()):
    differing = suite.differences(suite.result(folder), suite.result(undisturbed))
    assert [name for name in differing if name not in but] == []


def at_call(patch, owner, name, n, action):
    """Does something before the n-th call of a function, and returns how often it was called, as a list."""
    function, calls = getattr(owner, name), []

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        calls.append(name)
        if len(calls) == n:
            action()
        return function(*args, **kwargs)

    patch.setattr(owner, name, wrapped)
    return calls


def go_on_equal(folder, data_dir, undisturbed):
    run(folder, data_dir)
    assert_same_end(folder, undisturbed, but=["metrics"])  # a stop or an error has lines of its own there


# ---- signals


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
    go_on_equal(tmp_path, tiny_data_dir, undisturbed)


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


# ---- corrupt checkpoints


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(file, place, bit=0):
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << bit
    file.write_bytes(content)


def flip_in_arrays(item):
    """A bit in the middle of each long compressed piece; the index, which has checksums of its own, lies elsewhere."""
    for file in (item / "ocdbt.process_0" / "d").iterdir():
        content = file.read_bytes()
        starts = [match.start() for match in re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), content)]
        for start, end in zip(starts, [*starts[1:], len(content)], strict=True):
            if end - start > 2000:
                flip(file, (start + end) // 2)


def halve(folder):
    for file in sorted(path for path in folder.rglob("*") if path.is_file())[::2]:
        file.unlink()


def change_meta(folder):
    meta = folder / "meta" / "metadata"
    meta.write_text(meta.read_text().replace('"examples": ', '"examples": 1'))


DAMAGE = {
    "truncated": (lambda folder: os.truncate(largest(folder / "params" / "d"), 1000), "unreadable"),
    "a bit of the parameters": (lambda folder: flip_in_arrays(folder / "params"), "wrong checksum of params/"),
    "a bit of the optimizer": (
        lambda folder: flip_in_arrays(folder / "opt_state"),
        "wrong checksum of opt_state/",
    ),
    "half deleted": (halve, ""),
    "empty": (lambda folder: (shutil.rmtree(folder), folder.mkdir()), "was not found"),
    "meta": (change_meta, "wrong checksum of meta"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_corrupt_checkpoint_is_named_and_the_one_before_it_used(
    kind, copy, undisturbed, tiny_data_dir, capsys, monkeypatch
):
    damage, words = DAMAGE[kind]
    folder = copy / "checkpoints"
    damage(folder / "checkpoint_10")
    resumed = []
    monkeypatch.setattr(RunDirectory, "truncate_after", lambda _, step, **__: resumed.append(step))
    run(copy, tiny_data_dir)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"checkpoint 10 in {folder} is corrupt (") and words in line
    assert line.endswith("): resuming from checkpoint 8")
    assert resumed == [8]
    assert_same_end(copy, undisturbed, but=["metrics"])
    assert (folder / "corrupt_checkpoint_10").is_dir()


def test_where_all_are_corrupt_the_run_ends_and_leaves_them(copy, tiny_data_dir, capsys):
    for step in (10, 8, 4):
        change_meta(copy / "checkpoints" / f"checkpoint_{step}")
    with pytest.raises(UserError, match=r"checkpoint 4 in .* is corrupt \(wrong checksum of meta\); choose another"):
        run(copy, tiny_data_dir)
    assert [line.split(" in ")[0] for line in capsys.readouterr().err.splitlines()] == ["checkpoint 10", "checkpoint 8"]
    assert sorted(os.listdir(copy / "checkpoints")) == ["checkpoint_10", "checkpoint_4", "checkpoint_8"]


def test_no_flipped_bit_goes_unnoticed(copy, undisturbed, capsys):
    """Anywhere in the newest checkpoint: what is restored is what was saved, at its step or at the one before."""
    folder = copy / "checkpoints"
    tx = optimizers.adamw(RATE(train_steps=10))
    mesh = jax.make_mesh((1, 1), ("data", "model"))
    like = abstract_state(victim.MODEL, tx, mesh)
    meta = integrity.with_digest(run_checkpoint.open_run(undisturbed).meta)
    truth = {}
    rng = random.Random(0)
    files = sorted(path for path in (folder / "checkpoint_10").rglob("*") if path.stat().st_size and path.is_file())
    weights = [path.stat().st_size for path in files]
    used = []
    for i in range(41):
        if i:  # the first time nothing is corrupt
            file = rng.choices(files, weights if i % 2 else None)[0]
            whole = file.read_bytes()
            flip(file, rng.randrange(len(whole)), rng.randrange(8))
        with Checkpointer(copy, CheckpointConfig(keep=None), meta) as checkpointer:
            restored = named_leaves(checkpointer.restore(like.params, like.opt_state))
            used.append(checkpointer.latest)
        found = {name: np.asarray(leaf).tobytes() for name, leaf in restored.items()}
        assert truth.setdefault(checkpointer.latest, found) == found
        if i:
            if checkpointer.latest == 8:
                (folder / "corrupt_checkpoint_10").rename(folder / "checkpoint_10")
            file.write_bytes(whole)
    assert used[0] == 10 and used.count(8) > 10
    assert len(capsys.readouterr().err.splitlines()) == used.count(8)


def test_readers_name_the_corrupt_array(copy):
    flip_in_arrays(copy / "checkpoints" / "checkpoint_10" / "params")
    found = run_checkpoint.open_run(copy)
    with pytest.raises(UserError, match=r"checkpoint 10 in .* is corrupt \(wrong checksum of params/.*choose another"):
        found.tree()
    run_checkpoint.open_run(copy, 8).tree()
    export.export_run(copy, copy / "small", 8, "bfloat16")  # which has checksums of its own
    run_checkpoint.open_run(copy / "small").tree()
    flip_in_arrays(copy / "small" / "checkpoints" / "checkpoint_8" / "params")
    with pytest.raises(UserError, match="checkpoint 8 in .* is corrupt"):
        run_checkpoint.open_run(copy / "small").tree()


# ---- disks


@contextlib.contextmanager
def mounted(*arguments):
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount {' '.join(arguments)}: {done.stderr.strip()}; it takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", arguments[-1]], check=True)


def fill(folder):
    with open(folder / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (2**16, 2**10, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [(Checkpointer, "save", 2), (RunDirectory, "log", 3), (prediction_files, "write_scores", 1)],
)
def test_a_full_disk(tmp_path, undisturbed, tiny_data_dir, monkeypatch, owner, name, call):
    folder = tmp_path / "run"
    folder.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=4m", "none", str(folder)):
        with monkeypatch.context() as patch:
            at_call(patch, owner, name, call, lambda: fill(folder))
            with pytest.raises(UserError, match="cannot write .*No space left on device.*") as caught:
                run(folder, tiny_data_dir)
        assert "\n" not in caught.value.line
        assert suite.newest_complete(folder) == 4
        (folder / "filler").unlink()
        go_on_equal(folder, tiny_data_dir, undisturbed)


def test_a_process_that_finds_the_disk_full_says_so_in_one_line(tmp_path, tiny_data_dir):
    (tmp_path / "run").mkdir()
    with mounted("-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path / "run")):  # of one checkpoint, not of two
        status, errors = suite.Victim(tmp_path, "run", tiny_data_dir).end()
        assert status == 2
        [line] = [line for line in errors.splitlines() if line.startswith("explainft: error: cannot write")]
        assert "No space left on device" in line and errors.endswith(line + "\n")
        assert "Traceback" not in errors


def test_a_folder_that_becomes_read_only(tmp_path, undisturbed, tiny_data_dir, monkeypatch):
    folder = tmp_path / "run"
    with contextlib.ExitStack() as stack:

        def read_only():
            stack.enter_context(mounted("--bind", str(folder), str(folder)))
            subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)

        with monkeypatch.context() as patch:
            at_call(patch, Batches, "__getitem__", 6, read_only)
            with pytest.raises(UserError, match="cannot write .*Read-only file system"):
                run(folder, tiny_data_dir)
        with pytest.raises(UserError, match="cannot write MODEL_DIR=.*Read-only file system"):
            run(folder, tiny_data_dir)
    go_on_equal(folder, tiny_data_dir, undisturbed)


def test_a_folder_that_vanishes(tmp_path, undisturbed, tiny_data_dir, monkeypatch):
    folder = tmp_path / "run"

    def vanish():
        folder.rename(tmp_path / "elsewhere")
        folder.mkdir()  # as the mount point of a disk that is gone

    with monkeypatch.context() as patch:
        at_call(patch, Batches, "__getitem__", 6, vanish)
        with pytest.raises(UserError, match="MODEL_DIR=.*/run' has vanished; bring it back"):
            run(folder, tiny_data_dir)
    assert list(folder.iterdir()) == []
    folder.rmdir()
    (tmp_path / "elsewhere").rename(folder)
    go_on_equal(folder, tiny_data_dir, undisturbed)


@pytest.fixture
def own_cache(cache_dir, undisturbed, tmp_path, monkeypatch):
    """A copy of the token caches, to be corrupted."""
    monkeypatch.setenv("EXPLAINFT_CACHE_DIR", str(tmp_path / "cache"))
    return shutil.copytree(cache_dir, tmp_path / "cache")


def test_a_token_cache_that_is_cut_off(own_cache, tmp_path, undisturbed, tiny_data_dir, monkeypatch):
    def cut():
        for file in own_cache.rglob("*.tokens"):
            os.truncate(file, 100)

    with monkeypatch.context() as patch:
        at_call(patch, Batches, "__getitem__", 6, cut)
        with pytest.raises(UserError, match="token cache .* was truncated while it was read; delete it"):
            run(tmp_path / "run", tiny_data_dir)
    assert suite.newest_complete(tmp_path / "run") == 4
    shutil.rmtree(own_cache)
    go_on_equal(tmp_path / "run", tiny_data_dir, undisturbed)


def test_a_token_cache_that_vanishes_is_still_open(own_cache, tmp_path, undisturbed, tiny_data_dir, monkeypatch):
    at_call(monkeypatch, Batches, "__getitem__", 2, lambda: shutil.rmtree(own_cache))
    go_on_equal(tmp_path / "run", tiny_data_dir, undisturbed)


# ---- NaN


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


# ---- two runs


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
