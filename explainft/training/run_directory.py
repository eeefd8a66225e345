"""What a run writes beside its checkpoints: config.gin, metrics.jsonl, TensorBoard events."""

import contextlib
import json
import math
import os
import re
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import filelock
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.summary import scalar

from explainft.core.atomic_files import atomic_write, refuse_unwritable
from explainft.core.errors import UserError
from explainft.core.jsonl import read_jsonl


@contextlib.contextmanager
def locked(model_dir: Path) -> Iterator[None]:
    """Creates MODEL_DIR and keeps a second training process out of it; other processes may read it.

    The kernel releases the lock when the process ends, however it ends. It reaches as far as the file system supports
    it: always on one machine, across machines on NFS 4 or Lustre, and not on buckets. A directory in which
    nothing was written is removed again. Raises UserError where another process trains, or nothing can be written.
    """
    created = [path for path in (model_dir, *model_dir.parents) if not path.exists()]
    file = model_dir / "lock"
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as e:
        raise UserError(f"cannot write MODEL_DIR={str(model_dir)!r} ({e.strerror}); choose a writable directory") from e
    lock = filelock.FileLock(file, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout as e:
        raise UserError(
            f"MODEL_DIR={str(model_dir)!r} is being trained by {file.read_text() or 'another process'}; "
            "stop that one first, or choose another MODEL_DIR"
        ) from e
    except OSError as e:  # not every file system has locks
        print(f"note: {model_dir} cannot be locked ({e.strerror}); train it once at a time", file=sys.stderr)
    with refuse_unwritable(model_dir):
        file.write_text(f"process {os.getpid()} on {socket.gethostname()}")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.truncate(file, 0)
        with contextlib.suppress(OSError):
            if created and {path.name for path in model_dir.iterdir()} <= {"lock", "checkpoints"}:
                _remove_empty(created)
        lock.release()


def _remove_empty(created: list[Path]) -> None:
    """Removes the directories that were created, the innermost first. Raises OSError where one holds checkpoints."""
    model_dir = created[0]
    if (model_dir / "checkpoints").exists():
        (model_dir / "checkpoints").rmdir()
    (model_dir / "lock").unlink()
    for directory in created:
        directory.rmdir()


class RunDirectory:
    """Writes to MODEL_DIR. Raises UserError where it cannot be written, or has vanished.

    Of several processes one `writes`; for the others this does nothing.
    """

    def __init__(self, path: Path, config_text: str, vocabulary: Path, *, writes: bool = True):
        self.path = path
        self._writes = writes
        if not writes:
            return
        with refuse_unwritable(path):
            path.mkdir(parents=True, exist_ok=True)
            self._config.write_text(config_text)
            with atomic_write(path / "vocabulary.model") as scratch:  # inference needs nothing but this directory
                shutil.copyfile(vocabulary, scratch)
            # Synchronous, unlike SummaryWriter: what a full disk refuses is an error here and not in a thread.
            self._events = EventsWriter(str(path / "events"), f".{uuid.uuid4().hex[:8]}")

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def _config(self) -> Path:
        return self.path / "config.gin"

    def log(self, row: dict[str, float]) -> None:
        """Appends a line to metrics.jsonl, and writes the same to TensorBoard."""
        if not self._writes:
            return
        # The empty mount point of a disk that was unmounted could be written.
        if not self._config.is_file():
            raise UserError(f"MODEL_DIR={str(self.path)!r} has vanished; bring it back, then rerun the same command")
        with refuse_unwritable(self.metrics_file), open(self.metrics_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.tensorboard(int(row["step"]), {k: v for k, v in row.items() if k != "step"})

    def tensorboard(self, step: int, values: dict[str, float]) -> None:
        """Writes scalars of a step. Values that are not finite are left out."""
        if not self._writes:
            return
        event = Event(step=step, wall_time=time.time())
        for tag, value in values.items():
            if math.isfinite(value):
                event.summary.MergeFrom(scalar(tag, value))
        with refuse_unwritable(self.path):
            self._events.write_event(event)
            self._events.flush()

    def truncate_after(self, step: int, *, evaluated: bool = True) -> None:
        """Drops the lines of steps that a resumed run repeats, and of an evaluation that is pending."""
        if not self._writes or not self.metrics_file.is_file():
            return
        kept = [
            row
            for row in read_jsonl(self.metrics_file, {"step": int})
            if row["step"] < step or (row["step"] == step and (evaluated or "loss" in row))
        ]
        with refuse_unwritable(self.metrics_file), atomic_write(self.metrics_file) as scratch:
            scratch.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if not self._writes:
            return
        # What could not be written a moment ago is tried once more; it was reported already.
        with contextlib.suppress(OSError) if error else refuse_unwritable(self.path):
            self._events.close()


def find_changed_macros(directory: Path, config_text: str) -> dict[str, tuple[str, str]]:
    """Returns the macros whose value in `config_text` is not that of the directory's config.gin: old and new value."""
    file = directory / "config.gin"
    before = read_macros(file.read_text(encoding="utf-8")) if file.is_file() else {}
    now = read_macros(config_text)
    names = sorted(before.keys() & now.keys() - {"MODEL_DIR"})
    return {name: (before[name], now[name]) for name in names if before[name] != now[name]}


def read_macros(config_text: str) -> dict[str, str]:
    """Reads the lines NAME = VALUE of a config.gin; gin breaks long values into several lines, indented."""
    found = re.findall(r"^(\w+) = (.*(?:\n[ \t]+.*)*)", config_text, re.MULTILINE)
    return {name: " ".join(value.replace("\\\n", "\n").split()) for name, value in found}
