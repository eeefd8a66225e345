"""The journal of a sample file: whole batches, appended as they are complete, so that a killed run resumes.

FILE.partial has a line about the run, then a line for each problem of a batch:

    {"settings": {...}, "num_samples": 16, "inputs_per_batch": 4, "counts": [0, 0, ...]}
    {"batch": 0, "id": "9f3c...", "samples": [...]}

Log-probabilities depend on the batch, in their last bits: a batch counts when it is whole, and the batches are those of
the first line, whatever the next run would choose.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from explainft.core.atomic_files import refuse_unwritable
from explainft.core.errors import UserError
from explainft.core.jsonl import read_jsonl

Samples = list[dict[str, Any]]
HEAD = {"settings": dict, "num_samples": int, "inputs_per_batch": int, "counts": list}
BATCH = {"batch": int, "id": str, "samples": list}


@dataclasses.dataclass(frozen=True)
class Journal:
    """The journal beside a sample file."""

    output: Path

    @property
    def path(self) -> Path:
        return self.output.with_name(f"{self.output.name}.partial")

    def head(self) -> dict[str, Any] | None:
        """Returns the first line; None where there is none, or where it was not written whole."""
        rows = read_jsonl(self.path, BATCH, head=True)
        if not rows:
            return None
        fields = all(isinstance(rows[0].get(name), kind) for name, kind in HEAD.items())
        if not fields or not all(isinstance(found, dict) for found in rows[0]["settings"].values()):
            raise UserError(f"{self.path} is not the journal of a sample file; move or remove it")
        return rows[0]

    def start(self, head: Mapping[str, Any]) -> None:
        """Begins a journal, in place of any earlier one."""
        self.remove()
        self._append([head])

    def batches(self) -> dict[int, dict[str, Samples]]:
        """Returns the samples of each batch by id. A last line that was not written whole is removed from the file."""
        with refuse_unwritable(self.path), open(self.path, "rb+") as file:
            data = file.read()
            file.truncate(data.rfind(b"\n") + 1)
        found: dict[int, dict[str, Samples]] = {}
        for row in read_jsonl(self.path, BATCH, head=True)[1:]:
            found.setdefault(row["batch"], {})[row["id"]] = row["samples"]
        return found

    def add(self, batch: int, samples: Mapping[str, Samples]) -> None:
        """Appends a whole batch."""
        self._append([{"batch": batch, "id": id, "samples": found} for id, found in samples.items()])

    def _append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        with refuse_unwritable(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keeps a second process from writing the same file. The lock ends with the process, however it ends."""
    import filelock

    file = output.with_name(f"{output.name}.lock")
    lock = filelock.FileLock(file, blocking=False)
    with contextlib.suppress(OSError):  # not every file system has locks
        try:
            lock.acquire()
        except filelock.Timeout as e:
            raise UserError(f"another process is writing {output}; wait for it, or give another --output") from e
    try:
        yield
    finally:
        if lock.is_locked:
            file.unlink(missing_ok=True)
            lock.release()
