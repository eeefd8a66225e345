"""For hosts_test: the command line in a process that notes which training examples it reads.

python -m tests.helpers.host NOTES ARGUMENT...: NOTES gets a line for each reading, with the numbers of the examples.
"""

import sys
from pathlib import Path

from explainft.cli import main
from explainft.data import ragged


def noting(notes: Path) -> None:
    take = ragged.Ragged.take

    def noted(self, which):
        if self._directory.name.startswith("train-"):
            with open(notes, "a") as file:
                file.write(" ".join(map(str, which.tolist())) + "\n")
        return take(self, which)

    ragged.Ragged.take = noted


if __name__ == "__main__":
    noting(Path(sys.argv[1]))
    main.main(sys.argv[2:])
