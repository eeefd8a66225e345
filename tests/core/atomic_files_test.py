"""Atomic writes: what they replace, and what they leave in place."""

import multiprocessing
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from explainft.core.atomic_files import (
    atomic_write,
    check_writable,
    file_lock,
    new_directory,
    open_output,
    put_in_place,
    refuse_unwritable,
)
from explainft.core.errors import UserError


def write(path, text):
    with atomic_write(path) as scratch:
        scratch.write_text(text)


def test_a_file_is_replaced_as_a_whole(tmp_path):
    file = tmp_path / "file"
    write(file, "old")
    with open(file) as reader, atomic_write(file) as scratch:
        scratch.write_text("new")
        assert file.read_text() == "old"
        assert reader.read() == "old"
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_keeps_the_older_file(tmp_path):
    write(tmp_path / "file", "old")
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "file") as scratch:
        scratch.write_text("half")
        raise RuntimeError
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "parent" / "target"
    for content in ("old", "new"):
        with new_directory(target) as scratch:
            (scratch / "file").write_text(content)
            put_in_place(scratch, target)
        assert (target / "file").read_text() == content
    with pytest.raises(ZeroDivisionError), new_directory(target) as scratch:
        (scratch / "file").write_text(str(1 / 0))
    assert (target / "file").read_text() == "new" and os.listdir(tmp_path / "parent") == ["target"]


def _write_until_killed(target, ready):
    with new_directory(target) as scratch:
        (scratch / "half").touch()
        ready.set()
        time.sleep(60)


def test_what_a_killed_process_left_is_deleted_and_what_others_write_stays(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_write_until_killed, args=(tmp_path / "target", ready))
    process.start()
    assert ready.wait(60)
    [of_other] = tmp_path.iterdir()
    with new_directory(tmp_path / "target") as scratch:
        assert set(tmp_path.iterdir()) == {of_other, scratch}  # it lives
    process.kill()
    process.join()
    (tmp_path / "target2.0.incomplete").mkdir()
    with new_directory(tmp_path / "target") as scratch:
        assert {path.name for path in tmp_path.iterdir()} == {scratch.name, "target2.0.incomplete"}


@pytest.mark.parametrize("target_exists", [True, False])
def test_a_symbolic_link_stays(tmp_path, target_exists):
    (tmp_path / "data").mkdir()
    target = tmp_path / "data" / "target"
    if target_exists:
        target.write_text("old")
    (tmp_path / "second").symlink_to("data/target")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "second")
    with atomic_write(link) as scratch:
        scratch.write_text("new")
        assert scratch.parent == target.parent  # one file system, so that the replacement is atomic
        assert not target_exists or target.read_text() == "old"
    assert link.is_symlink() and (tmp_path / "second").is_symlink()
    assert target.read_text() == "new"


@pytest.fixture
def null_device(tmp_path):
    """A device of the test's own, so that a failure breaks no machine."""
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        device.write_text("")
    except PermissionError:
        pytest.skip("needs root to make a device")
    return device


def test_a_device_stays_a_device(null_device):
    write(null_device, "text")
    assert null_device.is_char_device()
    link = null_device.with_name("link")
    link.symlink_to(null_device)
    write(link, "text")
    assert link.is_symlink() and null_device.is_char_device()


def test_a_pipe_is_written_through(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_text()))
    reader.start()
    write(tmp_path / "pipe", "text")
    reader.join(timeout=10)
    assert found == ["text"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_full_device_is_one_line():
    full = Path("/dev/full")
    with pytest.raises(UserError, match="cannot write /dev/full .No space left on device.") as error:  # noqa: SIM117
        with refuse_unwritable(full), open_output(full) as file:
            file.write("text")
    assert "\n" not in error.value.line
    assert full.is_char_device()


def test_a_dash_is_standard_output(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_writable(Path("-"))
    with open_output(Path("-")) as file:
        file.write("text\n")
    assert capsys.readouterr().out == "text\n"
    assert not os.listdir(tmp_path)


def test_only_writable_outputs_pass(tmp_path):
    check_writable(tmp_path / "file")
    check_writable(Path("/dev/null"))
    for path in (tmp_path, tmp_path / "absent" / "file"):
        with pytest.raises(UserError, match="cannot write"):
            check_writable(path)


def _append(file, line):
    with file_lock(file):
        before = file.read_text()
        time.sleep(0.2)
        write(file, before + line)


def test_a_lock_keeps_every_process_s_line(tmp_path):
    file = tmp_path / "file"
    write(file, "")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append, args=(file, f"{i}\n")) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(file.read_text().split()) == ["0", "1", "2"]
