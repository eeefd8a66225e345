"""The descriptor of an imported dataset: `problem.json` beside its records. Standard library only."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from explainft.core.errors import UserError
from explainft.problems.registry import PROBLEMS

DATASET, VERSION = "explained_questions", "1.0.0"
DESCRIPTOR = "problem.json"
DEMONSTRATIONS = "demonstrations"  # of few-shot prompts: in place of a split on the command line, and among `digests`


@dataclasses.dataclass(frozen=True)
class Descriptor:
    """What an imported dataset holds.

    `rows` and `explained` are the numbers of rows, and of those with an explanation, by split; `digests` those of the
    records. `answered` is False for a dataset without answers, which is for inference alone. `labels` are the choices
    of all rows, where the import was given them.
    """

    name: str
    problem: str
    rows: Mapping[str, int]
    explained: Mapping[str, int]
    digests: Mapping[str, str]
    answered: bool
    labels: Sequence[str] | None = None

    def write(self, directory: Path) -> None:
        """Writes the descriptor into the directory of the dataset's records."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name != "labels" or value}
        text = json.dumps(fields, indent=1)
        (directory / DESCRIPTOR).write_text(text + "\n", encoding="utf-8")


def descriptor_file(name: str, data_dir: Path) -> Path:
    """Returns where the descriptor of a dataset lies."""
    return data_dir / DATASET / name / VERSION / DESCRIPTOR


def demonstrations_file(directory: Path) -> Path:
    """Returns where the demonstrations of a dataset lie, whose records are in `directory`."""
    return directory / f"{DEMONSTRATIONS}.jsonl"


def write_demonstrations(directory: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Writes the demonstrations beside a dataset's records, as JSON lines, and returns their digest."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    demonstrations_file(directory).write_text(text, encoding="utf-8", newline="\n")
    return blake2b(text.encode(), digest_size=8).hexdigest()


def read_descriptors(data_dir: Path) -> list[Descriptor]:
    """Returns the descriptors of all datasets below a directory, by name. Raises UserError for a corrupt one."""
    found = sorted((data_dir / DATASET).glob(f"*/{VERSION}/{DESCRIPTOR}"))
    return [read_descriptor(file) for file in found]


def read_descriptor(file: Path) -> Descriptor:
    """Reads a descriptor. Raises UserError where it is missing or corrupt."""
    try:
        descriptor = Descriptor(**json.loads(file.read_text(encoding="utf-8")))
        if descriptor.problem not in PROBLEMS or not all(isinstance(n, int) for n in descriptor.rows.values()):
            raise ValueError("it names no problem or no rows")
        return descriptor
    except FileNotFoundError as error:
        name = file.parents[1].name
        raise UserError(
            f"no dataset {name!r} in {file.parents[2]}; run: explainft data import --name {name} ..."
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is corrupt ({error}); import the dataset again with --overwrite") from error
