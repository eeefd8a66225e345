"""Standard streams: those that are closed, and output whose failures end a command in one line."""

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


def open_closed_streams() -> None:
    """Opens the null device in the place of each standard stream that the caller has closed.

    The next file to be opened would get its number otherwise, a checkpoint for example, and with it all that libraries
    and other processes write to this stream.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is not None or _is_open(number):
            continue
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 open until the end


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def checked_output() -> Iterator[None]:
    """Replaces sys.stdout by an `Output`, and flushes it at the end, also where an exception ends the command."""
    stream = sys.stdout
    output = sys.stdout = Output(stream)
    try:
        yield
    finally:
        sys.stdout = stream
        output.flush()


def discard(stream: Any) -> None:
    """Sends what is still buffered to nowhere: Python flushes once more at exit, and would report the failure again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
