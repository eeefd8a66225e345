"""Imports TensorFlow without its start-up lines, and keeps it off the accelerators.

TensorFlow writes those lines to file descriptor 2 itself, past Python's logging.
"""

import contextlib
import functools
import logging
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def hold_native_stderr() -> Iterator[None]:
    """Holds back what native code writes to standard error, and writes it out if an exception is raised."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


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
    logging.getLogger("absl").setLevel(logging.ERROR)


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
