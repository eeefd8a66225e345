"""Settings that the process needs before JAX starts, so that a CPU neither waits nor compiles again.

The commands call `configure`. As a library, explainft sets nothing.
"""

import ctypes
import functools
import glob
import hashlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from explainft.core.errors import require_local

GPU_DEVICES, TPU_DEVICES = "/dev/nvidia[0-9]*", ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*")  # as Linux names them
CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
LARGE_BLOCK = 2**20  # bytes
PAGE = 4096  # bytes, which a full disk has no room for


def cache_root() -> Path:
    """Returns EXPLAINFT_CACHE_DIR, or ~/.cache/explainft. Raises UserError for a bucket."""
    directory = os.environ.get("EXPLAINFT_CACHE_DIR") or "~/.cache/explainft"  # an empty setting counts as none
    require_local(EXPLAINFT_CACHE_DIR=directory)
    return Path(directory).expanduser()


def configure(keep_large_blocks: bool = True) -> None:
    """Configures JAX and malloc, and imports JAX. Variables of JAX that the user has set keep their values.

    It sets the compilation cache, synchronous dispatch on a CPU, and whether malloc keeps large blocks. Call it before
    anything else imports JAX.
    """
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_root() / "compiled" / _processor()))
    _check_compilation_cache(os.environ["JAX_COMPILATION_CACHE_DIR"])
    _skip_missing_tpu()
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    _configure_malloc(keep_large_blocks)
    import jax

    # Synchronous dispatch leaves all cores to the computation. JAX has the setting, but reads no variable for it.
    jax.config.update("jax_cpu_enable_async_dispatch", _flag("JAX_CPU_ENABLE_ASYNC_DISPATCH", "false"))


def _flag(name: str, default: str) -> bool:
    return os.environ.get(name, default).lower() in ("true", "1")


def _check_compilation_cache(directory: str) -> None:
    """Turns the compilation cache off where it cannot be written, with a note: JAX would warn of each program."""
    if not directory or "://" in directory or not _flag("JAX_ENABLE_COMPILATION_CACHE", "true"):
        return
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(PAGE))
    except OSError as e:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        print(
            f"note: cannot write compiled programs to {directory} ({e.strerror}), so each command compiles its own; "
            "set EXPLAINFT_CACHE_DIR to another directory",
            file=sys.stderr,
        )


def _configure_malloc(keep_large_blocks: bool) -> None:
    """Makes glibc keep freed blocks of any size, or return the large ones to the kernel at once.

    XLA allocates its temporary arrays, up to gigabytes in one block, at every step. By default glibc maps such blocks
    separately and returns them, so each step faults in every page: up to a third of its time. What decodes with caches
    of many sizes had better return them: kept blocks that fit no other size came to three times the memory.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    if keep_large_blocks:
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
    else:
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)  # a fixed one: glibc raises its own with each freed block


def _skip_missing_tpu() -> None:
    """Keeps JAX from looking for a TPU where its compiler is installed to plan with, but no TPU: JAX prints errors."""
    if "JAX_PLATFORMS" in os.environ or importlib.util.find_spec("libtpu") is None or any(map(glob.glob, TPU_DEVICES)):
        return
    has_cuda = glob.glob(GPU_DEVICES) and any(map(importlib.util.find_spec, CUDA_PLUGINS))
    os.environ["JAX_PLATFORMS"] = "cuda,cpu" if has_cuda else "cpu"


def has_bfloat16_matmul() -> bool:
    """Returns whether this processor has instructions for bfloat16 matmuls that XLA uses."""
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(processor_features().split())


def _processor() -> str:
    """Returns a name of the instruction sets: machines with different processors may share a home directory."""
    return hashlib.sha256((processor_features() or os.uname().machine).encode()).hexdigest()[:8]


@functools.cache
def processor_features() -> str:
    """Returns Linux's line of the processor's instruction sets, or an empty string."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
