"""TensorFlow without its greetings: it writes them to file descriptor 2 itself, past every logging setting."""

import contextlib
import functools
import os
import sys
import tempfile


@contextlib.contextmanager
def hold_native_stderr():
    """Holds back what native code writes to standard error; an exception brings it out."""
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
    """Imports TensorFlow and SeqIO, and keeps TensorFlow off the accelerators, which are JAX's."""
    with hold_native_stderr():
        import seqio  # noqa: F401
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # the user's own program has begun with them
            tf.config.set_visible_devices([], "GPU")
