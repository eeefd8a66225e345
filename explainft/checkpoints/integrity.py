"""Whether a checkpoint is what was written: a checksum of each array, a seal on its meta, and one word for all damage.

Arrays are summed where they lie, on one device, a mesh, or many hosts, with the same result: the bits of element i are
multiplied by an odd number that depends on i, and added modulo 2^32. So any change of one element shows for certain,
other damage with probability 1 - 2^-32.
"""

import contextlib
import dataclasses
import errno
import gc
import hashlib
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.errors import UserError
from explainft.model.parameters import named_leaves

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT, errno.ESTALE, errno.EIO)


class CorruptCheckpoint(UserError):
    """What was read is not what was written, or cannot be read at all."""

    def __init__(self, folder: os.PathLike[str], step: int, reason: str):
        self.what = f"checkpoint {step} in {folder} is corrupt ({reason})"
        super().__init__(f"{self.what}; choose another one, or copy it again")
        self.step = step


@dataclasses.dataclass(frozen=True)
class Summary:
    checksum: int
    finite: bool  # whether the array is free of NaN and infinity


def summaries(tree: Any) -> dict[str, Summary]:
    """Of each array by its path, one after the other: hosts that sum two arrays at once may wait for each other."""
    found = {name: jax.device_get(_summary(leaf)) for name, leaf in named_leaves(tree).items()}
    return {name: Summary(int(total), bool(finite)) for name, (total, finite) in found.items()}


def checksum(array: np.ndarray | jax.Array) -> int:
    return int(_summary(array)[0])


@jax.jit  # compiled once for each shape and sharding, of which a network has few
def _summary(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    width = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(x, width).astype(jnp.uint32)
    index = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        index = index * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    finite = jnp.all(jnp.isfinite(x)) if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.bool_(True)
    return jnp.sum(bits * (_scattered(index) | np.uint32(1)), dtype=jnp.uint32), finite


def _scattered(n: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3 (Appleby, public domain): neighbouring numbers become unlike ones."""
    n = (n ^ (n >> 16)) * np.uint32(0x85EBCA6B)
    n = (n ^ (n >> 13)) * np.uint32(0xC2B2AE35)
    return n ^ (n >> 16)


def with_digest(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The meta of a checkpoint, as JSON reads it back, with a digest of itself."""
    plain = {key: value for key, value in json.loads(json.dumps(meta)).items() if key != "digest"}
    return {**plain, "digest": _digest(plain)}


def verify_digest(meta: Mapping[str, Any]) -> None:
    """Raises ValueError where the meta was changed. One without digest and checksums is of an older format."""
    rest = {key: value for key, value in meta.items() if key != "digest"}
    if ("digest" in meta or "checksums" in meta) and meta.get("digest") != _digest(rest):
        raise ValueError("wrong checksum of meta")


def _digest(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def check_array(meta: Mapping[str, Any], item: str, name: str, found: int) -> None:
    """Raises ValueError where an array's checksum is not the one in the meta."""
    if "checksums" in meta and meta["checksums"][item][name] != found:
        raise ValueError(f"wrong checksum of {item}/{name}")


def reading(folder: os.PathLike[str], step: int) -> contextlib.AbstractContextManager[None]:
    """A context in which whatever goes wrong becomes CorruptCheckpoint."""
    return in_one_line(lambda error: CorruptCheckpoint(folder, step, reason(error, "unreadable")))


def writing(destination: os.PathLike[str]) -> contextlib.AbstractContextManager[None]:
    """A context in which whatever keeps a checkpoint from being written is told in one line."""

    def told(error: Exception) -> UserError:
        if isinstance(error, UserError):  # of what is read for it
            return error
        return UserError(f"cannot write {destination} ({reason(error)}); name a folder with room for it")

    return in_one_line(told)


@contextlib.contextmanager
def in_one_line(told: Callable[[Exception], UserError]) -> Iterator[None]:
    """Whatever goes wrong inside is told by one UserError: orbax and its libraries have many errors and many lines."""
    failure = None
    with _silence() as held:
        try:
            yield
        except (MemoryError, jax.errors.JaxRuntimeError):  # too large for the machine: neither disk nor files
            raise
        except Exception as error:
            failure = told(error)
        if failure is not None:
            gc.collect()  # now, not later, Python complains of what orbax has left behind
    if failure is not None:
        raise failure
    sys.stderr.write(held.getvalue())


@contextlib.contextmanager
def _silence() -> Iterator[io.StringIO]:
    """Holds standard error back: where something is wrong, one line will tell."""
    hook, log, held = sys.unraisablehook, logging.getLogger("asyncio"), io.StringIO()
    sys.unraisablehook, log.disabled = lambda _: None, True
    try:
        with contextlib.redirect_stderr(held):
            yield held
    finally:
        sys.unraisablehook, log.disabled = hook, False


def reason(error: BaseException, otherwise: str = "") -> str:
    """The gist of an error in a few words: the operating system's own, where it is behind it."""
    text = " ".join(str(error.args[0] if len(error.args) == 1 else error).split())
    words = next((words for words in map(os.strerror, DISK_ERRORS) if words in text), None)
    return words or (text if 0 < len(text) <= 100 else otherwise or f"{type(error).__name__}: {text[:100]}")
