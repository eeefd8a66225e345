"""What an import says of its rows: what it left out and why, and what is odd."""

import dataclasses
from collections import Counter, defaultdict
from pathlib import Path
from typing import TextIO

from explainft.problems.problem import StepCheck

SHOWN = 3  # places of each kind
ROWS_FILE = "rows.tsv"  # beside the records: every row that was refused or noted


@dataclasses.dataclass
class Report:
    """Counts by split, and places (file and line) by reason. `refused` rows are left out, `noted` ones are kept.

    All of them go to `file`, a line each: refused or noted, the file, the line and the reason.
    """

    file: TextIO
    rows: Counter[str] = dataclasses.field(default_factory=Counter)
    refused: dict[str, list[str]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    noted: dict[str, list[str]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    counts: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    lengths: list[str] = dataclasses.field(default_factory=list)  # lines
    answers: dict[str, Counter[str]] = dataclasses.field(default_factory=lambda: defaultdict(Counter))
    steps: dict[str, Counter[str]] = dataclasses.field(default_factory=lambda: defaultdict(Counter))  # by verdict

    def refuse(self, reason: str, path: Path, line: int) -> None:
        """Counts a row that is left out."""
        self._add("refused", self.refused, reason, path, line)

    def note(self, reason: str, path: Path, line: int) -> None:
        """Counts a row that is kept."""
        self._add("noted", self.noted, reason, path, line)

    def add_steps(self, split: str, check: StepCheck) -> None:
        """Counts the steps of an explanation."""
        counts = {"correct": check.correct, "incorrect": check.incorrect, "unreadable": check.unreadable}
        self.steps[split].update(counts)

    def _add(self, kind: str, places: dict[str, list[str]], reason: str, path: Path, line: int) -> None:
        self.counts[kind, reason] += 1
        self.file.write(f"{kind}\t{path.name}\t{line}\t{reason}\n")
        if len(places[reason]) < SHOWN:
            places[reason].append(f"{path.name} line {line}")

    def lines(self) -> list[str]:
        """Returns the report, a line each."""
        lines = [f"{split}: {n:,} rows" for split, n in self.rows.items()]
        for split, answers in self.answers.items():
            if len(answers) <= 10 and any(answers):  # not where all are empty, of a dataset for inference
                total = sum(answers.values())
                fractions = [f"{answer} {n / total:.1%}" for answer, n in sorted(answers.items())]
                lines.append(f"{split} answers: {', '.join(fractions)}")
        for split, steps in self.steps.items():
            if total := sum(steps.values()):
                counts = ", ".join(f"{n:,} {verdict}" for verdict, n in steps.items())
                lines.append(f"{split}: {total:,} steps of explanations are checked: {counts}")
        for kind, places in (("refused", self.refused), ("noted", self.noted)):
            for reason in sorted(places, key=lambda r: -self.counts[kind, r]):
                n, shown = self.counts[kind, reason], ", ".join(places[reason])
                lines.append(f"{kind} {n:,}: {reason} ({shown}{', ...' if n > SHOWN else ''})")
        if self.counts:
            lines.append(f"all of them: {ROWS_FILE} in the directory of the dataset")
        return lines + self.lengths
