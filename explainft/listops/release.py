"""Reads the TSV files that the authors of Explained-ListOps-30 released.

A row is an expression and a target: the answer alone, or a quoted explanation over several lines that ends with it.
"""

import csv
from collections.abc import Iterator
from os import PathLike
from typing import NamedTuple

from explainft.listops.explain import final_answer
from explainft.listops.expression import ListOpsError, Tree, parse


class Example(NamedTuple):
    """One row of a file. The answer is the file's, and may differ from the expression's value."""

    tree: Tree
    answer: int
    explanation: str | None  # None in a row with the answer alone
    line: int  # on which the row starts, from 1


def read_release(path: str | PathLike[str]) -> Iterator[Example]:
    """Yields the rows of one file in order, without the optional header `Source<TAB>Target` and empty lines.

    Raises ListOpsError with file and line at the first invalid row: not two columns, an invalid expression, a target
    without an answer, an unclosed quote, a byte that is not UTF-8.
    """
    # utf-8-sig skips a byte-order mark. A byte that is not UTF-8 becomes U+FFFD, so that the error names its row.
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.reader(file, delimiter="\t", strict=True)
        line = 1
        try:
            for row in rows:
                if row and not (line == 1 and row == ["Source", "Target"]):
                    yield _example(row, line)
                line = rows.line_num + 1
        except csv.Error as error:
            reason = str(error).replace("\t", "tab")
            raise ListOpsError(f"{path}, line {line}: a quote is not closed ({reason})") from error
        except ListOpsError as error:
            raise ListOpsError(f"{path}, line {line}: {error}") from error


def _example(row: list[str], line: int) -> Example:
    if len(row) != 2:
        raise ListOpsError(f"expected 2 columns, an expression and a target, found {len(row)}")
    source, target = row
    if (at := target.find("\ufffd")) >= 0:
        raise ListOpsError(f"expected UTF-8, found another byte at character {at} of the target")
    answer = final_answer(target)
    if answer is None:
        raise ListOpsError(f"expected a target that is a number or ends with 'Final answer: N', found {target[-40:]!r}")
    explanation = target.replace("\r\n", "\n") if "Final answer" in target else None
    return Example(parse(source), answer, explanation, line)
