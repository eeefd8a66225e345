"""Two processes of four simulated devices, connected over loopback, against one process of eight."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from explainft.checkpoints import run_checkpoint
from explainft.cli.main import main
from explainft.data.batches import Batches
from explainft.training import run_directory
from tests.data.batches_test import write_cache
from tests.helpers.datasets import cache_tokens
from tests.helpers.xla_flags import device_flags

ROOT = Path(__file__).parents[2]
STEPS = 24
# Eight heads, so that one copy of the model can be split over all devices. Small, because compiling takes long.
NETWORK = """
NUM_LAYERS = 1
EMB_DIM = 16
NUM_HEADS = 8
HEAD_DIM = 4
MLP_DIM = 32
"""
RECIPE = f"""
include 'gin/medium_tiny.gin'
{NETWORK}
BATCH_SIZE = 16
WARMUP_STEPS = 2
LOG_PERIOD = 4
EVAL_PERIOD = 24
EVAL_STEPS = 2
EVAL_BATCH_SIZE = 16
EVALUATOR_NUM_EXAMPLES = 24
CHECKPOINT_PERIOD = 12
"""


class Hosts:
    """A command in `count` processes that share eight devices, and wait some seconds for each reading of examples."""

    def __init__(self, folder, count, *arguments, seconds=0.0):
        self.notes = [folder / f"{arguments[0]}-{i}-of-{count}" for i in range(count)]
        several = []
        if count > 1:
            with socket.socket() as free:
                free.bind(("localhost", 0))
                address = f"localhost:{free.getsockname()[1]}"
            several = ["--multihost", f"--coordinator_address={address}", f"--process_count={count}"]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": device_flags(8 // count)}
        # A killed process may leave half a program, which other tests must not read.
        environment["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
        self.processes = []
        for i in range(count):
            mine = [*several, f"--process_index={i}"] if several else []
            command = [sys.executable, "-m", "tests.helpers.host", str(self.notes[i]), str(seconds)]
            self.processes.append(
                subprocess.Popen(
                    [*command, *map(str, arguments), *mine],
                    env=environment,
                    cwd=ROOT,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )  # fmt: skip
            )

    def end(self, timeout=400):  # a machine with other work takes minutes; what waits for ever must end
        """The exit codes, standard outputs and standard errors."""
        try:
            ended = [process.communicate(timeout=timeout) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        codes = [process.returncode for process in self.processes]
        return codes, [output for output, _ in ended], [errors for _, errors in ended]

    def succeed(self):
        codes, outputs, errors = self.end()
        assert codes == [0] * len(codes), "\n".join(errors)
        return outputs

    def read(self):
        """For each process, the training examples of each of its readings."""
        return [[line.split() for line in notes.read_text().splitlines()] for notes in self.notes]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    (folder / "recipe.gin").write_text(RECIPE)
    (folder / "network.gin").write_text(NETWORK)
    return folder


def training(place, name, data_dir, *macros):
    return [
        "train",
        f"--gin_file={place / 'recipe.gin'}",
        f"--gin.MODEL_DIR={place / name}",
        f"--gin.TRAIN_STEPS={STEPS}",
        *(f"--gin.{macro}" for macro in macros),
        f"--tfds_data_dir={data_dir}",
    ]


@pytest.fixture(scope="module")
def tokenized(tiny_data_dir):
    """The directory of datasets, once the tasks' tokens are cached: the processes then import no TensorFlow."""
    cache_tokens(tiny_data_dir, *(f"explained_tiny_medium_eval_{split}_compact" for split in ("validation", "test")))
    return tiny_data_dir


@pytest.fixture(scope="module")
def one(place, tokenized):
    hosts = Hosts(place, 1, *training(place, "one", tokenized))
    hosts.succeed()
    return place / "one", hosts.read()[0]


@pytest.fixture(scope="module")
def two(place, tokenized, one):
    """Stopped by a signal to the second process, then resumed; everything split over `data`."""
    command = training(place, "two", tokenized, "FSDP=True")
    hosts = Hosts(place, 2, *command, seconds=0.1)  # so that it is not complete before the signal comes
    metrics = place / "two" / "metrics.jsonl"
    while not metrics.is_file() and hosts.processes[0].poll() is None:
        time.sleep(0.05)
    hosts.processes[1].send_signal(signal.SIGTERM)
    codes, _, errors = hosts.end()
    assert codes == [128 + signal.SIGTERM] * 2, errors
    assert all("SIGTERM to a host: step" in error for error in errors)
    stopped_at = max(int(p.name.removeprefix("checkpoint_")) for p in (place / "two" / "checkpoints").iterdir())
    assert 0 < stopped_at < STEPS
    hosts = Hosts(place, 2, *command)  # appends to its notes
    hosts.succeed()
    return place / "two", stopped_at, hosts.read()


def logged(folder):
    return {
        (row["step"], name): value
        for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        for name, value in row.items()
        if "second" not in name
    }


def parameters(folder):
    weights = run_checkpoint.open_run(folder)
    return {name: weights.read(name) for name in weights.parameters}


def assert_same_run(folder, wanted, stopped_at=0):
    """The same lines of metrics.jsonl, parameters, scores and predictions."""
    found, expected = logged(folder), logged(wanted)
    split = -(-stopped_at // 4) * 4  # the line of which a stop made two
    for (step, name), value in expected.items():
        if step != split or name == "examples" or "eval" in name:
            assert found[step, name] == pytest.approx(value, rel=1e-5), (step, name)
    theirs = parameters(wanted)
    for name, array in parameters(folder).items():
        assert np.abs(array - theirs[name]).max() < 1e-4 * np.abs(theirs[name]).max(), name
    names = sorted(path.name for path in (wanted / "inference_eval").iterdir())
    assert sorted(path.name for path in (folder / "inference_eval").iterdir()) == names
    for name in names:
        assert (folder / "inference_eval" / name).read_bytes() == (wanted / "inference_eval" / name).read_bytes()


def test_two_hosts_train_stop_and_resume_as_one_does(one, two):
    folder, stopped_at, _ = two
    assert_same_run(folder, one[0], stopped_at)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps.count(STEPS) == 2  # one host logs: a line of training, one of evaluation
    assert len(list(folder.glob("events.out.tfevents.*"))) == 2  # of two starts


def test_flops_count_all_hosts(one, two):
    def flops_an_example(folder):
        rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return np.mean([row["flops_per_second"] / row["examples_per_second"] for row in rows if "loss" in row])

    # Each update has the same FLOPs and nearly as many examples as any other.
    assert flops_an_example(two[0]) == pytest.approx(flops_an_example(one[0]), rel=0.1)


def test_each_host_reads_its_own_rows(one, two):
    _, readings = one
    assert len(readings) == 2 * STEPS  # inputs and targets
    for whole, first, second in zip(readings, *two[2], strict=True):
        assert min(len(first), len(second)) > len(whole) / 4
        assert sorted(first + second) == sorted(whole)


@pytest.mark.slow
def test_model_is_split_over_both_hosts(place, one, tokenized):
    Hosts(place, 2, *training(place, "wide", tokenized, "MODEL_PARALLELISM=8")).succeed()
    assert_same_run(place / "wide", one[0])


@pytest.mark.slow
def test_both_hosts_skip_a_corrupt_checkpoint(place, one, two, tokenized):
    shutil.copytree(two[0], place / "corrupt")
    newest = place / "corrupt" / "checkpoints" / f"checkpoint_{STEPS}" / "params"
    largest = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(bytes(len(largest.read_bytes())))
    hosts = Hosts(place, 2, *training(place, "corrupt", tokenized, "FSDP=True"))
    codes, _, errors = hosts.end()
    assert codes == [0, 0], errors
    assert all(f"checkpoint {STEPS} in" in error and "is corrupt" in error for error in errors)
    assert_same_run(place / "corrupt", one[0], two[1])


def test_signal_ends_inference(place, one, tokenized):
    hosts = Hosts(place, 2, *inference(place, one[0], "stopped", tokenized))
    while not list(place.glob("infer-stopped")) and hosts.processes[0].poll() is None:
        time.sleep(0.05)  # the folder is made when all have met
    hosts.processes[0].send_signal(signal.SIGTERM)
    codes, _, _ = hosts.end(timeout=90)
    assert codes[0] == -signal.SIGTERM and codes[1] != 0


def inference(place, run, name, data_dir):
    return [
        "infer",
        "--gin_file=gin/infer_tiny.gin",
        f"--gin_file={place / 'network.gin'}",
        f"--gin.CHECKPOINT_PATH={run / 'checkpoints' / f'checkpoint_{STEPS}'}",
        f"--gin.INFER_OUTPUT_DIR={place / f'infer-{name}'}",
        "--gin.MIXTURE_OR_TASK_NAME=explained_tiny_medium_eval_test_compact",
        "--gin.BATCH_SIZE=16",
        f"--tfds_data_dir={data_dir}",
    ]


def test_predictions_are_written_once_in_order(place, one, tokenized):
    written = {}
    for count in (1, 2):
        outputs = Hosts(place, count, *inference(place, one[0], count, tokenized)).succeed()
        assert [output.count(".jsonl") for output in outputs] == [1, *[0] * (count - 1)]
        [file] = (place / f"infer-{count}").iterdir()
        written[count] = file.read_bytes()
    assert written[1].count(b"\n") == 40
    assert written[1] == written[2]


def test_error_of_one_host_ends_both(place, tokenized):
    with contextlib.ExitStack() as stack:
        stack.enter_context(run_directory.locked(place / "locked"))
        started = time.monotonic()
        codes, _, errors = Hosts(place, 2, *training(place, "locked", tokenized)).end(timeout=120)
        assert time.monotonic() - started < 100
    assert codes[0] == 2 and codes[1] != 0
    [line] = [line for line in errors[0].splitlines() if line.startswith("explainft: error:")]
    assert "is being trained by process" in line


def test_rows_of_a_batch_do_not_depend_on_the_host(tmp_path):
    cache = write_cache(tmp_path, *(np.arange(2, 2 + 21 * n).reshape(21, n) for n in (3, 2)))
    lengths = {"inputs": 3, "targets": 2}
    whole = Batches(cache, lengths, 4, seed=3, packed=True)
    parts = [Batches(cache, lengths, 4, seed=3, packed=True, rows=np.array(rows)) for rows in ([0, 1], [2, 3])]
    for i in range(7):
        for name, array in whole[i].items():
            np.testing.assert_array_equal(np.concatenate([part[i][name] for part in parts]), array)
    for i in range(whole.epoch_batches()):  # the last is filled up with empty rows, the second host's are empty alone
        for name, array in whole.ordered(i).items():
            np.testing.assert_array_equal(np.concatenate([part.ordered(i)[name] for part in parts]), array)
    assert whole.ordered(5)["encoder_input_tokens"].any(axis=1).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--process_count=2"], "need --multihost"),
        (["--multihost", "--process_count=2"], "go together"),
        (
            ["--multihost", "--coordinator_address=localhost", "--process_count=2", "--process_index=0"],
            "--coordinator_address=localhost has no port; give HOST:PORT",
        ),
        (
            ["--multihost", "--coordinator_address=localhost:1", "--process_count=2", "--process_index=2"],
            "--process_index=2 must be at least 0 and below --process_count=2",
        ),
    ],
)
def test_inconsistent_flags_are_refused(place, tokenized, flags, message, capsys):
    with pytest.raises(SystemExit) as error:
        main([*training(place, "none", tokenized), *flags])
    assert error.value.code == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and message in errors
