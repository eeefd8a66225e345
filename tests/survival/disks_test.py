"""What a run survives: disks that fill, vanish or become read-only."""

import contextlib
import errno
import io
import os
import shutil
import subprocess

import pytest

from explainft.checkpoints.checkpointer import Checkpointer
from explainft.cli.output import checked_output
from explainft.core.errors import UserError
from explainft.data.batches import Batches
from explainft.evaluation import prediction_files
from explainft.training.run_directory import RunDirectory
from tests.survival import suite
from tests.survival.runs import assert_resumes_to_same_end, at_call, run

# Minutes of processes that are killed, and file systems that fill up: `make survival` runs them, and the 100 kills.
pytestmark = pytest.mark.slow


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
        assert_resumes_to_same_end(folder, tiny_data_dir, undisturbed)


@pytest.mark.parametrize("size", ["1m", "200k"])  # of one checkpoint, not of two; of none
def test_a_process_that_finds_the_disk_full_says_so_in_one_line(tmp_path, tiny_data_dir, size):
    (tmp_path / "run").mkdir()
    with mounted("-t", "tmpfs", "-o", f"size={size}", "none", str(tmp_path / "run")):
        status, errors = suite.Victim(tmp_path, "run", tiny_data_dir).end()
        assert status == 2
        [line] = [line for line in errors.splitlines() if line.startswith("explainft: error: cannot write")]
        assert "No space left on device" in line and errors.endswith(line + "\n")
        assert "Traceback" not in errors


@pytest.mark.parametrize("lines", [0, 3, 6])
def test_a_log_on_a_full_disk(tmp_path, undisturbed, tiny_data_dir, monkeypatch, lines):
    """Standard output takes some lines and no more; without it the run resumes."""

    class FullDisk(io.StringIO):
        def write(self, text):
            if self.getvalue().count("\n") >= lines:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(text)

        def fileno(self):
            return os.open(os.devnull, os.O_WRONLY)

    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", FullDisk())
        with pytest.raises(UserError, match="cannot write to standard output .No space left"), checked_output():
            run(tmp_path / "run", tiny_data_dir)
    assert_resumes_to_same_end(tmp_path / "run", tiny_data_dir, undisturbed)


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
    assert_resumes_to_same_end(folder, tiny_data_dir, undisturbed)


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
    assert_resumes_to_same_end(folder, tiny_data_dir, undisturbed)


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
    assert_resumes_to_same_end(tmp_path / "run", tiny_data_dir, undisturbed)


def test_a_token_cache_that_vanishes_is_still_open(own_cache, tmp_path, undisturbed, tiny_data_dir, monkeypatch):
    at_call(monkeypatch, Batches, "__getitem__", 2, lambda: shutil.rmtree(own_cache))
    assert_resumes_to_same_end(tmp_path / "run", tiny_data_dir, undisturbed)
