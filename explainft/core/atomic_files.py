"""Atomic writes of files and directories, file locks, and outputs that the user names."""

import contextlib
import fcntl
import glob
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

from explainft.core.errors import UserError

if TYPE_CHECKING:  # `explainft --help` imports this module, and must not wait for etils and filelock
    from etils import epath

AnyPath = TypeVar("AnyPath", Path, "epath.Path")
STANDARD_OUTPUT = Path("-")
INCOMPLETE = ".incomplete"  # ends the name of what is still being written


@contextlib.contextmanager
def atomic_write(path: AnyPath) -> Iterator[AnyPath]:
    """Yields a scratch path to write to, which replaces `path` at the end. If writing fails, an older file stays.

    Several processes may write the same file: each writes its own scratch file, and the last one wins. A symbolic link
    stays, and its target is replaced. A device or a pipe cannot be replaced: `path` itself is yielded, to be opened
    once.
    """
    target = _resolve_link(path)
    if _is_special(target):
        yield target
        return
    scratch = _scratch(target)
    try:
        yield scratch
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def _scratch(target: AnyPath) -> AnyPath:
    return target.parent / f"{target.name}.{uuid.uuid4().hex}{INCOMPLETE}"


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yields a scratch directory, to be filled and given to `put_in_place`; at the end nothing is left of it.

    It also deletes those for the same target that killed processes left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(target)
    with without_abandoned(target.parent, f"{glob.escape(target.name)}.*{INCOMPLETE}"):
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def put_in_place(scratch: Path, target: Path) -> None:
    """Renames a complete directory to `target`. One that is there is deleted, or stays where the renaming fails."""
    old = _scratch(target)
    if target.exists():
        target.rename(old)  # not emptied: who reads it keeps its files open
    try:
        scratch.rename(target)
    except OSError:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def without_abandoned(directory: Path, pattern: str) -> Iterator[None]:
    """Deletes what killed processes left in a directory by the names of `pattern`, and keeps what is written meanwhile.

    All who write there hold a shared lock of the directory, which the kernel releases when a process ends; an exclusive
    one proves that there are none. Where a file system has no locks, nothing is deleted.
    """
    number = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for abandoned in directory.glob(pattern):
                shutil.rmtree(abandoned, ignore_errors=True)
        with contextlib.suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_SH)
        yield
    finally:
        os.close(number)


def _resolve_link(path: AnyPath) -> AnyPath:
    """Returns where a symbolic link leads, through any number of links; any other path as it is."""
    name = os.fspath(path)
    return type(path)(os.path.realpath(name)) if "://" not in name and os.path.islink(name) else path


def _is_special(path: os.PathLike[str]) -> bool:
    """Returns whether the path is something other than a file or a directory: a device, a pipe or a socket."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # absent, in a bucket, or not readable: the write reports it
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextlib.contextmanager
def open_output(path: Path) -> Iterator[TextIO]:
    """Yields the stream of an output that the user names: standard output for `-`, else an atomic write of `path`."""
    if path == STANDARD_OUTPUT:
        yield sys.stdout
        sys.stdout.flush()
        return
    with atomic_write(path) as scratch, open(scratch, "w", encoding="utf-8") as file:
        yield file


def check_writable(path: Path) -> None:
    """Refuses an output that the user may not write: before hours of work, not after."""
    if path == STANDARD_OUTPUT:
        return
    target = _resolve_link(path)
    needed = target if _is_special(target) else target.parent
    if target.is_dir() or not os.access(needed, os.W_OK):
        raise UserError(f"cannot write {path}; choose a file in a writable directory, or - for standard output")


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Holds the lock of a file that is read, changed and written: waits until no other process has it."""
    import filelock

    with contextlib.ExitStack() as stack:
        # Not every file system has locks: there the last writer wins.
        with contextlib.suppress(OSError):
            stack.enter_context(filelock.FileLock(path.with_name(f"{path.name}.lock")))
        yield


@contextlib.contextmanager
def refuse_unwritable(path: Path) -> Iterator[None]:
    """Turns an OSError of a write below `path` into a UserError."""
    try:
        yield
    except OSError as e:
        raise UserError(
            f"cannot write {path} ({e.strerror}); make it writable or free space, then rerun the same command"
        ) from e
