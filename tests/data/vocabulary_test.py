"""The vocabulary without TensorFlow, compared with SeqIO's."""

import pytest
import seqio
import tensorflow as tf

from explainft.core.errors import UserError
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.vocabulary import Vocabulary


def test_an_empty_file_is_not_a_vocabulary(tmp_path):
    (tmp_path / "vocabulary.model").write_bytes(b"")
    with pytest.raises(UserError, match="vocabulary.model is not a SentencePiece model .*; copy it again"):
        Vocabulary(tmp_path / "vocabulary.model")


def test_vocabulary_equals_seqio_s():
    theirs = seqio.SentencePieceVocabulary(str(COMPACT))
    ours = Vocabulary(theirs.sentencepiece_model_file)
    text = "SUM operator so we have to add\n[MAX 12 [MIN 4 7 ] ] é"
    ids = ours.encode(text)
    assert ids == theirs.encode(text) == theirs.encode_tf(tf.constant(text)).numpy().tolist()
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.size == theirs.vocab_size
    sentinels = Vocabulary(theirs.sentencepiece_model_file, extra_ids=5)
    their_sentinels = seqio.SentencePieceVocabulary(theirs.sentencepiece_model_file, extra_ids=5)
    assert sentinels.size == their_sentinels.vocab_size
    for beyond in (ours.size + 1, ours.size + 4, sentinels.size, sentinels.size + 7):
        assert sentinels.decode([*ids, beyond]) == their_sentinels.decode([*ids, beyond])
