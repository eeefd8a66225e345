"""What a run writes beside its checkpoints: config.gin, metrics.jsonl, TensorBoard events; and how far it has come."""

import contextlib
import fcntl
import json
import math
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter

from explainft.core.atomic_files import atomic_write, refuse_unwritable
from explainft.core.errors import UserError
from explainft.core.jsonl import read_jsonl


class Timer:
    """Seconds of training since the last lap; pausing leaves evaluation and saving out."""

    def __init__(self):
        self._started = time.monotonic()
        self._kept = 0.0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self._stop()
        yield
        self._started = time.monotonic()

    def lap(self) -> float:
        self._stop()
        seconds, self._kept = self._kept, 0.0
        self._started = time.monotonic()
        return seconds

    def _stop(self) -> None:
        self._kept += time.monotonic() - self._started


@contextlib.contextmanager
def locked(model_dir: Path) -> Iterator[None]:
    """Keeps a second training process out of MODEL_DIR; readers come and go.

    The kernel takes the lock back when the process ends, however it ends. It reaches as far as the file system carries
    it: processes of one machine always, several machines on NFS 4 or Lustre, not on buckets.
    """
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        file = open(model_dir / "lock", "a+", encoding="utf-8")  # noqa: SIM115  closed below
    except OSError as e:
        raise UserError(f"cannot write MODEL_DIR={str(model_dir)!r} ({e.strerror}); choose a writable folder") from e
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            file.seek(0)
            raise UserError(
                f"MODEL_DIR={str(model_dir)!r} is being trained by {file.read() or 'another process'}; "
                "stop that one first, or choose another MODEL_DIR"
            ) from e
        except OSError as e:  # not every file system has locks
            print(f"note: {model_dir} cannot be locked ({e.strerror}); train it once at a time", file=sys.stderr)
        with refuse_unwritable(model_dir):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.truncate(0)


class RunDirectory:
    """MODEL_DIR of one run. Raises UserError where it cannot be written, or is gone.

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
            with atomic_write(path / "vocabulary.model") as scratch:  # inference needs nothing but this folder
                shutil.copyfile(vocabulary, scratch)
            events = path / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
            self._events = open(events, "ab")  # noqa: SIM115  closed in __exit__
        self._event_writer = RecordWriter(self._events)
        self._event_writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def _config(self) -> Path:
        return self.path / "config.gin"

    def log(self, row: dict[str, float]) -> None:
        """One line of metrics.jsonl, and the same to TensorBoard."""
        if not self._writes:
            return
        # Of a disk that was unmounted the empty mount point is left, which could be written.
        if not self._config.is_file():
            raise UserError(
                f"MODEL_DIR={str(self.path)!r} has vanished; bring it back, and give the same command again"
            )
        with refuse_unwritable(self.metrics_file), open(self.metrics_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.tensorboard(int(row["step"]), {k: v for k, v in row.items() if k != "step"})

    def tensorboard(self, step: int, values: dict[str, float]) -> None:
        if not self._writes:
            return
        tags = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if math.isfinite(value)]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=tags))
        with refuse_unwritable(self.path):
            self._event_writer.write(event.SerializeToString())
            self._event_writer.flush()

    def truncate_after(self, step: int, *, evaluated: bool = True) -> None:
        """Drops the lines of updates that a resumed run makes again, and of an evaluation that it owes."""
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
        # What could not be written a moment ago is tried once more; it was told already.
        with contextlib.suppress(OSError) if error else refuse_unwritable(self.path):
            self._events.close()
