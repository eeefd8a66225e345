"""What the lines of a sample file record of how their samples were made: `sampling`, and `scoring` by a verifier."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from explainft.core.errors import UserError
from explainft.samples.files import SampledProblem

PER_LINE = ("task", "max_length")  # of `sampling`; they may follow from the example


def settings_notes(problems: Sequence[SampledProblem]) -> list[str]:
    """Returns a note for each setting that differs between lines."""
    notes = []
    for kind in ("sampling", "scoring"):
        found = [_settings(problem, kind) for problem in problems]
        names = sorted({name for settings in found for name in settings} - set(PER_LINE))
        for name in names:
            values = _values(found, name)
            if len(values) > 1:
                notes.append(f"lines differ in their {kind}: {name}={' and '.join(values)}")
    return notes


def check_same_verifier(
    problems: Sequence[SampledProblem], file: Path, validation: Sequence[SampledProblem], validation_file: Path
) -> None:
    """Raises UserError where the scores of the two files are not of the same verifiers."""
    here, there = ([_settings(problem, "scoring") for problem in both] for both in (problems, validation))
    for name in sorted({name for settings in (*here, *there) for name in settings}):
        own, other = _values(here, name), _values(there, name)
        if own != other:
            raise UserError(
                f"--validation={validation_file} has scores of another verifier than {file}: "
                f"{name}={' and '.join(other)}, not {' and '.join(own)}; score both with one checkpoint and settings"
            )


def _values(lines: Sequence[Mapping[str, object]], name: str) -> list[str]:
    """Returns the values of a setting that are in any line, as JSON."""
    return sorted({json.dumps(settings.get(name), sort_keys=True) for settings in lines})


def _settings(problem: SampledProblem, kind: str) -> Mapping[str, object]:
    settings = problem.row.get(kind)
    return settings if isinstance(settings, Mapping) else {}
