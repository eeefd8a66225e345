"""The votes of sample files that a report shows beside its runs."""

from collections.abc import Sequence
from pathlib import Path

from explainft.reporting.vote_charts import Line, lines_of
from explainft.samples.layouts import read_any
from explainft.voting.ballots import make_ballots
from explainft.voting.vote import MAJORITY, PASS, SCORE, vote


def read_votes(files: Sequence[Path]) -> list[Line]:
    """Returns pass@k, majority@k and the vote by score of each file, named after the file where there are several."""
    lines = []
    stems = [file.stem for file in files]
    for file in files:
        name = "" if len(files) == 1 else file.stem if stems.count(file.stem) == 1 else str(file)
        found = vote(make_ballots(read_any(file)))
        lines += lines_of(name, found, (PASS, MAJORITY, SCORE))
    return lines
