"""A row of a synthetic problem, and how rows are assigned to splits."""

import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from explainft.data.sample_datasets import LABELS

VERSION = 1  # of all synthetic problems; a part of every seed
IN_DOMAIN = ("train", "validation", "test")
ROWS = {"train": 20_000}  # of a split of one form
EVAL_ROWS = 1_000  # of any other split
HELD_OUT = 10  # of so many problems, one is of the split validation and one of the split test


class Row(NamedTuple):
    """Texts, and as JSON the target by which metrics read an output, see explainft.evaluation.targets."""

    inputs: str
    targets: str
    target: str


def question_row(inputs: str, targets: str, problem: str, form: str, **example: Any) -> Row:
    """Returns the row of a problem of explainft.problems, whose outputs are read in a form of questions.forms."""
    return Row(inputs, targets, json.dumps({"problem": problem, "form": form, "example": example}))


def check_row(inputs: str, is_correct: bool, question: str) -> Row:
    """Returns the row of a form that labels a given explanation as correct or incorrect."""
    label = LABELS[0] if is_correct else LABELS[1]
    return question_row(inputs, label, "choice", "answer", question=question, choices=list(LABELS), answer=label)


def num_rows(split: str) -> int:
    """Returns the number of rows of a split."""
    return ROWS.get(split, EVAL_ROWS)


def digest(text: str) -> int:
    """Returns 64 bits that stand for a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def split_of(problem: str) -> str:
    """Returns the split in domain of a problem, by its normalized text alone: no problem is in two of them."""
    return {0: "validation", 1: "test"}.get(digest(problem) % HELD_OUT, "train")


def select(problems: Iterable[str], split: str) -> Iterator[str]:
    """Yields the first `num_rows` distinct problems of a split; one in domain has those that `split_of` assigns."""
    seen: set[str] = set()
    for problem in problems:
        if problem in seen or (split in IN_DOMAIN and split_of(problem) != split):
            continue
        seen.add(problem)
        yield problem
        if len(seen) == num_rows(split):
            return
