"""Encodes text as token ids and decodes it, without TensorFlow, with the SentencePiece model of the SeqIO tasks."""

import hashlib
from pathlib import Path
from typing import Any

import sentencepiece
from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2 as model_pb2

from explainft.core.errors import UserError
from explainft.data.replacement import replace, restore, restore_prefix

EOS_ID = 1
INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # of a character whose bytes have not all been generated
sentencepiece.set_min_log_level(2)  # what it cannot do, it raises
Model: Any = model_pb2.ModelProto  # pyright: ignore[reportAttributeAccessIssue] (created at import)


class Vocabulary:
    """A SentencePiece model file plus `extra_ids` sentinels at its end, as in seqio.SentencePieceVocabulary.

    With `replacement`, texts are written as T5's vocabulary can and restored, as tasks.vocabularies does it.
    """

    def __init__(self, path: str | Path, extra_ids: int = 0, replacement: bool = False):
        self.path = Path(path)
        self.extra_ids = extra_ids
        self.replacement = replacement
        if not self.path.is_file():
            raise UserError(f"no SentencePiece model at {path}; choose an existing file")
        try:
            model = Model.FromString(self.path.read_bytes())
        except (OSError, DecodeError) as e:
            raise UserError(f"{path} is not a SentencePiece model ({e}); copy it again") from e
        if not model.pieces:  # protobuf reads an empty file
            raise UserError(f"{path} is not a SentencePiece model (it has no pieces); copy it again")
        for i in reversed(range(extra_ids)):
            sentinel = f"\N{LOWER ONE EIGHTH BLOCK}<extra_id_{i}>"
            model.pieces.add(piece=sentinel, score=0.0, type=Model.SentencePiece.USER_DEFINED)
        self.proto = model  # sentinels included
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())

    @property
    def size(self) -> int:
        return self._processor.vocab_size()

    @property
    def unknown_id(self) -> int:
        return self._processor.unk_id()

    def digest(self) -> str:
        """Returns the SHA-256 of the model file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Returns token ids, without EOS."""
        return self._processor.encode(replace(text) if self.replacement else text)

    def decode(self, ids: list[int]) -> str:
        """Returns the text. An id past the end, which a padded output layer can generate, is the unknown piece."""
        text = self._processor.decode([i if i < self.size else self.unknown_id for i in ids])
        return restore(text) if self.replacement else text

    def decode_prefix(self, ids: list[int]) -> str:
        """Returns the beginning of the text of these ids that further ids do not change, for streaming."""
        text = self._processor.decode([i if i < self.size else self.unknown_id for i in ids])
        text = text.rstrip(INCOMPLETE)
        return restore_prefix(text) if self.replacement else text

    def token_text(self, token: int) -> str:
        """Returns a token as text, with a space where it begins a word."""
        piece = self.proto.pieces[token if token < self.size else self.unknown_id].piece
        return piece.replace("\N{LOWER ONE EIGHTH BLOCK}", " ")

    def difference(self, other: "Vocabulary") -> str | None:
        """Returns one line on the first difference in how the two encode or decode text; None without any.

        The files' bytes do not matter: they also describe training, and sentinels may come from the file or from
        `extra_ids`. In the line, "here" is this vocabulary and "there" the other.
        """
        if self.size != other.size:
            return f"{self.size} tokens here, {other.size} there"
        if self.replacement != other.replacement:
            return f"replacement is {self.replacement} here, {other.replacement} there"
        here, there = (Model.FromString(v._processor.serialized_model_proto()) for v in (self, other))
        for i, (a, b) in enumerate(zip(here.pieces, there.pieces, strict=True)):
            if a.piece != b.piece:
                return f"piece {i} is {a.piece!r} here, {b.piece!r} there"
            for name in ("score", "type"):
                if (value_here := getattr(a, name)) != (value_there := getattr(b, name)):
                    return f"piece {i}, {a.piece!r}, has {name} {value_here} here, {value_there} there"
        for name in ("normalizer_spec", "denormalizer_spec", "trainer_spec"):
            for rule in _RULES[name]:
                if (value_here := getattr(getattr(here, name), rule)) != (
                    value_there := getattr(getattr(there, name), rule)
                ):
                    shown = (
                        "differs" if isinstance(value_here, bytes) else f"is {value_here!r} here, {value_there!r} there"
                    )
                    return f"{name}.{rule} {shown}"
        return None


# What SentencePiece reads of a model, beside its pieces, to encode and decode.
_NORMALIZER = ("precompiled_charsmap", "add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces")
_RULES = {
    "normalizer_spec": _NORMALIZER,
    "denormalizer_spec": ("precompiled_charsmap",),
    "trainer_spec": (
        *("model_type", "byte_fallback", "treat_whitespace_as_suffix"),
        *("unk_piece", "bos_piece", "eos_piece", "pad_piece", "unk_surface"),
    ),
}
