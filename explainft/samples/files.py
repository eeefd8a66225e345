"""The layout of a sample file: JSON lines, one problem each, with its example's fields and its samples.

    {"id": "9f3c...", "question": "[MAX 2 [MIN 4 7 ] ]", "answer": 4, "style": "medium", "modulus": 10,
     "gold": "Min, smallest number of ...",
     "sampling": {"problem": "listops", "form": null, "seed": 0, "temperature": 0.9, ...},
     "samples": [{"text": "...", "logprob_sum": -1.5, "logprob_mean": -0.05, "num_tokens": 30, "finish_reason": "stop",
                  "answer": "4", "correct": true, "check": {"steps_total": 2, "steps_correct": 2, ...}}, ...]}

`gold` is the gold output where it is known, `sampling` what all samples of a line were made with. `explainft score`
adds a `score` to each sample, and to the line

    "scoring": {"model": "5d1e...", "step": 2000, "prompt": "{question}\\n{solution}", "labeled_by": "answer",
                "decode_dtype": "float32"}
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from explainft.core.errors import UserError
from explainft.data.questions import forms
from explainft.data.questions.files import read_rows
from explainft.evaluation.step_checks import check_fields, read_check
from explainft.evaluation.targets import Target
from explainft.problems.registry import PROBLEMS, get_problem

OWN_FIELDS = ("gold", "sampling", "scoring", "samples")  # of a line, beside those of its example
Types = tuple[type, ...]
# The types that a field of a line may have, and their words; a field without null must be there.
LINE_FIELDS: dict[str, tuple[Types, str]] = {
    "id": ((str, int), "a text or an integer"),
    "question": ((str,), "a text"),
    "answer": ((str, int, float, type(None)), "a text or a number"),
    "choices": ((list, type(None)), "a list of texts"),
    "gold": ((str, type(None)), "a text"),
    "samples": ((list,), "a list"),
    "scoring": ((dict, type(None)), "an object"),
}
SAMPLE_FIELDS: dict[str, tuple[Types, str]] = {
    "text": ((str,), "a text"),
    "answer": ((str, type(None)), "a text or null"),
    "correct": ((bool, type(None)), "true, false or null"),
    "logprob_sum": ((int, float, type(None)), "a finite number"),
    "num_tokens": ((int, type(None)), "an integer"),
    "score": ((int, float, type(None)), "a finite number"),
}
FINISH_REASONS = {"stop": False, "length": True}  # whether the output was cut at the length limit


@dataclasses.dataclass(frozen=True)
class Sample:
    """One output of a problem, and what the problem reads of it.

    `correct` is None where the gold answer is not known, `valid` (every step and the answer are correct) where the
    explanation cannot be checked. `logprob` is the sum over the `tokens`, EOS included, of the model's own
    log-probabilities: temperature 1, no token left out. `score` is a verifier's probability that the output is correct.
    """

    text: str
    answer: str | None
    correct: bool | None = None
    valid: bool | None = None
    logprob: float | None = None
    tokens: int | None = None
    cut: bool = False
    score: float | None = None


@dataclasses.dataclass(frozen=True)
class SampledProblem:
    """A problem with its samples, in the order of their indices. `row` is its line of the file."""

    id: str
    target: Target
    samples: tuple[Sample, ...]
    row: Mapping[str, Any]

    @property
    def gold(self) -> str | None:
        """The gold output; None where it is not known."""
        return self.row.get("gold")


def example_id(own: Any, text: str) -> str:
    """Returns the id of an example, its own as text; of one without, hex digits of its input text."""
    return blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()[:16] if own in (None, "") else str(own)


def make_sample(target: Target, text: str, *, logprob: float, tokens: int, cut: bool) -> dict[str, Any]:
    """Returns a sample as the file has it, read and checked by its problem."""
    answer, check = target.read_answer(text), target.check(text)
    known = bool(str(target.example["answer"]))
    return {
        "text": text,
        "logprob_sum": _rounded(logprob),
        "logprob_mean": _rounded(logprob / max(tokens, 1)),
        "num_tokens": tokens,
        "finish_reason": "length" if cut else "stop",
        "answer": answer,
        **({"correct": target.is_correct(answer)} if known else {}),
        **({} if check is None else {"check": check_fields(check)}),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def read_samples(path: Path) -> list[SampledProblem]:
    """Reads a sample file. Raises UserError with the line for what is not one, and for a repeated id."""
    problems: list[SampledProblem] = []
    lines: dict[str, int] = {}
    for line, row in read_rows(path):
        problem = read_problem(row, f"{path} line {line}")
        if problem.id in lines:
            raise UserError(f"{path} line {line}: id {problem.id!r} is in line {lines[problem.id]} too; remove one")
        lines[problem.id] = line
        problems.append(problem)
    return problems


def read_problem(row: Any, where: str) -> SampledProblem:
    """Reads a line of a sample file; `where` names it in errors."""
    if not isinstance(row, Mapping) or not isinstance(row.get("sampling"), Mapping) or "samples" not in row:
        raise UserError(
            f"{where} is not of a sample file, which has 'sampling' and 'samples'; make one with `explainft sample`"
        )
    sampling, samples = row["sampling"], row["samples"]
    if not {"id", "question", "answer"} <= set(row):
        raise UserError(f"{where} lacks one of 'id', 'question' and 'answer'; sample again")
    _check_types(row, LINE_FIELDS, where)
    if sampling.get("problem") not in tuple(PROBLEMS) or sampling.get("form") not in (None, *forms.READABLE):
        raise UserError(f"{where}: sampling={sampling!r} names no known problem and form; sample again")
    if not samples:
        raise UserError(f"{where} has no samples; sample again")
    example = {name: value for name, value in row.items() if name not in OWN_FIELDS}
    target = Target(get_problem(sampling["problem"]), example, sampling["form"])
    read = tuple(_sample(sample, f"{where}, sample {i}") for i, sample in enumerate(samples, 1))
    return SampledProblem(str(row["id"]), target, read, row)


def _sample(sample: Any, where: str) -> Sample:
    if not isinstance(sample, Mapping) or not isinstance(sample.get("text"), str) or "answer" not in sample:
        raise UserError(f"{where} is not an object with 'text' and 'answer'; sample again")
    _check_types(sample, SAMPLE_FIELDS, where)
    check, correct = read_check(sample.get("check")), sample.get("correct")
    if check is None and sample.get("check") is not None:
        raise UserError(f"{where}: check={sample['check']!r} must have steps_total and steps_correct; sample again")
    return Sample(
        sample["text"],
        sample["answer"],
        correct,
        None if check is None else bool(correct) and check.valid,
        sample.get("logprob_sum"),
        sample.get("num_tokens"),
        FINISH_REASONS.get(str(sample.get("finish_reason")), False),
        sample.get("score"),
    )


def _check_types(values: Mapping[str, Any], fields: Mapping[str, tuple[Types, str]], where: str) -> None:
    for name, (types, words) in fields.items():
        value = values.get(name)
        # By the exact type: true is not a number.
        if type(value) not in types or (isinstance(value, float) and not math.isfinite(value)):
            again = "score" if name == "score" else "sample"
            raise UserError(f"{where}: {name}={value!r} must be {words}; {again} again")


def write_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields the lines of a sample file."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=False) + "\n"
