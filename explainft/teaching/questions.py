"""The questions that a teacher explains: those of a file, of an imported dataset, or of a config of ListOps."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from explainft.core.errors import UserError
from explainft.data.questions.descriptor import descriptor_file, read_descriptor
from explainft.data.questions.examples import Question, question_of
from explainft.data.questions.files import read_rows
from explainft.data.questions.layouts import Unreadable
from explainft.listops.configs import CONFIGS
from explainft.problems.problem import Problem
from explainft.problems.registry import get_problem
from explainft.samples.files import example_id


@dataclasses.dataclass(frozen=True)
class Questions:
    """Questions with their problem. `positions` are those of their ids among all `rows`; others are `left_out`."""

    problem: Problem
    questions: list[Question]
    positions: dict[str, int]
    rows: int
    left_out: Counter[str]

    def first(self, number: int | None) -> "Questions":
        return dataclasses.replace(self, questions=self.questions[:number])


def read_file(path: Path, layout: str, problem: str) -> Questions:
    """Reads a file in a layout of `data import`. A row that the import would refuse is left out."""
    return _collect(get_problem(problem), ((i, row) for i, (_, row) in enumerate(read_rows(path), 1)), layout)


def read_dataset(name: str, split: str, data_dir: Path) -> Questions:
    """Reads a split of an imported dataset, or of a config of ListOps. Imports TensorFlow."""
    if name in CONFIGS:
        return _collect(get_problem("listops"), _listops_questions(name, split, data_dir), None)
    from explainft.data.questions import records

    file = descriptor_file(name, data_dir)
    descriptor = read_descriptor(file)
    if split not in descriptor.rows:
        raise UserError(f"dataset {name!r} has no split {split!r}; it has {', '.join(descriptor.rows)}")
    if not descriptor.answered:
        raise UserError(f"dataset {name!r} has no answers, by which explanations are kept; import one with answers")
    return _collect(get_problem(descriptor.problem), enumerate(records.read(file.parent, split), 1), None)


def _collect(problem: Problem, rows: Iterable[tuple[int, object]], layout: str | None) -> Questions:
    """Returns the questions of rows in a layout; None: they are questions already."""
    questions, positions, left_out, number = [], {}, Counter[str](), 0
    for number, row in rows:
        try:
            one = row if layout is None else question_of(problem, layout, row, f"row-{number}", answered=True)
        except Unreadable as error:
            left_out[str(error)] += 1
            continue
        assert isinstance(one, Question)
        if one.id in positions:
            left_out["id of an earlier row"] += 1
            continue
        positions[one.id] = number - 1
        questions.append(one)
    if not questions:
        reasons = ", ".join(left_out) or "there are none"
        raise UserError(f"no question can be used ({reasons}); see --format and --problem")
    return Questions(problem, questions, positions, number, left_out)


def _listops_questions(config: str, split: str, data_dir: Path) -> Iterator[tuple[int, Question]]:
    import tensorflow_datasets as tfds

    from explainft.data import dataset_read

    builder = dataset_read.open_built(config, str(data_dir))
    if split not in builder.info.splits:
        raise UserError(f"dataset {config!r} has no split {split!r}; it has {', '.join(builder.info.splits)}")
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    examples = builder.as_dataset(split=split, read_config=in_order)  # pyright: ignore[reportCallIssue] (decorated)
    fields = json.dumps({"style": "medium", "modulus": builder.config.listops.modulus})
    for number, row in enumerate(tfds.as_numpy(examples), 1):
        text = row["expression"].decode()
        yield number, Question(example_id(None, text), text, (), str(int(row["answer"])), "", fields)
