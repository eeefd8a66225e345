"""Integrity of a checkpoint: a checksum of each array, a digest of the metadata, and one error for all corruption.

A checksum is computed where its array is, on one device, a mesh or many hosts, with the same result: the bits of
element i are multiplied by an odd number that depends on i, and added modulo 2^32. Any change of one element is
detected for certain, other corruption with probability 1 - 2^-32.
"""

import contextlib
import dataclasses
import errno
import functools
import gc
import hashlib
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.errors import UserError
from explainft.model.parameters import named_leaves

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT, errno.ESTALE, errno.EIO)
_STANDARD_ERROR = threading.RLock()


class CorruptCheckpoint(UserError):
    """A checkpoint that cannot be read, or that is not what was written."""

    def __init__(self, directory: os.PathLike[str], step: int, reason: str):
        self.what = f"checkpoint {step} in {directory} is corrupt ({reason})"
        super().__init__(f"{self.what}; choose another one, or copy it again")
        self.step = step


@dataclasses.dataclass(frozen=True)
class Summary:
    checksum: int
    finite: bool  # whether the array is free of NaN and infinity


def summaries(tree: Any) -> dict[str, Summary]:
    """Summarizes each array, by its path.

    One after the other: hosts that sum two arrays at once may deadlock.
    """
    found = {name: jax.device_get(_summary(leaf)) for name, leaf in named_leaves(tree).items()}
    return {name: Summary(int(total), bool(finite)) for name, (total, finite) in found.items()}


def checksum(array: np.ndarray | jax.Array) -> int:
    """Returns the checksum of an array, modulo 2^32."""
    return int(_summary(array)[0])


@jax.jit  # compiled once for each shape and sharding, of which a model has few
def _summary(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    width = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(x, width).astype(jnp.uint32)
    index = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        index = index * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    finite = jnp.all(jnp.isfinite(x)) if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.bool_(True)
    return jnp.sum(bits * (_mix(index) | np.uint32(1)), dtype=jnp.uint32), finite


def _mix(n: jax.Array) -> jax.Array:
    """Applies the finalizer of MurmurHash3 (Appleby, public domain): neighbouring integers become unrelated ones."""
    n = (n ^ (n >> 16)) * np.uint32(0x85EBCA6B)
    n = (n ^ (n >> 13)) * np.uint32(0xC2B2AE35)
    return n ^ (n >> 16)


def with_digest(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metadata, as JSON reads it back, with a digest of itself."""
    plain = {key: value for key, value in json.loads(json.dumps(meta)).items() if key != "digest"}
    return {**plain, "digest": _digest(plain)}


def verify_digest(meta: Mapping[str, Any]) -> None:
    """Raises ValueError where the metadata is not what was written."""
    if meta.get("digest") != _digest({key: value for key, value in meta.items() if key != "digest"}):
        raise ValueError("wrong checksum of meta")


def _digest(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def check_array(meta: Mapping[str, Any], item: str, name: str, found: int) -> None:
    """Raises ValueError where the checksum of an array is not the one in the metadata."""
    if meta["checksums"][item][name] != found:
        raise ValueError(f"wrong checksum of {item}/{name}")


def reading(directory: os.PathLike[str], step: int) -> contextlib.AbstractContextManager[None]:
    """Turns any error of reading a checkpoint into CorruptCheckpoint."""
    return in_one_line(lambda error: CorruptCheckpoint(directory, step, reason(error, "unreadable")))


def writing(destination: os.PathLike[str]) -> contextlib.AbstractContextManager[None]:
    """Turns any error of writing a checkpoint into a UserError."""

    def describe(error: Exception) -> UserError:
        if isinstance(error, UserError):  # of the source
            return error
        return UserError(f"cannot write {destination} ({reason(error)}); choose a directory with enough free space")

    return in_one_line(describe)


@contextlib.contextmanager
def in_one_line(describe: Callable[[Exception], UserError]) -> Iterator[None]:
    """Turns any error into the UserError that `describe` returns: orbax and its libraries have many, of many lines.

    One thread at a time: standard error is the process's, and two that replace it would not both restore it.
    """
    with _STANDARD_ERROR, _replace_errors(describe):
        yield


@contextlib.contextmanager
def _replace_errors(describe: Callable[[Exception], UserError]) -> Iterator[None]:
    failure, report = None, sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with _silence() as held:
            try:
                yield
            except (MemoryError, jax.errors.JaxRuntimeError):  # too large for the machine: neither disk nor files
                raise
            except Exception as error:
                failure = describe(error)
            if failure is not None:
                gc.collect()  # the warnings about what orbax left open come now, while they are silenced
    finally:
        sys.unraisablehook = report if failure is None else _without_late_results(report)
    if failure is not None:
        raise failure
    sys.stderr.write(held.getvalue())


def _without_late_results(report: Callable[[Any], None]) -> Callable[[Any], None]:
    """Returns an unraisable hook without the results that come after a failure.

    Orbax closes its event loop at the first array that fails. The threads of tensorstore that work on the other arrays
    report to this loop later, an exception each, at moments that depend on the machine's load.
    """
    if isinstance(report, functools.partial) and report.func is _report_unless_late:
        return report
    return functools.partial(_report_unless_late, report)


def _report_unless_late(report: Callable[[Any], None], unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        report(unraisable)


@contextlib.contextmanager
def _silence() -> Iterator[io.StringIO]:
    """Holds standard error back: an error is reported in one line."""
    log, held = logging.getLogger("asyncio"), io.StringIO()
    log.disabled = True
    try:
        with contextlib.redirect_stderr(held):
            yield held
    finally:
        log.disabled = False


def reason(error: BaseException, otherwise: str = "") -> str:
    """Returns the cause of an error in a few words: the operating system's own where it is the cause."""
    text = " ".join(str(error.args[0] if len(error.args) == 1 else error).split())
    words = next((words for words in map(os.strerror, DISK_ERRORS) if words in text), None)
    return words or (text if 0 < len(text) <= 100 else otherwise or f"{type(error).__name__}: {text[:100]}")
