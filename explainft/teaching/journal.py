"""The journals beside an output: the answers, each appended as it comes, and an audit log of all requests.

    OUTPUT.answers.jsonl   {"key": "9f3c...", "text": "...", "finish_reason": "stop", "max_tokens": 256, ...}
    OUTPUT.requests.jsonl  {"event": "request", "key": "9f3c...", "attempt": 1, "body": {...}, ...}
                           {"event": "response", "key": "9f3c...", "attempt": 1, "outcome": "HTTP 429", ...}

A killed process leaves whole lines and perhaps one that is cut off, which the next one removes.
"""

import dataclasses
import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from explainft.core.atomic_files import refuse_unwritable
from explainft.core.errors import UserError
from explainft.core.jsonl import read_jsonl
from explainft.teaching.requests import CUT, Answer

_REQUIRED = {"key": str, "finish_reason": str, "max_tokens": int}


class AppendedLines:
    """A file of JSON lines. Each line is one write: a killed process loses at most the one in progress."""

    def __init__(self, path: Path, redact: Callable[[str], str] = lambda text: text):
        self.path, self._redact, self._file = path, redact, None

    def append(self, row: dict[str, Any]) -> None:
        with refuse_unwritable(self.path):
            if self._file is None:
                self._remove_torn_line()
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115  open between answers
            self._file.write((self._redact(json.dumps(row)) + "\n").encode())

    def close(self) -> None:
        """Writes what the operating system still holds to the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def _remove_torn_line(self) -> None:
        if self.path.exists():
            with open(self.path, "rb+") as file:
                data = file.read()
                file.truncate(data.rfind(b"\n") + 1)


class AnswerJournal:
    """The answers beside an output, by the keys of their requests."""

    def __init__(self, output: Path):
        self._lines = AppendedLines(output.with_name(f"{output.name}.answers.jsonl"))

    @property
    def path(self) -> Path:
        return self._lines.path

    def read(self) -> dict[str, Answer]:
        """Returns the latest answer of each key. Raises UserError, with the line, for a file of something else."""
        answers = {}
        for number, row in enumerate(read_jsonl(self.path, _REQUIRED), 1):
            values: dict[str, Any] = {field.name: row.get(field.name) for field in dataclasses.fields(Answer)}
            if not isinstance(row.get("text"), str) and row["finish_reason"] != CUT:
                raise UserError(f"{self.path} line {number} has no text; correct or delete the line")
            answers[row["key"]] = Answer(**values)
        return answers

    def add(self, key: str, answer: Answer) -> None:
        self._lines.append({"key": key, **dataclasses.asdict(answer)})

    def close(self) -> None:
        self._lines.close()


class AuditLog:
    """The log of all requests and of what came back."""

    def __init__(self, output: Path, redact: Callable[[str], str]):
        self._lines = AppendedLines(output.with_name(f"{output.name}.requests.jsonl"), redact)

    @property
    def path(self) -> Path:
        return self._lines.path

    def add(self, event: str, key: str, attempt: int, **fields: Any) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self._lines.append({"time": now, "event": event, "key": key, "attempt": attempt, **fields})

    def close(self) -> None:
        self._lines.close()
