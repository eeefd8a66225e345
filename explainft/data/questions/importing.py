"""`explainft data import`: files of questions as a TFDS-format dataset.

The dataset `explained_questions/<name>` has the features of records.FEATURES and `choices`; `problem.json` beside them
names the problem. It appears when it is complete; the same rows make the same bytes.
"""

import contextlib
import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from explainft.core.atomic_files import new_directory, put_in_place
from explainft.core.errors import UserError, nearest
from explainft.data.questions import forms
from explainft.data.questions.columns import map_row
from explainft.data.questions.descriptor import (
    DATASET,
    DEMONSTRATIONS,
    VERSION,
    Descriptor,
    write_demonstrations,
)
from explainft.data.questions.digests import DigestMap
from explainft.data.questions.examples import Question, digest, question_of
from explainft.data.questions.explanations import Explanations
from explainft.data.questions.files import read_rows
from explainft.data.questions.layouts import LAYOUTS, Unreadable
from explainft.data.questions.lengths import Lengths, find_vocabulary
from explainft.data.questions.report import ROWS_FILE, Report
from explainft.problems import choice
from explainft.problems.problem import Problem, correct
from explainft.problems.registry import get_problem
from explainft.problems.text import last_statement, normalize

SPLITS = ("train", "validation", "test")
SHARD_ROWS = 2**17
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def check_name(name: str) -> None:
    """Raises UserError where TFDS and SeqIO would not take the name of a dataset."""
    if not _NAME.fullmatch(name):
        raise UserError(f"--name={name!r} must be lower-case letters, digits and underscores, as in my_quiz2")


@dataclasses.dataclass(frozen=True)
class Import:
    """What to import: a file for each split, explanations in files of their own, and how strict to be.

    `stop`: explanations end before it. With `strict` a refused row ends the import. Without `answered` rows need no
    answer: such a dataset is for inference. With `tfds`, the name of a TFDS dataset, `files` are splits of it.
    `columns` are the features, or the columns of files, for each field. `labels` are the choices of every row.
    `demonstrations` of few-shot prompts are a file, or a split, too.
    """

    name: str
    problem: str
    files: dict[str, Path]
    layout: str = "jsonl"
    explanations: dict[str, list[Path]] = dataclasses.field(default_factory=dict)
    stop: str | None = None
    strict: bool = False
    answered: bool = True
    overwrite: bool = False
    tfds: str | None = None
    columns: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    labels: Sequence[str] = ()
    demonstrations: Path | None = None

    def __post_init__(self):
        check_name(self.name)
        get_problem(self.problem)
        if self.layout not in LAYOUTS:
            raise UserError(f"--format={self.layout!r} is unknown{nearest(self.layout, LAYOUTS)}")
        for given in (self.files, self.explanations):
            for split in given:
                if split not in SPLITS:
                    raise UserError(f"split {split!r} must be one of {', '.join(SPLITS)}")
        if self.labels:
            _check_labels(self.problem, self.labels)
        if not self.files:
            raise UserError("no file of questions; give train=FILE validation=FILE test=FILE, or one of them")
        for split in self.explanations:
            if split not in self.files:
                raise UserError(f"--explanations for {split}, which has no file of questions; give {split}=FILE")


def import_questions(settings: Import, data_dir: Path) -> tuple[Path, Report]:
    """Writes the dataset below `data_dir` and returns its directory and the report. Nothing is left after a UserError.

    A dataset of that name is refused, or with `overwrite` replaced when the new one is complete.
    """
    directory = data_dir / DATASET / settings.name / VERSION
    with (
        new_dataset(directory, settings.overwrite) as scratch,
        open(scratch / ROWS_FILE, "w", encoding="utf-8") as file,
    ):
        report = Report(file)
        _write(settings, data_dir, scratch, report)
    return directory, report


@contextlib.contextmanager
def new_dataset(directory: Path, overwrite: bool) -> Iterator[Path]:
    """Yields a scratch directory that becomes the dataset's at the end; after an error nothing is left of it.

    A dataset that exists is refused, or with `overwrite` replaced when the new one is complete. Raises UserError.
    """
    if directory.exists() and not overwrite:
        raise UserError(f"{directory} exists; choose another --name, or replace it with --overwrite")
    try:
        with new_directory(directory) as scratch:
            yield scratch
            put_in_place(scratch, directory)
    except OSError as error:
        raise UserError(
            f"cannot write {directory} ({error.strerror or error}); choose another directory with --tfds_data_dir"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            directory.parent.rmdir()  # where nothing was imported


def _write(settings: Import, data_dir: Path, scratch: Path, report: Report) -> None:
    from explainft.data.questions import records  # TensorFlow

    problem = get_problem(settings.problem)
    vocabulary, why = find_vocabulary()
    questions = DigestMap()  # the place in `files` of the split that each question stands in first
    writers, explained = {}, Counter[str]()
    for split, path in settings.files.items():
        lengths = vocabulary and Lengths(vocabulary)
        with records.Writer(scratch, DATASET, split, SHARD_ROWS) as writer:
            rows = _read(settings, path, data_dir)
            for question in _questions(settings, problem, split, path, rows, questions, report):
                writer.write(question)
                explained[split] += bool(question.explanation)
                if lengths is not None:
                    lengths.add(question)
        if not writer.rows:
            reasons = ", ".join(sorted(report.refused)) or "it has none"
            flags = "`--format`, `--problem`" + (", and `--unanswered` for inference" if settings.answered else "")
            raise UserError(f"no row of {path} can be used ({reasons}); see {flags}")
        writers[split] = writer
        report.lengths += lengths.lines(split) if lengths else []
    report.lengths += [why] if why else []
    digests = {split: writer.digest() for split, writer in writers.items()}
    if settings.demonstrations is not None:
        rows = _read(settings, settings.demonstrations, data_dir)
        read = _questions(settings, problem, DEMONSTRATIONS, settings.demonstrations, rows, questions, report)
        digests[DEMONSTRATIONS] = write_demonstrations(scratch, [question.example() for question in read])
    described = f"Questions imported as {settings.name}."
    records.write_metadata(scratch, list(writers.values()), DATASET, settings.name, VERSION, described)
    descriptor = Descriptor(
        name=settings.name,
        problem=settings.problem,
        rows={split: writer.rows for split, writer in writers.items()},
        explained={split: explained[split] for split in writers},
        digests=digests,
        answered=settings.answered,
        labels=list(settings.labels) or None,
    )
    descriptor.write(scratch)


def _read(settings: Import, path: Path, data_dir: Path) -> Iterator[tuple[int, Any]]:
    if settings.tfds is None:
        return read_rows(path)
    from explainft.data.questions import tfds_rows  # TensorFlow

    return tfds_rows.read(settings.tfds, str(path), settings.columns, data_dir)


def _questions(
    settings: Import,
    problem: Problem,
    split: str,
    path: Path,
    read: Iterator[tuple[int, Any]],
    seen: DigestMap,
    report: Report,
) -> Iterator[Question]:
    """Yields the usable rows of one file; the report counts all of them."""
    paths = settings.explanations.get(split)
    explanations = Explanations(paths, settings.stop) if paths else None
    contents = DigestMap()  # by id
    splits = [*settings.files, DEMONSTRATIONS]
    place, rows = splits.index(split), 0
    for line, row in tqdm(read, desc=f"importing {split}", unit=" rows", disable=None):
        rows += 1
        name = f"{split}-{rows}"
        try:
            if settings.columns and settings.tfds is None:
                row = map_row(row, settings.columns, settings.labels or None)
            question = question_of(
                problem, settings.layout, row, name, answered=settings.answered, labels=settings.labels
            )
        except Unreadable as error:
            if explanations is not None:
                explanations.next(_id_of(row, name))
            _refuse(settings, report, str(error), path, line)
            continue
        if explanations is not None:
            explanation = explanations.next(question.id)
            question = question._replace(explanation=explanation or "")
        content = question.content()
        earlier = contents.add(digest(question.id), content)
        if earlier is not None:
            reason = "row repeated" if earlier == content else "same id with other content"
            _refuse(settings, report, reason, path, line)
            continue
        first = seen.add(question.question_digest(), place)
        if split == DEMONSTRATIONS and first is not None and splits[first] != "train":
            reason = "repeated" if first == place else f"of the split {splits[first]}, which is evaluated"
            _refuse(settings, report, f"demonstration {reason}", path, line)
            continue
        if first not in (None, place):
            report.note(f"question stands in {splits[first]} too", path, line)
        _note_oddities(problem, question, split, path, line, report)
        report.rows[split] += 1
        report.answers[split][question.answer if len(report.answers[split]) <= 10 else "..."] += 1
        yield question
    if explanations is not None:
        explanations.check_count(split, rows)


def _check_labels(problem: str, labels: Sequence[str]) -> None:
    if problem != "choice":
        raise UserError(f"--labels are the choices of every row; --problem={problem} has none, give --problem=choice")
    values = choice.values_of(labels)
    for label, value in zip(labels, values, strict=True):
        if not value or values.count(value) > 1:
            raise UserError(f"--labels={','.join(labels)} must be different texts; {label!r} is there twice, or empty")


def _id_of(row: Any, name: str) -> str:
    return str(row.get("id", name)) if isinstance(row, dict) else name


def _refuse(settings: Import, report: Report, reason: str, path: Path, line: int) -> None:
    if settings.strict:
        raise UserError(f"{path} line {line}: {reason}; correct it, or import the other rows without --strict")
    report.refuse(reason, path, line)


def _note_oddities(problem: Problem, question: Question, split: str, path: Path, line: int, report: Report) -> None:
    if question.choices:
        values = choice.values_of(question.choices)
        if len(set(values)) < len(values):
            report.note("two choices of equal text", path, line)
            if values.count(normalize(question.answer)) > 1:
                report.note("the answer is two of the choices", path, line)
    example = question.example()
    if question.answer and not correct(problem, forms.STATEMENT + question.answer, example):
        report.note("answer that no output can state; see `--problem`", path, line)
    if not question.explanation:
        return
    check = problem.check(question.explanation, example)
    if check is not None:
        report.add_steps(split, check)
    if check is not None and check.incorrect:
        report.note("explanation with an incorrect step", path, line)
    # In the middle it is often no statement: "The answer must be a place where eagles fly. Of these, only ..."
    last_sentence = re.split(r"(?<=[.!?])\s+|\n", question.explanation.strip())[-1]
    if problem.name == "choice" and question.answer and last_statement(last_sentence) is not None:
        answer = problem.read_answer(question.explanation, example)
        if answer is None:
            report.note("explanation names no choice or several", path, line)
        elif not problem.equal(answer, question.answer, example):
            report.note("explanation ends in another answer", path, line)


def split_files(words: Sequence[str], most: int | None = None) -> dict[str, list[Path]]:
    """Returns the files of each split from words such as `train=FILE`, in their order. Raises UserError for others."""
    files: dict[str, list[Path]] = {}
    for word in words:
        split, equals, file = word.partition("=")
        if not equals or not file:
            raise UserError(f"{word!r} must be SPLIT=FILE, as in train=questions.jsonl")
        files.setdefault(split, []).append(Path(file))
        if most is not None and len(files[split]) > most:
            raise UserError(f"split {split!r} has two files; join them into one")
    return files


def data_directory(given: str | None) -> Path:
    """Returns where datasets lie: the directory given, else TFDS_DATA_DIR, else TensorFlow Datasets' own."""
    return Path(given or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
