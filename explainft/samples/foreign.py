"""Sample files of other programs: the user names the fields, and the problem reads and compares the answers.

    {"uid": 7, "problem": "...", "label": "12", "output": ["... \\\\boxed{12}", "..."], "reward": [[3.5], [-1.2]]}
    {"uid": 7, "problem": "...", "label": "12", "output": "... \\\\boxed{12}", "reward": 3.5}

A line has all samples of a problem, as a list, or one sample: lines of the same id, without one of the same question,
are then one problem.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from explainft.core.errors import UserError, nearest
from explainft.data.questions.files import read_rows
from explainft.evaluation.targets import Target
from explainft.problems.registry import get_problem
from explainft.samples.examples import input_text
from explainft.samples.files import FINISH_REASONS, Sample, SampledProblem, example_id

Value = TypeVar("Value")
_SOLUTION_MARKS = ("####", "\\boxed")  # of a gold solution in place of its answer


@dataclasses.dataclass(frozen=True)
class Fields:
    """The names of a row's fields. None: as the row has it under the usual name, or not at all."""

    samples: str
    answer: str | None = None
    question: str | None = None
    id: str | None = None
    score: str | None = None
    correct: str | None = None


@dataclasses.dataclass(frozen=True)
class SampledLine:
    """The samples of a line. `is_list`: all samples of its problem, so that the id may not stand twice."""

    where: str
    id: str | None
    target: Target
    samples: tuple[Sample, ...]
    is_list: bool


def read_foreign(
    path: Path, problem: str, form: str | None, fields: Fields, check: bool = False
) -> list[SampledProblem]:
    """Reads a file whose fields the user names.

    `form` is how the outputs state their answers (questions.forms), None: anywhere. `check`: steps are checked too.
    Raises UserError with the line for what cannot be used.
    """
    reader = _Reader(problem, form, fields, check)
    return merge_lines(reader.read(row, f"{path} line {line}") for line, row in read_rows(path))


def merge_lines(lines: Iterator[SampledLine]) -> list[SampledProblem]:
    """Merges lines of the same id.

    Raises UserError where two lines have all samples of one id, and where the gold answers differ.
    """
    merged: dict[str, list[SampledLine]] = {}
    for line in lines:
        before = merged.setdefault(line.id if line.id is not None else _digest(line), [])
        if before and line.id is not None and (line.is_list or before[0].is_list):
            raise UserError(f"{line.where}: id {line.id!r} is in {_place(before[0])} too; remove one")
        if before and before[0].target.example["answer"] != line.target.example["answer"]:
            raise UserError(
                f"{line.where}: id {line.id!r} has another gold answer than {_place(before[0])}; correct one"
            )
        before.append(line)
    problems = []
    for id, lines_of_id in merged.items():
        if lines_of_id[0].id is None:  # equal questions without ids: each list is a problem
            problems += [_problem(f"{id}-{i}", [line]) for i, line in enumerate(sorted(lines_of_id, key=_content))]
        else:
            problems.append(_problem(id, lines_of_id))
    return problems


def _problem(id: str, lines: Sequence[SampledLine]) -> SampledProblem:
    target = lines[0].target
    return SampledProblem(id, target, tuple(sample for line in lines for sample in line.samples), target.example)


def _place(line: SampledLine) -> str:
    return "line " + line.where.rpartition(" line ")[2]


def _digest(line: SampledLine) -> str:
    """Returns an id of what the line says of its problem: the same in any order of lines and samples."""
    return example_id(None, json.dumps(line.target.example, sort_keys=True, ensure_ascii=False, default=str))


def _content(line: SampledLine) -> list[str]:
    return sorted(repr(sample) for sample in line.samples)


class _Reader:
    """Reads rows of one file."""

    def __init__(self, problem: str, form: str | None, fields: Fields, check: bool):
        self._problem, self._form, self._fields, self._check = get_problem(problem), form, fields, check

    def read(self, row: Any, where: str) -> SampledLine:
        if not isinstance(row, Mapping):
            raise UserError(f"{where} is not a JSON object; expected one with the field {self._fields.samples!r}")
        fields = self._fields
        given = _field(row, fields.samples, "samples", where)
        is_list = isinstance(given, list)
        samples = given if is_list else [given]
        if not samples:
            raise UserError(f"{where} has no samples in {fields.samples!r}; sample again or remove the line")
        id = _own(row, fields.id, "id", where)
        if not is_list and id in (None, "") and not _own(row, fields.question, "question", where):
            raise UserError(f"{where} has one sample and neither id nor question; name the id with --id_field")
        texts = [_text(sample, f"{where}, sample {i}") for i, sample in enumerate(samples, 1)]
        scores = self._values(row, samples, "score", _score, where)
        labels = self._values(row, samples, "correct", _label, where)
        target = Target(self._problem, self._example(row, where), self._form)
        read = self._samples(target, texts, samples, scores, labels)
        name = None if is_list and id in (None, "") else example_id(id, input_text(target))
        return SampledLine(where, name, target, read, is_list)

    def _values(
        self, row: Mapping[str, Any], samples: Sequence[Any], kind: str, read: Callable[[Any, str], Value], where: str
    ) -> Sequence[Value | None]:
        """Returns the values of a field of samples, from a list beside them or from each sample's object."""
        name = getattr(self._fields, kind)
        if name is None:
            return [None] * len(samples)
        if name not in row and all(isinstance(sample, Mapping) and name in sample for sample in samples):
            values = [sample[name] for sample in samples]
        elif isinstance(row[self._fields.samples], list):
            values = _field(row, name, kind, where)
        else:
            values = [_field(row, name, kind, where)]
        if not isinstance(values, list) or len(values) != len(samples):
            number = len(values) if isinstance(values, list) else "no list"
            raise UserError(
                f"{where} has {len(samples)} samples in {self._fields.samples!r} and {number} in {name!r}; "
                "both must be lists of the same length"
            )
        return [read(value, f"{where}, sample {i}") for i, value in enumerate(values, 1)]

    def _example(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        name = self._fields.answer or "answer"
        gold = _gold(row.get(name))
        if not gold and self._fields.correct is None:
            if name not in row:
                raise UserError(
                    f"{where} lacks the gold answer {name!r}{nearest(name, row)}; name it with --answer_field, "
                    "or labels of the samples with --correct_field"
                )
            raise UserError(f"{where}: the gold answer {name!r} is {row[name]!r}; give a text or a number")
        example: dict[str, Any] = {"question": str(_own(row, self._fields.question, "question", where) or "")}
        if isinstance(row.get("choices"), list):
            example["choices"] = [c.get("text", "") if isinstance(c, Mapping) else str(c) for c in row["choices"]]
        if any(mark in gold for mark in _SOLUTION_MARKS):
            gold = self._problem.read_answer(gold, example) or gold
        return {**example, "answer": gold}

    def _samples(self, target: Target, texts: Sequence[str], given: Sequence[Any], scores: Sequence[float | None],
                 labels: Sequence[bool | None]) -> tuple[Sample, ...]:  # fmt: skip
        answers = {text: target.read_answer(text) for text in set(texts)}
        correct = {answer: target.is_correct(answer) for answer in set(answers.values())}
        checks = {text: target.check(text) for text in answers} if self._check else {}
        samples = []
        for text, sample, score, label in zip(texts, given, scores, labels, strict=True):
            answer, check = answers[text], checks.get(text)
            is_correct = correct[answer] if label is None else label
            valid = None if check is None else check.valid and is_correct
            own = sample if isinstance(sample, Mapping) else {}
            logprob, tokens = _number(own.get("logprob_sum")), _number(own.get("num_tokens"))
            cut = FINISH_REASONS.get(str(own.get("finish_reason")), False)
            samples.append(
                Sample(text, answer, is_correct, valid, logprob, None if tokens is None else int(tokens), cut, score)
            )
        return tuple(samples)


def _field(row: Mapping[str, Any], name: str, kind: str, where: str) -> Any:
    if name not in row:
        raise UserError(f"{where} has no field {name!r} (--{kind}_field){nearest(name, row)}")
    return row[name]


def _own(row: Mapping[str, Any], name: str | None, kind: str, where: str) -> Any:
    """Returns the value of a field that the user named, or of the one with the usual name."""
    return row.get(kind) if name is None else _field(row, name, kind, where)


def _text(sample: Any, where: str) -> str:
    if isinstance(sample, Mapping):
        sample = sample.get("text")
    if isinstance(sample, int | float):
        return _gold(sample)
    if not isinstance(sample, str):
        raise UserError(f"{where} is {_short(sample)}; expected a text, or an object with 'text'")
    return sample


def _score(value: Any, where: str) -> float:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    number = _number(value)
    if number is None or not math.isfinite(number):
        raise UserError(f"{where}: score={_short(value)} must be a finite number; score again or remove the sample")
    return number


def _label(value: Any, where: str) -> bool:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, int | float) and value in (True, False):  # 0 and 1 too
        return bool(value)
    raise UserError(f"{where}: correct={_short(value)} must be true or false")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _gold(value: Any) -> str:
    """Returns an answer as text: 7 of 7.0, and nothing of what is not a text or a number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]} ..."
