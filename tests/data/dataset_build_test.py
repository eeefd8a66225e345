"""How a build runs: processes, files, concurrent and failed builds, and errors of the user."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import explainft.data
from explainft.core.errors import UserError
from explainft.data import dataset, records
from explainft.data.dataset_build import build
from explainft.data.dataset_read import show
from explainft.listops.configs import SPLITS
from tests.helpers.datasets import SIZES, environment, expressions

pytestmark = pytest.mark.usefixtures("small_tiny")


def record_bytes(directory: Path, split: str) -> bytes:
    """Returns the concatenated files of a split: TFRecord files can be joined."""
    files = sorted(directory.glob(f"*-{split}.tfrecord-*"))
    assert files
    return b"".join(file.read_bytes() for file in files)


@pytest.mark.parametrize(("processes", "shards"), [(1, 7), (2, 4)])
def test_records_do_not_depend_on_processes_or_files(built, tmp_path, processes, shards):
    directory = build("tiny", str(tmp_path), processes, shards)
    for split in SPLITS:
        assert len(list(directory.glob(f"*-{split}.tfrecord-*-of-{shards:05d}"))) == shards
        assert record_bytes(directory, split) == record_bytes(built / "explained_listops/tiny/1.0.0", split)
    readable = tfds.builder_from_directory(str(directory))
    assert {split: readable.info.splits[split].num_examples for split in SPLITS} == SIZES
    for split, size in SIZES.items():  # TFDS counts the records without the 16 bytes of framing of each.
        assert readable.info.splits[split].num_bytes == len(record_bytes(directory, split)) - 16 * size
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    read = expressions(readable.as_dataset(split="train", read_config=in_order))
    assert read == expressions(tfds.load("explained_listops/tiny", split="train", data_dir=built))


def test_second_build_writes_nothing(built, capfd):
    directory = built / "explained_listops/tiny/1.0.0"
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    assert build("tiny", str(built)) == directory
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before
    assert capfd.readouterr().err == f"{directory} is already built\n"


def test_concurrent_builds_share_the_first_dataset(built, tmp_path, monkeypatch):
    info = dataset.SplitWriter.info

    def after_the_other_build(writer):
        shutil.copytree(built, tmp_path, dirs_exist_ok=True)
        return info(writer)

    monkeypatch.setattr(dataset.SplitWriter, "info", after_the_other_build)
    directory = build("tiny", str(tmp_path), processes=1)
    assert directory == tmp_path / "explained_listops/tiny/1.0.0"
    assert list(directory.parent.iterdir()) == [directory]
    assert "tiny/test 0" in show("tiny", "test", 1, str(tmp_path))


def test_build_is_quiet_without_a_terminal(tmp_path, capfd):
    build("tiny", str(tmp_path), processes=1)
    output = capfd.readouterr()
    assert output.out == ""
    assert "examples" not in output.err


def test_missing_beam_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "explainft.data.beam_build", raising=False)
    monkeypatch.delattr(explainft.data, "beam_build", raising=False)
    with pytest.raises(UserError, match=r"a build on Beam needs apache_beam; run: pip install 'explainft\[beam\]'"):
        build("tiny", str(tmp_path), beam_pipeline_options="")


def test_failed_build_leaves_no_dataset(tmp_path, monkeypatch):
    calls = iter(range(10_000))

    def fail_in_the_middle(features):
        if next(calls) == 500:
            raise RuntimeError("out of luck")
        return b"record"

    monkeypatch.setattr(records, "serialize", fail_in_the_middle)
    with pytest.raises(RuntimeError, match="out of luck"):
        build("tiny", str(tmp_path), processes=1)
    assert list((tmp_path / "explained_listops/tiny").iterdir()) == []
    monkeypatch.undo()
    assert build("tiny", str(tmp_path), processes=1).is_dir()


def test_full_disk_takes_one_line(tmp_path, monkeypatch):
    def no_space(self, record):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device\n(twice)")

    monkeypatch.setattr(tf.io.TFRecordWriter, "write", no_space)
    with pytest.raises(UserError, match=f"^cannot write the dataset to {tmp_path}: No space left on device; choose"):
        build("tiny", str(tmp_path), processes=1)
    assert list((tmp_path / "explained_listops/tiny").iterdir()) == []


BUILD_OF_FULL_SIZE = """
import sys
from explainft.data.dataset_build import build
if __name__ == "__main__":
    build("tiny", sys.argv[1], processes=2)
"""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def kill_a_worker(data_dir: Path) -> None:
    wait_until(lambda: list(data_dir.glob("explained_listops/*/*/*-train.tfrecord*")))
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in children(os.getpid())}
    os.kill(next(pid for pid, command in commands.items() if "spawn_main" in command), signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes under /proc")
def test_killed_worker_takes_one_line(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        killer = pool.submit(kill_a_worker, tmp_path)
        with pytest.raises(UserError, match="^one of 2 worker processes died, perhaps for lack of memory; rerun"):
            build("tiny-1000000", str(tmp_path), processes=2)
    killer.result()
    assert not (tmp_path / "explained_listops/tiny-1000000/1.0.0").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes under /proc")
def test_killed_build_leaves_no_dataset_and_no_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(BUILD_OF_FULL_SIZE)
    process = subprocess.Popen([sys.executable, script, tmp_path], env=environment())
    try:
        wait_until(lambda: list(tmp_path.glob("explained_listops/tiny/*/*-train.tfrecord*")))
        workers = children(process.pid)
        assert len(workers) >= 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "explained_listops/tiny/1.0.0").exists()
    wait_until(lambda: not any(running(worker) for worker in workers))
    with pytest.raises(UserError, match="not built"):
        show("tiny", "test", 1, str(tmp_path))


def test_a_build_deletes_what_killed_ones_left(tmp_path):
    """TFDS names the directory that it writes to, and never looks at it again."""
    abandoned = tmp_path / "explained_listops/tiny/incomplete.ABC123_1.0.0"
    abandoned.mkdir(parents=True)
    (abandoned / "half").touch()
    directory = build("tiny", str(tmp_path), processes=1)
    assert os.listdir(directory.parent) == ["1.0.0"]


def wait_until(condition, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: build("tinny", d), "unknown config 'tinny'; did you mean 'tiny'"),
        (lambda d: build("tiny-0", d), "unknown config 'tiny-0'; did you mean 'tiny'"),
        (lambda d: build("tiny-1e6", d), "unknown config 'tiny-1e6'"),
        (lambda d: build("tiny-9", d, shards=10), "shards=10 must be at most 9"),
        (lambda d: build("tiny", d, processes=2, beam_pipeline_options=""), "processes=2 is for a build without Beam"),
        (lambda d: build("tiny", d, processes=0), "processes=0 must be an integer of at least 1"),
        (lambda d: build("tiny", d, shards=0), "shards=0 must be an integer of at least 1"),
        (lambda d: build("tiny", d, shards=21), "shards=21 must be at most 20"),
        (
            lambda d: build("tiny", f"{d}/file/below"),
            "cannot write the dataset to .*file.*: .*; choose another directory",
        ),
        (lambda d: show("tinny", "test", 1, d), "unknown config 'tinny'; did you mean 'tiny'"),
        (lambda d: show("tiny", "tests", 1, d), "unknown split 'tests'; did you mean 'test'"),
        (lambda d: show("tiny", "test", 0, d), "n=0 must be at least 1"),
        (
            lambda d: show("tiny", "test", 1, d),
            "tiny is not built in .*; run: explainft data build --config tiny --tfds_data_dir /",
        ),
    ],
)
def test_user_errors(tmp_path, call, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=message) as error:
        call(str(tmp_path))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.tfrecord*"))


def test_directory_without_dataset_is_named(tmp_path):
    (tmp_path / "explained_listops/tiny/1.0.0").mkdir(parents=True)
    with pytest.raises(UserError, match="1.0.0 exists but holds no dataset; remove it"):
        build("tiny", str(tmp_path))
