"""XLA flags for tests that compile much and run little."""

import os

import jax


def device_flags(count):
    """Returns XLA_FLAGS for a process of `count` simulated devices, whose programs compile fast."""
    flags = [os.environ["XLA_FLAGS"], f"--xla_force_host_platform_device_count={count}"]
    if jax.__version_info__ < (
        0,
        11,
    ):  # later versions lack the flag, which halves the time
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return " ".join(flags)
