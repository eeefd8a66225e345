"""What the compiler accepts, and what its errors mean."""

import jax
import pytest

from explainft.planning import compiler, hlo
from explainft.planning.compiler import OutOfMemory, Program, check_memory, least_effort_options, parse_out_of_memory
from explainft.planning.hardware import GIB


@pytest.mark.parametrize(
    ("message", "bytes_"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.5G of 15.75G hbm. Exceeded",
            (20.5, 15.75),
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (29.08G) "
            "exceeds available HBM (15.75G).",
            (29.08, 15.75),
        ),
        ("INTERNAL: something else", None),
    ],
)
def test_out_of_memory_error_is_parsed(message, bytes_):
    assert parse_out_of_memory(message) == (bytes_ and OutOfMemory(*(n * 2**30 for n in bytes_)))


def test_program_above_the_memory_does_not_fit():
    program = Program(2 * GIB, GIB, 1.0, hlo.Costs(0.0, {}, {}), 1.0)
    assert check_memory(3 * GIB, program) is program
    assert check_memory(2.9 * GIB, program) == OutOfMemory(3 * GIB, 2.9 * GIB)
    assert check_memory(GIB, OutOfMemory(5.0, 4.0)) == OutOfMemory(5.0, 4.0)


def test_least_effort_skips_options_that_the_compiler_lacks(monkeypatch):
    accepted = {"xla_cpu_enable_fast_math": False}
    monkeypatch.setattr(compiler, "LEAST_EFFORT", ({"no_such_option": 1.0}, accepted))
    assert least_effort_options(jax.devices()[:1]) == accepted
    monkeypatch.setattr(compiler, "LEAST_EFFORT", ({"no_such_option": 1.0},))
    assert least_effort_options(jax.devices()[:1]) is None
