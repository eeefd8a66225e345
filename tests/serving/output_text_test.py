"""The text of an output while its tokens come."""

import random

import pytest

from explainft.data import replacement
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.serving.output_text import OutputText

VOCABULARY = Vocabulary(COMPACT)
TEXT = "Max, largest number of [2, 9, 4, 0] is 9\nFinal answer: 9"


def collect(stop, streams=True, ids=None):
    """Returns the parts that were taken after each token, and whether a stop string ended the text."""
    text = OutputText(VOCABULARY, stop, streams, False)
    parts = []
    for token in [*(ids or VOCABULARY.encode(TEXT)), EOS_ID]:
        text.append(token, 0.0, [])
        parts.append(text.take())
        if text.stopped:
            break
    text.end()
    return [*parts, text.take()], text.stopped


def test_the_parts_of_a_stream_are_the_text():
    parts, stopped = collect(())
    assert "".join(parts) == TEXT and not stopped and sum(map(bool, parts)) > 9


@pytest.mark.parametrize("stop", [["answer"], ["9\nF", "zzz"], ["inal", "9\nFinal"], ["Max"], ["9"], [TEXT[-20:]]])
@pytest.mark.parametrize("streams", [True, False])
def test_the_first_stop_string_ends_the_text_and_is_never_sent(stop, streams):
    parts, stopped = collect(stop, streams)
    assert stopped and "".join(parts) == TEXT[: min(TEXT.find(s) for s in stop if s in TEXT)]


def test_what_may_begin_a_stop_string_is_sent_once_it_does_not():
    parts, stopped = collect(["9, 4, 1", "answer: 8"])
    assert "".join(parts) == TEXT and not stopped


def test_a_text_never_changes_what_was_sent():
    random_ = random.Random(0)
    for _ in range(300):
        ids = [random_.randrange(2, VOCABULARY.size + 3) for _ in range(12)]
        assert "".join(collect((), ids=ids)[0]) == VOCABULARY.decode(ids)


def test_codes_are_restored_when_they_are_complete():
    random_ = random.Random(0)
    alphabet = ["•", "{", "<", "²", "\n", " ", "中", "a", "7", ";", "•20013", "\t"]
    for _ in range(2000):
        text = "".join(random_.choices(alphabet, k=8))
        written = replacement.replace(text)
        parts = [replacement.restore_prefix(written[:n]) for n in range(len(written))]
        assert all(text.startswith(part) for part in parts), (text, parts)
    written = replacement.replace("a" * 30 + "中b" + "c" * 20)
    assert replacement.restore_prefix(written).endswith("中b" + "c" * 20)
