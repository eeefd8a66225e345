"""Files that appear whole or not at all."""

import contextlib
import fcntl
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from etils import epath

from explainft.core.errors import UserError

AnyPath = TypeVar("AnyPath", Path, epath.Path)


@contextlib.contextmanager
def atomic_write(path: AnyPath) -> Iterator[AnyPath]:
    """Where to write instead of `path`, whose place it takes at the end. Where writing fails, an older file stays.

    Several processes may write the same file: each writes its own, and the last one's is left.
    """
    scratch = path.parent / f"{path.name}.{uuid.uuid4().hex}.incomplete"
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Waits until no other process is in here with the same file: for what is read, added to and published anew."""
    with open(path.with_name(f"{path.name}.lock"), "a", encoding="utf-8") as lock:
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def refuse_unwritable(path: Path) -> Iterator[None]:
    """What the operating system refuses below `path` is told in one line."""
    try:
        yield
    except OSError as e:
        raise UserError(
            f"cannot write {path} ({e.strerror}); make it writable or make room, and give the same command again"
        ) from e
