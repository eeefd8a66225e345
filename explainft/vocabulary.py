"""Text to token ids and back without TensorFlow: the same SentencePiece model that the SeqIO tasks use."""

import hashlib
from pathlib import Path

import sentencepiece
from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2 as model_pb2

from explainft.errors import UserError

EOS_ID = 1


class Vocabulary:
    """A SentencePiece model file plus `extra_ids` sentinels at its end, as in seqio.SentencePieceVocabulary."""

    def __init__(self, path: str | Path, extra_ids: int = 0):
        self.path = Path(path)
        self.extra_ids = extra_ids
        if not self.path.is_file():
            raise UserError(f"no SentencePiece model at {path}; name an existing file")
        proto = model_pb2.ModelProto  # pyright: ignore[reportAttributeAccessIssue] (made when it is imported)
        try:
            model = proto.FromString(self.path.read_bytes())
        except (OSError, DecodeError) as e:
            raise UserError(f"{path} is no SentencePiece model ({e}); copy it again") from e
        for i in reversed(range(extra_ids)):
            sentinel = f"\N{LOWER ONE EIGHTH BLOCK}<extra_id_{i}>"
            model.pieces.add(piece=sentinel, score=0.0, type=proto.SentencePiece.USER_DEFINED)
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())

    @property
    def size(self) -> int:
        return self._processor.vocab_size()

    def digest(self) -> str:
        """What tells this model file from another."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Token ids, without EOS."""
        return self._processor.encode(text)

    def decode(self, ids: list[int]) -> str:
        """The text; an id past the end, which only a padded output layer can write, reads as the unknown piece."""
        return self._processor.decode([i if i < self.size else self._processor.unk_id() for i in ids])
