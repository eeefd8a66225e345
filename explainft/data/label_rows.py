"""The labels of a task's rows, and which rows they can score: the others are left out of its tokens, and counted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from explainft.core.errors import UserError
from explainft.data.target_parts import prefix_lengths
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.problems.choice import choices_of
from explainft.problems.text import first_equal

EQUAL = "have choices that are equal after normalization"
UNWRITABLE = "have a choice that the vocabulary cannot write"
NO_LABEL = "have a gold answer that is not one of the labels"
SHOWN = 5  # rows that a line names


def labels_of(record: Mapping[str, Any], labels: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the labels that a row's target is among: those of the task, or the row's own choices (None)."""
    return tuple(choices_of(record) if labels is None else labels)


def left_out_line(reason: str, rows: Sequence[str], n: int) -> str:
    """Returns one line on the rows of n that are left out for a reason."""
    shown = ", ".join(rows[:SHOWN]) + (", ..." if len(rows) > SHOWN else "")
    return f"{len(rows):,} of {n:,} examples {reason} and are left out: {shown}"


class LabelRows:
    """Selects the rows whose labels differ and can be written, and whose target is one of them.

    `labels` are those of all rows (None: each row's own choices). `left_out` has the ids of the other rows by reason.
    Raises UserError for labels of all rows that are equal after normalization.
    """

    def __init__(self, labels: Sequence[str] | None, vocabulary: Vocabulary):
        if labels is not None and (equal := first_equal(labels)) is not None:
            raise UserError(f"labels {equal[0]!r} and {equal[1]!r} are equal after normalization; remove one")
        self.left_out: dict[str, list[str]] = {}
        self._labels, self._vocabulary, self._rows = labels, vocabulary, 0

    def select(
        self,
        columns: Mapping[str, Sequence[Any]],
        targets: np.ndarray,
        lengths: np.ndarray,
        parts: tuple[np.ndarray, np.ndarray] | None,
    ) -> np.ndarray:
        """Returns for each row of a batch whether it can be scored.

        `columns` are the fields of its rows, `targets` their concatenated tokens with EOS, of the `lengths`, and
        `parts` what target_parts has of each token: a label follows the context tokens that a target begins with.
        """
        prefixes = np.zeros(len(lengths), int) if parts is None else prefix_lengths(*parts)
        ends = np.cumsum(lengths)
        keep = np.ones(len(lengths), bool)
        for i in range(len(lengths)):
            record = {name: values[i] for name, values in columns.items()}
            gold = targets[ends[i] - lengths[i] + prefixes[i] : ends[i]].tolist()
            reason = self._reason(labels_of(record, self._labels), gold)
            if reason is not None:
                keep[i] = False
                self.left_out.setdefault(reason, []).append(str(record.get("id", self._rows + i)))
        self._rows += len(lengths)
        return keep

    def _reason(self, labels: tuple[str, ...], gold: list[int]) -> str | None:
        encoded = [self._vocabulary.encode(label) for label in labels]
        if any(not label.strip() for label in labels) or any(self._vocabulary.unknown_id in ids for ids in encoded):
            return UNWRITABLE
        if first_equal(labels) is not None or any(encoded.count(ids) > 1 for ids in encoded):
            return EQUAL
        return None if gold in [[*ids, EOS_ID] for ids in encoded] else NO_LABEL
