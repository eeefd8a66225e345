"""Writes compact.model, a SentencePiece vocabulary of ListOps expressions and their explanations.

    python -m explainft.data.compact_vocabulary.make [PATH]

It needs no corpus and no training: the pieces follow from the wording of the explanations, and the bytes are
deterministic. A change of the wording or of this file changes the ids, and so breaks every model trained on them.
"""

# pyright: reportAttributeAccessIssue=false
# (protobuf makes the classes of sentencepiece_model_pb2 at import.)

import argparse
import re
import string
import struct
from pathlib import Path

from sentencepiece import sentencepiece_model_pb2 as model_pb2

from explainft.data.compact_vocabulary import COMPACT
from explainft.listops.explain import LINES

Piece = model_pb2.ModelProto.SentencePiece

# "[SM" and "[MEDIAN" are spellings of the released files.
SYMBOLS = ("[MIN", "[MAX", "[MED", "[MEDIAN", "[SUM", "[SM", "]", "(", ")")


def phrases() -> list[str]:
    """Returns the texts between two numbers in the explanations of all styles.

    A space before a number belongs to the piece of its first digit, so no phrase ends with one. No phrase is the start
    of another, which keeps the segmentation unique: there is no "SUM" beside "SUM,".
    """
    templates = [template for lines in LINES.values() for template in lines.values()]
    return [literal.rstrip(" ") for template in templates for literal in re.split(r"\{\w+\}", template) if literal]


def pieces() -> list[str]:
    """Returns every normal piece in the order of its id, with plain spaces."""
    digits = [prefix + digit for prefix in (" ", ", ", "") for digit in string.digits]
    symbols = [space + symbol for symbol in SYMBOLS for space in ("", " ")]
    # Single characters last: they cover what the pieces above do not.
    characters = string.punctuation + string.ascii_letters + " \n"
    return list(dict.fromkeys([*digits, *symbols, *phrases(), "Final answer:", *characters]))


def model() -> model_pb2.ModelProto:
    """Returns the model: <pad> 0, </s> 1, <unk> 2, then `pieces()`."""
    proto = model_pb2.ModelProto()
    proto.pieces.add(piece="<pad>", type=Piece.CONTROL)
    proto.pieces.add(piece="</s>", type=Piece.CONTROL)
    proto.pieces.add(piece="<unk>", type=Piece.UNKNOWN)
    for piece in pieces():
        # Equal scores: the unigram model maximizes the total score, so the fewest pieces win.
        proto.pieces.add(piece=piece.replace(" ", "▁"), score=-1.0, type=Piece.NORMAL)

    trainer = proto.trainer_spec
    trainer.model_type = model_pb2.TrainerSpec.UNIGRAM
    trainer.vocab_size = len(proto.pieces)
    trainer.pad_id, trainer.eos_id, trainer.unk_id, trainer.bos_id = 0, 1, 2, -1
    # Text is encoded unchanged, with newlines and spaces at either end.
    normalizer = proto.normalizer_spec
    normalizer.name = "identity"
    # An empty map: the length of its trie, a trie with a root alone, the end of its replacements. Without any map,
    # tensorflow_text prints a warning when it loads the model.
    normalizer.precompiled_charsmap = struct.pack("<II", 1024, 1 << 10) + bytes(1020) + b"\0"
    normalizer.add_dummy_prefix = False
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True
    return proto


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the compact SentencePiece vocabulary.")
    parser.add_argument("path", nargs="?", default=COMPACT, help="the file to write (default: %(default)s)")
    path = Path(parser.parse_args().path)
    path.write_bytes(model().SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
