"""Explanations that stand in files of their own, joined to questions by id or by position."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from explainft.core.errors import UserError
from explainft.data.questions.files import read_rows


class Explanations:
    """The explanations of one split: texts in the order of its rows, or objects with `id` and `explanation`.

    A text ends before `stop`, where that stands in it: language models go on and invent the next question. Texts are
    read along with the rows; objects with an id are held in memory.
    """

    def __init__(self, paths: Sequence[Path], stop: str | None):
        self._stop = stop
        self._n = 0
        entries = self._read(paths)
        first = next(entries)
        self._by_id: dict[str, str] | None = None
        self._in_order = chain([first], entries)
        if first[0] is not None:
            self._by_id = {str(number): text for number, text in self._in_order}

    def next(self, number: str) -> str | None:
        """Returns the explanation of the next row, whose id is `number`; None where there is none."""
        if self._by_id is not None:
            return self._by_id.get(number)
        _, text = next(self._in_order, (None, None))
        return text

    def check_count(self, split: str, rows: int) -> None:
        """Raises UserError where texts are joined by position and their number is another than that of the rows."""
        if self._by_id is not None:
            return
        for _ in self._in_order:
            pass
        if self._n != rows:
            raise UserError(
                f"{split} has {rows:,} rows and {self._n:,} explanations, which are joined by position; give all of "
                "them, or explanations with an id"
            )

    def _read(self, paths: Sequence[Path]) -> Iterator[tuple[Any, str]]:
        by_id = None
        for path in paths:
            for line, row in read_rows(path):
                number, text = (row.get("id"), row.get("explanation")) if isinstance(row, Mapping) else (None, row)
                if not isinstance(text, str):
                    raise UserError(f"{path} line {line} is neither a text nor an object with 'id' and 'explanation'")
                if by_id not in (None, number is not None):
                    raise UserError(f"{path} line {line}: some explanations have an id and some have none")
                by_id = number is not None
                self._n += 1
                yield number, (text.split(self._stop)[0] if self._stop else text).strip()
