"""Text to token ids and back without TensorFlow: the same SentencePiece model that the SeqIO tasks use."""

import hashlib
from pathlib import Path

import sentencepiece

from explainft.errors import UserError

EOS_ID = 1
UNK_ID = 2


class Vocabulary:
    """A SentencePiece model file plus `extra_ids` sentinels at the end, as in seqio.SentencePieceVocabulary."""

    def __init__(self, path: str | Path, extra_ids: int = 0):
        if not Path(path).is_file():
            raise UserError(f"no SentencePiece model at {path}; name an existing file")
        self.path = Path(path)
        self.extra_ids = extra_ids
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))

    @property
    def size(self) -> int:
        return self._processor.vocab_size() + self.extra_ids

    def digest(self) -> str:
        """What tells this model file from another."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Token ids, without EOS."""
        return self._processor.encode(text)

    def decode(self, ids: list[int]) -> str:
        """The text; a sentinel reads as the unknown piece, as in SeqIO."""
        base = self._processor.vocab_size()
        return self._processor.decode([i if i < base else UNK_ID for i in ids])
