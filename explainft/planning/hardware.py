"""The hardware that a plan can be made for: TPU topologies, which need not be here, and this machine's own devices."""

import dataclasses
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from explainft.core.errors import UserError, nearest
from explainft.core.tensorflow_setup import hold_native_stderr

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Peaks of one chip: bfloat16 FLOP/s, bytes of memory, bytes/s to memory, bytes/s to other chips.

    The last is the sum over a chip's links in one direction.
    """

    flops: float
    memory: float
    memory_bandwidth: float
    interconnect: float

    def __str__(self) -> str:
        return (
            f"{self.flops / 1e12:.0f} TFLOP/s, {self.memory / GIB:.0f} GiB, {self.memory_bandwidth / 1e9:,.0f} GB/s to "
            f"memory, {self.interconnect / 1e9:.0f} GB/s to other chips"
        )


# "Key specifications" of each generation, which give the interconnect in Gbps per chip: 2400, 1600, 4800 and 3584.
HARDWARE = {
    "v4": Hardware(275e12, 32 * GIB, 1228e9, 300e9),  # https://cloud.google.com/tpu/docs/v4
    "v5e": Hardware(197e12, 16 * GIB, 819e9, 200e9),  # https://cloud.google.com/tpu/docs/v5e
    "v5p": Hardware(459e12, 95 * GIB, 2765e9, 600e9),  # https://cloud.google.com/tpu/docs/v5p
    "v6e": Hardware(918e12, 32 * GIB, 1640e9, 448e9),  # https://cloud.google.com/tpu/docs/v6e
}
# By their names in Google Cloud; v4's and v5p's count cores, two on a chip.
TPU_TOPOLOGIES = {
    "v4-8": "v4:2x2x1",
    "v5e-8": "v5e:2x4",
    "v5e-16": "v5e:4x4",
    "v5p-8": "v5p:2x2x1",
    "v6e-8": "v6e:2x4",
}
LOCAL = "local"


def find_devices(topology: str) -> tuple[list[Any], Hardware | None]:
    """Returns the devices of a topology like v5e:4x4, v5e-16, cpu:8 or local, and the peaks of a TPU's chips."""
    generation, _, shape = TPU_TOPOLOGIES.get(topology, topology).partition(":")
    if topology == LOCAL:
        return jax.devices(), None
    if generation == "cpu":
        return _simulated_devices(topology, shape), None
    if generation in ("gpu", "cuda"):
        raise UserError(
            f"--topology={topology}: jax compiles for GPUs on a machine that has them; run the plan there, with "
            f"--topology={LOCAL}"
        )
    if generation not in HARDWARE or not re.fullmatch(r"\d+(x\d+)+", shape):
        known = [*TPU_TOPOLOGIES, *(f"{name}:2x2" for name in HARDWARE), "cpu:8", LOCAL]
        raise UserError(f"--topology={topology} is unknown{nearest(topology, known)}; any shape is written as v5e:4x8")
    # Nothing runs on a TPU: libtpu looks for none, and several processes may load it.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    # JAX caches a program for hardware that is not here, but cannot read it back: it warns, and compiles it again.
    jax.config.update("jax_enable_compilation_cache", False)
    options: dict[str, Any] = {"chip_config_name": "megacore"} if generation == "v4" else {}  # one device per chip
    host = [2 - int(side) % 2 for side in shape.split("x")[:2]]
    if host != [2, 2]:  # libtpu's default, by which a single chip cannot be divided
        options["chips_per_host_bounds"] = [*host, 1]
    with hold_native_stderr():  # libtpu logs that no TPU is attached
        try:
            described = topologies.get_topology_desc(platform="tpu", topology_name=f"{generation}:{shape}", **options)
            return list(described.devices), HARDWARE[generation]
        except (RuntimeError, ValueError, ImportError) as e:
            reason = " ".join(str(e).split())[:200]
    raise UserError(
        f"cannot plan for {topology} ({reason}); the TPU's compiler comes with pip install 'explainft[tpu]'"
    )


def _simulated_devices(topology: str, number: str) -> list[Any]:
    """Returns that many devices simulated on this machine's CPU; jax creates them once, when it starts."""
    if not number.isdecimal() or int(number) < 1:
        raise UserError(f"--topology={topology} is not a valid number of devices; write cpu:8")
    try:
        jax.config.update("jax_num_cpu_devices", int(number))
    except RuntimeError:  # jax has started
        have = jax.device_count()
        if have < int(number):
            raise UserError(
                f"--topology={topology}: jax has started with {have} devices; plan in a new process"
            ) from None
    return jax.devices()[: int(number)]
