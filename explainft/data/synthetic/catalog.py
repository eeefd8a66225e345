"""The synthetic problems by name, with their forms and splits, and the rows of the base that learns all of them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from explainft.data.synthetic import arithmetic, listops_forms, sequences
from explainft.data.synthetic.rows import Row
from explainft.data.synthetic.spans import corrupt
from explainft.listops.configs import CONFIGS

CHECK = "check"  # the form whose targets are labels


class Problem(NamedTuple):
    """The forms and splits of a synthetic problem; `rows(name, form, split)` yields the rows of one."""

    forms: tuple[str, ...]
    splits: tuple[str, ...]
    rows: Callable[[str, str, str], Iterator[Row]]


PROBLEMS = {
    **{config: Problem(listops_forms.FORMS, listops_forms.SPLITS, listops_forms.rows) for config in CONFIGS},
    "modular": Problem(arithmetic.FORMS, arithmetic.SPLITS, arithmetic.rows),
    "sort": Problem(sequences.FORMS, sequences.SPLITS, sequences.rows),
    "copy": Problem(sequences.FORMS, sequences.SPLITS, sequences.rows),
}
BASE = tuple((name, form) for name in ("tiny", "modular", "sort", "copy") for form in PROBLEMS[name].forms)


def rows(name: str, form: str, split: str) -> Iterator[Row]:
    """Yields the rows of a form of a problem."""
    return PROBLEMS[name].rows(name, form, split)


def base_rows(split: str, spans: bool) -> Iterator[Row]:
    """Yields the rows of all forms of BASE, one of each at a time; with `spans`, the span corruption of one of them."""
    for i, made in enumerate(zip(*(rows(name, form, split) for name, form in BASE), strict=True)):
        yield from made
        if spans:
            row = made[i % len(made)]
            yield corrupt(f"{row.inputs} {row.targets}".replace("\n", " "))
