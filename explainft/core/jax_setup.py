"""What the process must be told before JAX starts, so that a CPU computes instead of waiting or compiling again."""

import ctypes
import functools
import hashlib
import os
import sys
from pathlib import Path

from explainft.core.errors import require_local

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def cache_root() -> Path:
    """EXPLAINFT_CACHE_DIR, or ~/.cache/explainft. Raises UserError for a bucket."""
    folder = os.environ.get("EXPLAINFT_CACHE_DIR") or "~/.cache/explainft"  # an empty setting is none
    require_local(EXPLAINFT_CACHE_DIR=folder)
    return Path(folder).expanduser()


def configure() -> None:
    """To be called before JAX computes, and before it is imported. Variables of JAX that the user has set stay."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_root() / "compiled" / _processor()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # XLA takes its temporary arrays, up to gigabytes in one block, anew at every step. glibc maps such blocks apart and
    # hands them back to the kernel at once, so each step would fault in every page again: up to a third of its time.
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, -1)
    import jax

    # Synchronous dispatch leaves all cores to the computation. JAX has the setting, but reads no variable for it.
    asynchronous = os.environ.get("JAX_CPU_ENABLE_ASYNC_DISPATCH", "false").lower() in ("true", "1")
    jax.config.update("jax_cpu_enable_async_dispatch", asynchronous)


def has_bfloat16_matmul() -> bool:
    """Whether this processor has instructions for products of bfloat16 numbers that XLA uses."""
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(_features().split())


def _processor() -> str:
    """A name for what machine code depends on: a home folder may be shared by machines with unlike processors."""
    return hashlib.sha256((_features() or os.uname().machine).encode()).hexdigest()[:8]


@functools.cache
def _features() -> str:
    """The line of Linux that names the processor's instructions, else nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
