"""Runs a command and records the training examples that it reads, for hosts_test.

python -m tests.helpers.host NOTES SECONDS ARGUMENT...: NOTES gets a line for each reading, with the numbers of the
examples, SECONDS after it was asked for.
"""

import sys
import time
from pathlib import Path

from explainft.cli import main
from explainft.core import jax_setup
from explainft.data import ragged


def record_reads(notes: Path, seconds: float) -> None:
    take = ragged.Ragged.take

    def take_and_record(self, which):
        if self._directory.name.startswith("train-"):
            time.sleep(seconds)
            with open(notes, "a") as file:
                file.write(" ".join(map(str, which.tolist())) + "\n")
        return take(self, which)

    ragged.Ragged.take = take_and_record


def measure_a_small_peak() -> None:
    """As conftest does in the tests' own process."""
    jax_setup.configure()  # before JAX is imported
    from explainft.training import profiling

    profiling.CPU_SIZES = (64, 128)


if __name__ == "__main__":
    record_reads(Path(sys.argv[1]), float(sys.argv[2]))
    measure_a_small_peak()
    main.main(sys.argv[3:])
