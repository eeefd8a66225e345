"""Reads the samples of a file in any of its layouts: of `sample`, of `infer`, of SeqIO's evaluations, or foreign."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from explainft.core.errors import UserError
from explainft.data.questions.files import read_rows
from explainft.evaluation.step_checks import read_check
from explainft.evaluation.targets import Target, read_target
from explainft.problems.registry import get_problem
from explainft.samples.examples import input_text
from explainft.samples.files import Sample, SampledProblem, example_id, read_samples
from explainft.samples.foreign import Fields, SampledLine, merge_lines, read_foreign

_FOREIGN_FLAGS = "--problem math --samples_field output --answer_field label"


def read_any(
    path: Path, problem: str | None = None, form: str | None = None, fields: Fields | None = None, check: bool = False
) -> list[SampledProblem]:
    """Reads a file of samples; its first line shows its layout, unless `fields` name those of another program.

    `problem` is needed where the file does not name it; `check`: steps are checked where the file has no checks.
    """
    if fields is not None:
        if problem is None:
            raise UserError(
                f"--samples_field={fields.samples} needs the problem that reads the answers; give --problem"
            )
        return read_foreign(path, problem, form, fields, check)
    _, first = next(read_rows(path))
    own = isinstance(first, Mapping) and "sampling" in first
    read = None if own else _reader(first, f"{path} line 1", problem, form)
    if (problem is not None or form is not None) and read in (None, _read_evaluation, _read_listops):
        raise UserError(f"{path} names its problem; --problem and --form belong to files of other programs")
    if read is None:
        return read_samples(path)
    return merge_lines(read(row, f"{path} line {line}") for line, row in read_rows(path))


def _reader(first: Any, where: str, problem: str | None, form: str | None) -> Callable[[Any, str], SampledLine]:
    row = first if isinstance(first, Mapping) else {}
    if {"input", "target", "prediction"} <= set(row):
        return _read_evaluation
    if isinstance(row.get("prediction"), Mapping):
        if problem is None:
            raise UserError(f"{where} is of `explainft infer` and does not name its problem; give --problem")
        return lambda row, where: _read_inference(row, where, problem, form)
    if {"expression", "explanation", "check"} <= set(row):
        return _read_listops
    raise UserError(f"{where} is not of a sample file; name the fields of other files, as in {_FOREIGN_FLAGS}")


def _read_evaluation(row: Any, where: str) -> SampledLine:
    """Reads a line of inference_eval/<task>-<step>.jsonl, as SeqIO writes it."""
    target = read_target(row.get("target")) if isinstance(row, Mapping) else None
    if target is None or not isinstance(row.get("prediction"), str):
        raise UserError(
            f"{where} must have the 'target' of a task of explainft and a text as 'prediction'; "
            f"name the fields of other files, as in {_FOREIGN_FLAGS}"
        )
    text = row["prediction"]
    answer, check = target.read_answer(text), target.check(text)
    correct = target.is_correct(answer)
    valid = None if check is None else check.valid and correct
    return _line(where, target, Sample(text, answer, correct, valid, cut=row.get("cut") is True))


def _read_inference(row: Any, where: str, problem: str, form: str | None) -> SampledLine:
    """Reads a line of `explainft infer` about a question."""
    prediction = row.get("prediction") if isinstance(row, Mapping) else None
    if not isinstance(prediction, Mapping) or not isinstance(prediction.get("text"), str) or "answer" not in prediction:
        raise UserError(f"{where} has no 'prediction' with 'text' and 'answer'; infer again")
    example = {name: value for name, value in row.items() if name != "prediction"}
    target = Target(get_problem(problem), {"question": "", "answer": "", **example}, form)
    correct = prediction.get("correct")
    if correct is None and not example.get("answer"):
        raise UserError(f"{where} has no gold answer; add the field 'answer', or infer with it")
    answer = prediction["answer"]
    correct = target.is_correct(answer) if correct is None else bool(correct)
    valid = _is_valid(prediction.get("check"), correct)
    return _line(where, target, Sample(prediction["text"], answer, correct, valid, cut=prediction.get("cut") is True))


def _read_listops(row: Any, where: str) -> SampledLine:
    """Reads a line of `explainft infer` about a ListOps expression; its `answer` is the predicted one."""
    if (
        not isinstance(row, Mapping)
        or not isinstance(row.get("check"), Mapping)
        or not {"answer", "explanation"} <= set(row)
    ):
        raise UserError(f"{where} has no 'answer', 'explanation' and 'check'; infer again")
    target = Target(get_problem("listops"), {"question": str(row.get("expression")), "answer": ""})
    answer, correct = row["answer"], bool(row["check"].get("answer_correct"))
    text = None if answer is None else str(answer)
    sample = Sample(
        str(row["explanation"]), text, correct, _is_valid(row["check"], correct), cut=row.get("cut") is True
    )
    return _line(where, target, sample)


def _is_valid(check: Any, correct: bool) -> bool | None:
    found = read_check(check)
    return None if found is None else correct and found.valid


def _line(where: str, target: Target, sample: Sample) -> SampledLine:
    """Returns a line with one sample: predictions of the same question are samples of one problem."""
    id = target.example.get("id")
    if id in (None, "") and not target.example["question"]:
        raise UserError(f"{where} has neither 'id' nor 'question', by which samples of one problem are found")
    return SampledLine(where, example_id(id, input_text(target)), target, (sample,), is_list=False)
