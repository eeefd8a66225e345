"""A vocabulary in which every token is a word of its own: a text shows its tokens."""

from pathlib import Path

from explainft.data.vocabulary import Model


def write(path: Path, size: int) -> None:
    """Writes a SentencePiece model with a word for each token id."""
    model = Model()
    special = {0: ("<pad>", 3), 1: ("</s>", 3), 2: ("<unk>", 2)}
    for i in range(size):
        piece, kind = special.get(i, (f"\N{LOWER ONE EIGHTH BLOCK}w{i}", 1))
        model.pieces.add(piece=piece, score=-float(i), type=kind)
    model.trainer_spec.unk_id, model.trainer_spec.bos_id = 2, -1
    model.trainer_spec.eos_id, model.trainer_spec.pad_id = 1, 0
    path.write_bytes(model.SerializeToString())
