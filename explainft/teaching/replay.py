"""Stored outputs as a teacher: JSON files of texts, numbered from 0, in the order of the questions.

train_CoT_0.json  train_CoT_1.json  ...  as many texts in each but the last
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from explainft.core.errors import UserError
from explainft.data.questions.files import read_rows
from explainft.teaching.client import Receive
from explainft.teaching.outputs import cut_at_stop
from explainft.teaching.requests import COMPLETE, Answer, Request
from explainft.teaching.responses import BLANK

_CHUNK = re.compile(r"(.*?)(\d+)\.jsonl?")


class Stored(NamedTuple):
    """An output, and where it stands."""

    text: str
    place: str


def read_outputs(source: Path, rows: int) -> list[Stored]:
    """Returns the outputs of `rows` questions, which are joined by position.

    `source` is a directory with one series of chunks, or a series in it, such as llm/train_CoT_. Raises UserError where
    a chunk is missing, or where the number of outputs is another than that of the rows.
    """
    chunks = _find_chunks(source)
    outputs: list[Stored] = []
    size = 0
    for number in range(max(chunks) + 1):
        if number not in chunks:
            raise UserError(
                f"--replay={source} lacks chunk {number} of {max(chunks) + 1}; outputs are joined by position, give all"
            )
        path = chunks[number]
        found = [Stored(_text(path, i, text), f"{path.name} {i}") for i, (_, text) in enumerate(read_rows(path), 1)]
        size = size or len(found)
        if len(found) > size or (len(found) < size and number < max(chunks)):
            raise UserError(
                f"{path} has {len(found):,} outputs and chunk 0 has {size:,}; only the last chunk may have fewer"
            )
        outputs += found
    if len(outputs) != rows:
        raise UserError(
            f"--replay={source} has {len(outputs):,} outputs for {rows:,} questions, which are joined by position; "
            "give as many"
        )
    return outputs


def _find_chunks(source: Path) -> dict[int, Path]:
    directory, prefix = (source, None) if source.is_dir() else (source.parent, source.name)
    series: dict[str, dict[int, Path]] = {}
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        if (match := _CHUNK.fullmatch(path.name)) and prefix in (None, match[1]):
            chunks = series.setdefault(match[1], {})
            if int(match[2]) in chunks:
                raise UserError(f"{path} and {chunks[int(match[2])]} are the same chunk; remove one")
            chunks[int(match[2])] = path
    if not series:
        raise UserError(f"--replay={source} has no chunks of outputs, such as train_CoT_0.json; name their directory")
    if len(series) > 1:
        names = ", ".join(sorted(series))
        raise UserError(f"--replay={source} has outputs of {names}; name one, as in {source / min(series)}")
    [chunks] = series.values()
    return chunks


def _text(path: Path, number: int, text: object) -> str:
    if not isinstance(text, str):
        raise UserError(f"{path}: output {number} must be a text")
    return text


class ReplayTeacher:
    """Answers from stored outputs: one for each question."""

    journaled = False  # they are stored already

    def __init__(self, outputs: Sequence[Stored], positions: dict[str, int]):
        """`positions` are those of the questions' ids among all rows of their file."""
        self.faults: Counter[str] = Counter()
        self._outputs, self._positions = outputs, positions

    def ask(self, requests: Sequence[Request], receive: Receive) -> None:
        """Calls `receive` with each answer."""
        for request in requests:
            stored = self._outputs[self._positions[request.question.id]]
            text, _ = cut_at_stop(stored.text, request.stop)
            if text:
                receive(request, Answer(text, COMPLETE, request.settings.max_tokens, stored.place))
            else:
                self.faults[BLANK] += 1
