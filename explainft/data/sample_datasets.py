"""The datasets that `explainft data samples` makes: their descriptors, and the names of their tasks.

A dataset `explained_samples/<name>_<rows>` has examples of one kind, or of several for joint training:

    verifier  a prompt with a problem and a candidate solution, and whether the solution is correct
    correct   a problem, and a correct sample of it
    gold      a problem, and its gold output

`tasks.samples` registers its tasks: explained_<name>_<rows> for training, ..._eval_<split> for evaluation, ..._eval for
the mixture of those, each again with the suffix _compact. Standard library only.
"""

import base64
import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from explainft.core.errors import UserError, nearest
from explainft.problems.registry import PROBLEMS

DATASET, VERSION = "explained_samples", "1.0.0"
DESCRIPTOR = "samples.json"  # beside the records
ROWS = ("verifier", "correct", "gold")
LABELS = ("correct", "incorrect")  # of a verifier's examples
BALANCES = ("problem", "dataset", "none")  # where a verifier has as many correct solutions as incorrect ones
EACH_STEP = "each_step"
# What is correct: the final answer, that and every step, or the same with a label after each line.
LABELED_BY = ("answer", "steps", EACH_STEP)
VOCABULARIES = {"t5": "", "compact": "_compact"}  # and the suffixes of their tasks


@dataclasses.dataclass(frozen=True)
class SampleDescriptor:
    """What a dataset of samples holds.

    `generator` is what the outputs of the generator are read by: a problem and a form, or a style and a modulus of
    ListOps. `prompt` and `labeled_by` are the verifier's. `examples` are the numbers of examples by split, `digests`
    those of the records, `questions` the training questions as `pack_digests` makes them.
    """

    name: str
    rows: list[str]
    generator: Mapping[str, Any]
    prompt: str
    labeled_by: str
    examples: Mapping[str, int]
    digests: Mapping[str, str]
    questions: str

    @property
    def dataset(self) -> str:
        return f"{self.name}_{'_'.join(self.rows)}"

    def training_meta(self) -> dict[str, Any]:
        """Returns what a run that trains on the dataset keeps of it."""
        verifier = {"prompt": self.prompt, "labeled_by": self.labeled_by, "generator": dict(self.generator)}
        return {
            "dataset_digest": self.digests["train"],
            "trained_questions": self.questions,
            **({"verifier": verifier} if "verifier" in self.rows else {}),
        }

    def write(self, directory: Path) -> None:
        """Writes the descriptor into the directory of the dataset's records."""
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)
        (directory / DESCRIPTOR).write_text(text + "\n", encoding="utf-8")


def label_lines(solution: str) -> str:
    """Returns a solution with the label `correct` after each line but the last."""
    return solution.replace("\n", f"\n{LABELS[0]}\n")


def prefix_spans(prefix: str, labeled_by: str) -> list[str]:
    """Returns the spans of what the decoder reads before a label, which are tokenized alone.

    Labels between lines are spans of their own, so that each is written as the last one is.
    """
    if labeled_by != EACH_STEP:
        return [f"{prefix}\n"]
    lines = prefix.split("\n")
    return [line if i % 2 else f"{line}\n" if i == 0 else f"\n{line}\n" for i, line in enumerate(lines)]


def descriptor_file(dataset: str, data_dir: Path) -> Path:
    """Returns where the descriptor of a dataset lies."""
    return data_dir / DATASET / dataset / VERSION / DESCRIPTOR


def read_descriptors(data_dir: Path) -> list[SampleDescriptor]:
    """Returns the descriptors of all datasets below a directory, by name. Raises UserError for a corrupt one."""
    return [read_descriptor(file) for file in sorted((data_dir / DATASET).glob(f"*/{VERSION}/{DESCRIPTOR}"))]


def read_descriptor(file: Path) -> SampleDescriptor:
    """Reads a descriptor. Raises UserError where it is corrupt."""
    try:
        descriptor = SampleDescriptor(**json.loads(file.read_text(encoding="utf-8")))
        if descriptor.generator["problem"] not in PROBLEMS or not set(descriptor.rows) <= set(ROWS):
            raise ValueError("it names no problem or no rows")
        if descriptor.labeled_by not in LABELED_BY:
            raise ValueError(f"labeled_by={descriptor.labeled_by!r} is unknown")
        return descriptor
    except FileNotFoundError as error:
        raise UserError(
            f"no dataset {file.parents[1].name!r} in {file.parents[2]}; run: explainft data samples --name ..."
        ) from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{file} is corrupt ({error}); make the dataset again with --overwrite") from error


def parse_rows(text: str) -> list[str]:
    """Returns the kinds of rows of `verifier,gold`, in the order of ROWS. Raises UserError for an unknown one."""
    words = text.split(",")
    for word in words:
        if word not in ROWS:
            raise UserError(f"--rows={text!r} must be one or several of {','.join(ROWS)}{nearest(word, ROWS)}")
    return [kind for kind in ROWS if kind in words]


def training_task(dataset: str, rows: str, vocabulary: str = "t5") -> str:
    """Returns the name of a training task. Raises UserError for unknown rows or an unknown vocabulary."""
    if vocabulary not in VOCABULARIES:
        raise UserError(f"SAMPLES_VOCABULARY={vocabulary!r} must be one of {', '.join(VOCABULARIES)}")
    return f"explained_{dataset}_{'_'.join(parse_rows(rows))}{VOCABULARIES[vocabulary]}"


def validation_task(dataset: str, rows: str, vocabulary: str = "t5") -> str:
    """Returns the name of the evaluation task on the split validation."""
    suffix = VOCABULARIES.get(vocabulary, "")
    return f"{training_task(dataset, rows, vocabulary).removesuffix(suffix)}_eval_validation{suffix}"


def pack_digests(digests: Collection[int]) -> str:
    """Returns 64-bit digests as base64 of their sorted little-endian bytes."""
    return base64.b64encode(b"".join(digest.to_bytes(8, "little") for digest in sorted(set(digests)))).decode()


def unpack_digests(text: str) -> set[int]:
    """Returns the digests of `pack_digests`."""
    data = base64.b64decode(text)
    return {int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)}
