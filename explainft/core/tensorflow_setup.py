"""Imports TensorFlow without its start-up lines, and keeps it off the accelerators.

TensorFlow writes those lines to file descriptor 2 itself, past Python's logging.
"""

import contextlib
import functools
import importlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

# "I0000 00:00:1796026624.55 19494 port.cc:153] ...", and what Abseil writes before the first of them.
LOG_LINE = re.compile(rb"[IWE][0-9]{4} .*[.](cc|h):[0-9]+\]|WARNING: All log messages before absl::InitializeLog")
ANY_LINE = re.compile(b"")


@contextlib.contextmanager
def hold_native_stderr(drop: re.Pattern[bytes] = ANY_LINE) -> Iterator[None]:
    """Holds back standard error, native code's too, and drops lines that match; all are written after an exception."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            held.seek(0)
            os.write(terminal, b"".join(line for line in held if failed or not drop.match(line)))
            os.dup2(terminal, 2)
            os.close(terminal)


def import_quietly(module: str) -> ModuleType:
    """Imports a module that may import TensorFlow; what else it writes to standard error is kept."""
    if module in sys.modules:
        return sys.modules[module]
    with _native_log_level(), hold_native_stderr(LOG_LINE):
        imported = importlib.import_module(module)
    if "tensorflow" in sys.modules:
        import_tensorflow()
    return imported


@functools.cache
def import_tensorflow() -> None:
    """Imports TensorFlow and SeqIO, quietly and without accelerators, which are JAX's.

    Their warnings stay off standard error for the rest of the process: TensorFlow's native ones unless the user has set
    TF_CPP_MIN_LOG_LEVEL, and those of TensorFlow Datasets and SeqIO, which go through the logger "absl".
    """
    with _native_log_level(), hold_native_stderr():
        import seqio  # noqa: F401
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # the user's own program has initialized them
            tf.config.set_visible_devices([], "GPU")
    absl = logging.getLogger("absl")
    absl.setLevel(max(absl.level, logging.ERROR))  # Orbax's messages are of the same logger


@contextlib.contextmanager
def _native_log_level() -> Iterator[None]:
    """Raises TensorFlow's native log level to errors while it is imported, which is when it reads the variable."""
    before = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
    if before in (None, "1"):  # importing JAX sets 1
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TF_CPP_MIN_LOG_LEVEL")
        else:
            os.environ["TF_CPP_MIN_LOG_LEVEL"] = before
