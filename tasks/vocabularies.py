"""The two vocabularies of every task. Neither opens its file before the first text is coded."""

import os

import seqio
import tensorflow as tf

from explainft.errors import UserError
from explainft.vocab import COMPACT

# T5's own vocabulary, whose file already holds the 100 sentinels: with extra_ids left at 0 it equals the VOCABULARY of
# T5X's gin files, and T5X refuses to train where task and model differ.
T5_VOCAB = os.environ.get("EXPLAINFT_T5_VOCAB", "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model")


class T5Vocabulary(seqio.SentencePieceVocabulary):
    """A SentencePiece vocabulary whose missing file is the user's mistake."""

    def _model_context(self):  # the one place through which seqio opens the file
        try:
            return super()._model_context()
        except tf.errors.OpError as error:
            raise UserError(
                f"cannot read T5's vocabulary {self.sentencepiece_model_file}; set EXPLAINFT_T5_VOCAB to the path of a "
                "copy of its sentencepiece.model, or take the task with the suffix _compact"
            ) from error


T5 = T5Vocabulary(T5_VOCAB)
COMPACT_VOCABULARY = seqio.SentencePieceVocabulary(COMPACT)
