"""XLA flags for tests, which compile much and run little."""

import os
from importlib import metadata


def compilation_flags() -> str:
    """Returns XLA_FLAGS with which programs compile fast.

    LLVM takes most of a test's time, for machine code that runs for milliseconds. Without optimization it takes half,
    and without fusion emitters half of that; later versions of JAX lack their flag.
    """
    flags = ["--xla_backend_optimization_level=0"]
    if tuple(map(int, metadata.version("jax").split(".")[:2])) < (0, 11):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return " ".join(flags)


def device_flags(count: int) -> str:
    """Returns XLA_FLAGS for a process of `count` simulated devices."""
    return f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
