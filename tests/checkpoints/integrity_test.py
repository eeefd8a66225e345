"""Checksums of a checkpoint's arrays. What they find is tested in tests/survival."""

import asyncio
import sys
import threading

import jax.numpy as jnp
import numpy as np
import pytest

from explainft.checkpoints import integrity
from explainft.core.errors import UserError


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
def test_the_checksum_is_its_definition(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 5, 3)) * 100, dtype)
    bits = np.asarray(x).ravel().view(f"u{x.dtype.itemsize}")
    total = 0
    for i, b in enumerate(bits.tolist()):
        h = (i ^ i >> 16) * 0x85EBCA6B % 2**32
        h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
        total += b * ((h ^ h >> 16) | 1)
    assert integrity.checksum(x) == total % 2**32


class CallOnDeletion:
    """Calls a function when it is deleted: an exception there is unraisable, as one in a thread of tensorstore."""

    def __init__(self, function):
        self.function = function

    def __del__(self):
        self.function()


def test_results_after_a_failed_write_are_silent(tmp_path, monkeypatch):
    loop = asyncio.new_event_loop()
    loop.close()
    late, other = CallOnDeletion(lambda: loop.call_soon_threadsafe(print)), CallOnDeletion(lambda: [][0])
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(str(unraisable.exc_value)))
    for _ in range(2):
        with pytest.raises(UserError, match="^cannot write .*No space left on device"), integrity.writing(tmp_path):
            raise OSError(28, "No space left on device")
    del late, other
    assert reported == ["list index out of range"]


def test_threads_restore_standard_error(tmp_path):
    before, second_is_in, first_is_out = sys.stderr, threading.Event(), threading.Event()

    def second():
        with integrity.reading(tmp_path, 1):
            second_is_in.set()
            first_is_out.wait(10)

    thread = threading.Thread(target=second)
    with integrity.reading(tmp_path, 1):
        thread.start()
        second_is_in.wait(0.2)
    first_is_out.set()
    thread.join()
    assert sys.stderr is before
