"""What the process must be told before JAX starts, so that a CPU computes instead of waiting."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def prepare() -> None:
    """To be called before JAX is imported. What the user has set in the environment stays."""
    # Synchronous dispatch leaves both cores to the computation: it nearly doubles the training speed on a CPU.
    os.environ.setdefault("JAX_CPU_ENABLE_ASYNC_DISPATCH", "false")
    # XLA allocates its temporary arrays anew at every step. glibc hands large blocks back to the kernel at once,
    # so each step would fault in every page again: a third of the time of a small model.
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
