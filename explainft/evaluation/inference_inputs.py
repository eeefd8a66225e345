"""The inputs of inference: expressions of ListOps, or questions, read from arguments and files."""

import contextlib
import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from explainft import listops
from explainft.core.errors import UserError
from explainft.data import few_shot, few_shot_names, multitask
from explainft.data.few_shot import Template
from explainft.data.questions import forms
from explainft.data.questions.examples import question_of
from explainft.data.questions.files import read_rows
from explainft.data.questions.importing import data_directory
from explainft.data.questions.layouts import FIELDS, Unreadable
from explainft.data.vocabulary import Vocabulary
from explainft.evaluation.targets import Target
from explainft.evaluation.task_names import listops_config
from explainft.listops.configs import Config
from explainft.listops.release import read_release
from explainft.problems.listops import CHECKED_STYLES
from explainft.problems.registry import get_problem

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class InferenceInput:
    """One question: the input text, what its output is read and checked by, and the user's row, whose fields are kept.

    The target of a question without a gold answer has an empty one.
    """

    text: str
    target: Target
    row: Row


class InputReader(Protocol):
    """Reads the inputs of a run from arguments and files."""

    def parse(self, questions: Sequence[str | Row]) -> list[InferenceInput]:
        """Returns the inputs that questions make. Raises UserError for what the run cannot answer."""
        ...

    def read(self, path: Path) -> list[InferenceInput]:
        """Returns the inputs of a file. Raises UserError, with the line, for what the run cannot answer."""
        ...

    def max_length(self, one: InferenceInput, vocabulary: Vocabulary) -> int:
        """Returns how many tokens an output may have, which depends on its input alone."""
        ...


def input_reader(meta: Mapping[str, Any], origin: object, layout: str = "jsonl") -> InputReader:
    """Returns the reader for a run with this metadata. Raises UserError for a run of a task of the user's own."""
    name = few_shot_names.parse(str(meta["task"]))
    reader = _task_reader(meta, origin, layout)
    if name is None:
        return reader
    return PromptReader(reader, few_shot.read_template(few_shot.template_file(name.template, data_directory(None))))


def _task_reader(meta: Mapping[str, Any], origin: object, layout: str) -> InputReader:
    if "questions" in meta:
        return QuestionReader(**meta["questions"], trained_length=meta["lengths"]["targets"], layout=layout)
    if meta["explanation"] is None:
        raise UserError(
            f"{origin} was trained on {meta['task']}, which must be a task of ListOps explanations or of imported "
            "questions; score other tasks with `explainft eval`"
        )
    explanation = meta["explanation"]
    form = explanation.get("form")
    # The answer task of a multi-task form is asked, whose outputs are answers alone.
    style = explanation["style"] if form is None else "none"
    trained_length = meta["lengths"]["targets"]
    return ListOpsReader(style, explanation["modulus"], listops_config(meta["task"]), trained_length, _prompt(form))


def _prompt(form: str | None) -> str:
    """Returns what ends the inputs of a form's answer task; nothing for a form that is not of several tasks."""
    return multitask.FORMS[form][multitask.ANSWER].prompt if form in multitask.FORMS else ""


@dataclasses.dataclass(frozen=True)
class ListOpsReader:
    """Reads expressions for a run of ListOps. `config` has the values that it was trained on, where they are known."""

    style: str
    modulus: int
    config: Config | None
    trained_length: int  # tokens of the longest target
    prompt: str = ""  # at the end of inputs

    def parse(self, questions: Sequence[str | Row]) -> list[InferenceInput]:
        trees = [self._parse(str(question)) for question in questions]
        return [self._input(tree) for tree in trees]

    def read(self, path: Path) -> list[InferenceInput]:
        """Reads one expression a line, the sources of a released TSV file (*.tsv), or JSON rows with an expression.

        Rows (*.json, *.jsonl) are those of `infer` or of a sample file: `expression` or `question`, and perhaps an id.
        """
        if path.suffix == ".tsv":
            return [self._input(example.tree) for example in read_release(path)]
        if path.suffix in (".json", ".jsonl"):
            return [self._row(row, f"{path} line {number}: ") for number, row in read_rows(path)]
        return [self._input(self._parse(text, f"{path} line {number}: ")) for number, text in read_lines(path)]

    def max_length(self, one: InferenceInput, vocabulary: Vocabulary) -> int:
        """Returns room for the gold explanation, so that a long one is not cut off."""
        fullest = self.style if self.style in CHECKED_STYLES else "medium"
        if self.prompt:
            return self.trained_length
        gold = listops.explain(listops.parse(one.target.example["question"]), fullest, self.modulus)
        return max(self.trained_length, 1 + len(vocabulary.encode(gold)))

    def _row(self, row: Any, where: str) -> InferenceInput:
        found = (row.get("expression") or row.get("question")) if isinstance(row, Mapping) else row
        if not isinstance(found, str):
            raise UserError(f"{where}expected an object with an expression, or an expression as a text")
        own = {"id": row["id"]} if isinstance(row, Mapping) and "id" in row else {}
        read = self._input(self._parse(found, where))
        return dataclasses.replace(read, row={**own, **read.row})

    def _input(self, tree: listops.Tree) -> InferenceInput:
        # The model reads what it was trained on: the bracket form, whatever form was typed.
        text = listops.format(tree)
        answer = listops.evaluate(tree, self.modulus)
        example = {"question": text, "answer": answer, "style": self.style, "modulus": self.modulus}
        return InferenceInput(text + self.prompt, Target(get_problem("listops"), example), {"expression": text})

    def _parse(self, expression: str, where: str = "") -> listops.Tree:
        try:
            tree = listops.parse(expression)
        except listops.ListOpsError as error:
            if where:
                raise UserError(f"{where}{error.line}") from error
            raise
        if self.config is not None:
            _check_values(tree, expression, self.config)
        return tree


@dataclasses.dataclass(frozen=True)
class QuestionReader:
    """Reads questions for a run that was trained on imported questions of a problem and a form.

    `layout` is that of JSON rows.
    """

    problem: str
    form: str
    trained_length: int  # tokens of the longest target
    layout: str = "jsonl"

    def parse(self, questions: Sequence[str | Row]) -> list[InferenceInput]:
        return [self._input(question, f"question {i}") for i, question in enumerate(questions, 1)]

    def read(self, path: Path) -> list[InferenceInput]:
        """Reads JSON lines or an array (.json, .jsonl), a CSV table with a head (.csv), or else a question a line."""
        return [self._input(row, f"{path} line {number}") for number, row in _rows(path)]

    def max_length(self, one: InferenceInput, vocabulary: Vocabulary) -> int:
        return self.trained_length

    def _input(self, given: str | Row, where: str) -> InferenceInput:
        row = {"question": given} if isinstance(given, str) else given
        problem = get_problem(self.problem)
        try:
            layout = "jsonl" if isinstance(given, str) else self.layout
            example = question_of(problem, layout, row, where, answered=False).example()
        except Unreadable as error:
            raise UserError(f"{where}: {error}; expected a question as {self.layout} has it") from error
        text = forms.input_text(example["question"], example.get("choices", ())) + _prompt(self.form)
        form = "answer" if self.form in multitask.FORMS else self.form
        return InferenceInput(text, Target(problem, example, form), row)


@dataclasses.dataclass(frozen=True)
class PromptReader:
    """Asks as a few-shot task does, without demonstrations."""

    reader: InputReader
    template: Template

    def parse(self, questions: Sequence[str | Row]) -> list[InferenceInput]:
        return [self._prompt(one) for one in self.reader.parse(questions)]

    def read(self, path: Path) -> list[InferenceInput]:
        return [self._prompt(one) for one in self.reader.read(path)]

    def max_length(self, one: InferenceInput, vocabulary: Vocabulary) -> int:
        return self.reader.max_length(one, vocabulary)

    def _prompt(self, one: InferenceInput) -> InferenceInput:
        return dataclasses.replace(one, text=self.template.prompt((), one.text))


def _check_values(tree: listops.Tree, expression: str, config: Config) -> None:
    allowed = config.train.values
    for value in listops.values(tree):
        if value not in allowed:
            where = "left out of" if min(allowed) < value < max(allowed) else "outside"
            raise UserError(
                f"{value} in {expression!r} is {where} {min(allowed)} to {max(allowed)}, "
                f"the values of config {config.name!r} that the model was trained on"
            )


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the number and the text of each line that is not empty. Raises UserError for what is not UTF-8 text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}); give a UTF-8 text file") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def _rows(path: Path) -> Iterator[tuple[int, str | Row]]:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    if suffixes[-1:] == [".csv"]:
        yield from _csv_rows(path)
    elif suffixes[-1:] in ([".json"], [".jsonl"]):
        yield from read_rows(path)
    else:
        yield from read_lines(path)


def _csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields the rows of a CSV table. Its cells are texts; choices are one cell, as a JSON list or joined by `|`."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(io.StringIO(file.read()), strict=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}); give a UTF-8 table") from error
    try:
        if "question" not in (reader.fieldnames or ()):
            raise UserError(f"{path} has no column 'question'; its first line must name the columns")
        for row in reader:
            cells = {name: value for name, value in row.items() if name and (value or name not in FIELDS)}
            choices = {"choices": _choices(cells["choices"])} if "choices" in cells else {}
            yield reader.line_num, cells | choices
    except csv.Error as error:
        raise UserError(f"{path} after line {reader.line_num} is not CSV ({error}); correct or remove it") from error


def _choices(cell: str) -> list[Any]:
    if cell.lstrip().startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(cell)
    return cell.split("|")
