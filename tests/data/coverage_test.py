"""Coverage: what a vocabulary cannot write or changes, against encoding and decoding every text."""

import pytest

from explainft.data.coverage import SPACES, coverage
from explainft.data.vocabulary import Vocabulary
from tests.helpers.vocabularies import TEXTS, random_texts, write_t5_characters


@pytest.fixture(scope="module")
def t5_like(tmp_path_factory):
    return write_t5_characters(tmp_path_factory.mktemp("vocabulary") / "like.model")


@pytest.fixture
def vocabulary(t5_like):
    return Vocabulary(t5_like)


def test_texts_are_counted_by_hand(vocabulary):
    found = coverage(vocabulary, ["<<1+1=2>>", "a < b × c", "plain", "x²\ny² < 2", " two  spaces"])
    assert (found.texts, found.unknown, found.changed) == (5, 3, 2)
    assert found.unknown_characters == {"<": 3, "×": 1}
    assert found.changed_characters == {"\n": 1, SPACES: 1, "²": 1}
    assert found.line("targets") == (
        "3 of 5 targets hold tokens that this vocabulary cannot write: '<' 3, '×' 1; "
        "2 of 5 targets hold characters that it changes: '\\n' 1, spaces at an end or in a run 1, '²' 1"
    )


def test_nothing_lost_is_no_line(vocabulary):
    assert coverage(vocabulary, ["plain text", "more (of) it"]).line("targets") is None
    assert coverage(vocabulary, []).line("targets") is None


def test_the_line_is_one_line_of_bounded_length(vocabulary):
    found = coverage(vocabulary, map(chr, range(0x300, 0x3000)))
    line = found.line("targets")
    assert line is not None and "\n" not in line and len(line) < 400 and line.count(", ...") == 2


def test_replacement_covers_every_text(t5_like):
    vocabulary = Vocabulary(t5_like, replacement=True)
    assert coverage(vocabulary, [*TEXTS, *random_texts(500)]).line("targets") is None


def test_a_text_is_counted_where_it_does_not_survive(vocabulary):
    for text in [*TEXTS, *random_texts(2000)]:
        ids = vocabulary.encode(text)
        found = coverage(vocabulary, [text])
        assert bool(found.unknown) == (vocabulary.unknown_id in ids), text
        lost = vocabulary.decode(ids) != text
        assert bool(found.unknown or found.changed) == lost or "\u0301" in text, text
