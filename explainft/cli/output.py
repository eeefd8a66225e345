"""Standard output whose failures end a command in one line."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from explainft.core.errors import UserError


class Output:
    """Forwards to a text stream, and raises UserError where that cannot be written, as on a full disk.

    BrokenPipeError stays: the reader of a pipe may stop reading.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._report_failure():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._report_failure():
            self._stream.flush()

    @contextlib.contextmanager
    def _report_failure(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError as e:
            raise UserError(
                f"standard output has the encoding {self._stream.encoding}, which lacks {e.object[e.start]!a}; "
                "set PYTHONIOENCODING=utf-8"
            ) from e
        except OSError as e:
            discard(self._stream)
            if isinstance(e, BrokenPipeError):
                raise
            raise UserError(f"cannot write to standard output ({e.strerror}); make room, or write elsewhere") from e


@contextlib.contextmanager
def checked_output() -> Iterator[None]:
    """Replaces sys.stdout by an `Output`, and flushes it at the end, also where an exception ends the command."""
    stream = sys.stdout
    if stream is None:  # closed by the caller: print does nothing then
        yield
        return
    output = sys.stdout = Output(stream)
    try:
        yield
    finally:
        sys.stdout = stream
        output.flush()


def discard(stream: Any) -> None:
    """Sends what is still buffered to nowhere: Python flushes once more at exit, and would report the failure again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
