"""Compiles programs ahead of time, and reads what they need from the compiler."""

import dataclasses
import re
import time
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from explainft.model.flops import jaxpr_matmul_flops
from explainft.planning.hardware import GIB, Hardware
from explainft.planning.hlo import Costs, costs

# XLA's least effort, by the names that libtpu has had for it: a third of the time, for a program that only is measured.
LEAST_EFFORT: tuple[dict[str, Any], ...] = ({"exec_time_optimization_effort": -1.0}, {"optimization_level": "O1"})
UNKNOWN_OPTION = "No such compile option"
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

Options = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program takes on one device. `arguments` and `temporaries` in bytes; `compile_seconds` here.

    `flops`: those of the matmuls, rematerialized ones included, divided evenly by the devices.
    """

    arguments: int
    temporaries: int
    flops: float
    costs: Costs
    compile_seconds: float

    @property
    def memory(self) -> int:
        return self.arguments + self.temporaries

    def roofline_seconds(self, hardware: Hardware) -> dict[str, float]:
        """Returns the lower bound in seconds that each limit of the hardware sets."""
        return {
            "compute": self.flops / hardware.flops,
            "memory": self.costs.bytes_accessed / hardware.memory_bandwidth,
            "interconnect": self.costs.bytes_sent() / hardware.interconnect,
        }


@dataclasses.dataclass(frozen=True)
class OutOfMemory:
    """A program that does not fit: bytes that it needs on a device at least, and bytes that there are."""

    needed: float
    available: float

    def __str__(self) -> str:
        return f"it needs more than {self.needed / GIB:.2f} GiB of {self.available / GIB:.2f} GiB"


def compile_program(
    traced: Any, mesh: Mesh, while_trips: int = 1, options: Options | None = None
) -> Program | OutOfMemory:
    """Compiles a traced function; a loop of unknown length counts as `while_trips` runs of its body."""
    started = time.monotonic()
    lowered = traced.lower()
    try:
        program = lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as e:
        out_of_memory = parse_out_of_memory(str(e))
        if out_of_memory is None:
            raise
        return out_of_memory
    memory = program.memory_analysis()
    fresh_outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Program(
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes + fresh_outputs + memory.generated_code_size_in_bytes,
        flops=jaxpr_matmul_flops(traced.jaxpr.jaxpr, while_trips) / mesh.size,
        costs=costs(program.as_text(), while_trips),
        compile_seconds=time.monotonic() - started,
    )


def parse_out_of_memory(message: str) -> OutOfMemory | None:
    """Returns the bytes that the compiler's error names; None for another error."""
    for pattern in (
        r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm",
        r"temporaries \(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)",  # arguments not counted
    ):
        if match := re.search(pattern, message):
            return OutOfMemory(float(match[1]) * UNITS[match[2]], float(match[3]) * UNITS[match[4]])
    return None


def check_memory(available: float, program: Program | OutOfMemory) -> Program | OutOfMemory:
    """Returns OutOfMemory for a program above `available` bytes: v4's compiler does not count the arguments."""
    if isinstance(program, Program) and program.memory > available:
        return OutOfMemory(program.memory, available)
    return program


def least_effort_options(devices: list[Any]) -> Options | None:
    """Returns the first of LEAST_EFFORT that the devices' compiler accepts; None: full effort."""
    everywhere = NamedSharding(Mesh(devices, "devices"), PartitionSpec())
    lowered = jax.jit(lambda x: x + 1).lower(jax.ShapeDtypeStruct((), "float32", sharding=everywhere))
    for options in LEAST_EFFORT:
        try:
            lowered.compile(compiler_options=options)
            return options
        except jax.errors.JaxRuntimeError as e:
            if UNKNOWN_OPTION not in str(e):
                raise
    return None
