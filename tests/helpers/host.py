"""Runs a command and records the training examples that it reads, for hosts_test.

python -m tests.helpers.host NOTES ARGUMENT...: NOTES gets a line for each reading, with the numbers of the examples.
"""

import sys
from pathlib import Path

from explainft.cli import main
from explainft.data import ragged


def record_reads(notes: Path) -> None:
    take = ragged.Ragged.take

    def take_and_record(self, which):
        if self._directory.name.startswith("train-"):
            with open(notes, "a") as file:
                file.write(" ".join(map(str, which.tolist())) + "\n")
        return take(self, which)

    ragged.Ragged.take = take_and_record


if __name__ == "__main__":
    record_reads(Path(sys.argv[1]))
    main.main(sys.argv[2:])
