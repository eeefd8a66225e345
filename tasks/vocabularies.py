"""The vocabularies of the tasks. None opens its file before the first text is encoded."""

import os
import threading
from collections.abc import Sequence
from typing import Any

import seqio
import tensorflow as tf
from google.protobuf.message import DecodeError

from explainft.core import tensorflow_setup
from explainft.core.errors import UserError
from explainft.data import replacement
from explainft.data.compact_vocabulary import COMPACT
from tasks import replacement as replacement_ops

# T5's own vocabulary, whose file already holds the 100 sentinels: with extra_ids left at 0 it equals the VOCABULARY of
# T5X's gin files, and T5X refuses to train where task and model differ.
PUBLIC_T5_VOCAB = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
T5_VOCAB = os.environ.get("EXPLAINFT_T5_VOCAB") or PUBLIC_T5_VOCAB  # an empty value means unset
FIX = "set EXPLAINFT_T5_VOCAB to the path of a copy of T5's sentencepiece.model"
# How long a bucket may take to answer whether it has the file. TensorFlow itself retries for minutes where connections
# are refused or packets are dropped. With its import, about 6 s on an idle machine, the wait stays below ten seconds.
TIMEOUT_SECONDS = 3.0
_stderr_lock = threading.Lock()  # standard error is held back for the whole process


class T5Vocabulary(seqio.SentencePieceVocabulary):
    """A SentencePiece vocabulary. A missing file raises UserError."""

    alternative = "use the task's counterpart _compact"

    def _model_context(self):  # the one place through which seqio opens the file
        if self._model is not None:
            return self._model
        path = self.sentencepiece_model_file
        try:
            if "://" in path:
                _require_reachable(path)
            return super()._model_context()
        except (tf.errors.OpError, TimeoutError) as error:
            raise UserError(
                f"cannot read T5's vocabulary {path} ({_reason(error)}); {FIX}, or {self.alternative}"
            ) from error
        except (DecodeError, RuntimeError) as error:  # protobuf's and SentencePiece's own
            raise UserError(
                f"{path} is not a SentencePiece model, which T5's vocabulary must be; {FIX}, or {self.alternative}"
            ) from error


class ReplacingT5Vocabulary(T5Vocabulary):
    """T5's vocabulary for any text: newlines, braces and what else it cannot write are replaced, and restored.

    It equals a SentencePieceVocabulary of the same file, as T5X requires of the task's and the model's: the ids mean
    the same pieces. Texts are decoded by the task's vocabulary, which restores them.
    """

    alternative = "train from scratch on the VOCABULARY_FILE that `explainft vocab build` makes"
    replacement = True  # kept in the token cache and in checkpoints, where explainft.data.vocabulary does the same

    def _encode(self, s: str) -> Sequence[int]:
        return super()._encode(replacement.replace(s))

    def _encode_tf(self, s: tf.Tensor) -> Any:
        return super()._encode_tf(replacement_ops.replace(s))

    def _decode(self, ids: Sequence[int]) -> str:
        return replacement.restore(super()._decode(ids))

    def _decode_tf(self, ids: tf.Tensor) -> Any:
        return replacement_ops.restore(super()._decode_tf(ids))


def _require_reachable(path: str) -> None:
    """Raises TimeoutError or OpError where a remote file is not found in TIMEOUT_SECONDS; reading may take longer."""
    answer: list[tf.errors.OpError | None] = []

    def ask() -> None:
        try:
            tf.io.gfile.stat(path)
            answer.append(None)
        except tf.errors.OpError as error:
            answer.append(error)

    # A daemon: the process ends although TensorFlow still waits. Its messages would bury the one line for the user.
    thread = threading.Thread(target=ask, daemon=True)
    with _stderr_lock, tensorflow_setup.hold_native_stderr():
        thread.start()
        thread.join(TIMEOUT_SECONDS)
    if not answer:
        raise TimeoutError(f"no answer in {TIMEOUT_SECONDS:g} s")
    if answer[0] is not None:
        raise answer[0]


def _reason(error: Exception) -> str:
    if isinstance(error, tf.errors.NotFoundError):
        return "no such file"
    return " ".join(str(error).split(", error details")[0].split())


T5 = T5Vocabulary(T5_VOCAB)
T5_QUESTIONS = ReplacingT5Vocabulary(T5_VOCAB)  # for texts of any kind; ListOps needs T5's pieces alone
COMPACT_VOCABULARY = seqio.SentencePieceVocabulary(COMPACT)
