"""Which rows of a task with labels can be scored."""

import numpy as np
import pytest

from explainft.core.errors import UserError
from explainft.data import label_rows
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.label_rows import LabelRows
from explainft.data.target_parts import ANSWER, CONTEXT
from explainft.data.vocabulary import EOS_ID, Vocabulary

VOCABULARY = Vocabulary(COMPACT)
ROWS = [  # id, choices, target, why it is left out
    ("a", ["sea", "air"], "air", None),
    ("b", ["sea", "air", "Sea."], "sea", label_rows.EQUAL),
    ("c", ["sea", "air"], "-", label_rows.NO_LABEL),
    ("d", ["sea", "é"], "sea", label_rows.UNWRITABLE),
    ("e", [], "no", None),  # yes or no
    ("f", [], "maybe", label_rows.NO_LABEL),
    ("g", ["sea", "sea air"], "sea air", None),
    ("h", ["sea", "sea air"], "se", label_rows.NO_LABEL),
]


def tokens(texts):
    ids = [[*VOCABULARY.encode(text), EOS_ID] for text in texts]
    return np.concatenate(ids), np.array([len(one) for one in ids])


def test_rows_that_cannot_be_scored_are_left_out_by_reason():
    ids, choices, targets, reasons = zip(*ROWS, strict=True)
    rows = LabelRows(None, VOCABULARY)
    for part in (slice(0, 3), slice(3, 8)):  # of two batches
        keep = rows.select({"id": ids[part], "choices": choices[part]}, *tokens(targets[part]), None)
        assert keep.tolist() == [reason is None for reason in reasons[part]]
    expected = {reason: [name for name, *_, why in ROWS if why == reason] for reason in set(reasons) - {None}}
    assert rows.left_out == expected


def test_rows_without_an_id_are_numbered():
    rows = LabelRows(["sea", "air"], VOCABULARY)
    assert rows.select({}, *tokens(["sea", "air"]), None).all()
    rows.select({}, *tokens(["air", "-"]), None)
    assert rows.left_out == {label_rows.NO_LABEL: ["3"]}
    assert label_rows.left_out_line(label_rows.NO_LABEL, [str(i) for i in range(16)], 1500) == (
        "16 of 1,500 examples have a gold answer that is not one of the labels and are left out: 0, 1, 2, 3, 4, ..."
    )


def test_a_label_follows_its_context():
    ids, lengths = tokens(["sea", "sea"])
    parts = np.array([ANSWER] * lengths[0] + [CONTEXT] * (lengths[1] - 1) + [ANSWER])
    keep = LabelRows(["sea", "air"], VOCABULARY).select({}, ids, lengths, (parts, lengths))
    assert keep.tolist() == [True, False]  # after the context only EOS is left


def test_equal_labels_are_refused():
    with pytest.raises(UserError, match="labels 'yes' and 'Yes.' are equal after normalization; remove one"):
        LabelRows(["no", "yes", "Yes."], VOCABULARY)
