"""The compact vocabulary: its segmentation, and that encoding and decoding change no text."""

import random
import re
import string
import sys
from pathlib import Path

import pytest
import sentencepiece
import seqio

from explainft import listops
from explainft.data.compact_vocabulary import COMPACT, make

STYLES = ("none", "short", "medium", "long")


def random_tree(rng: random.Random, depth: int = 4) -> listops.Node:
    arguments = [
        random_tree(rng, depth - 1) if depth > 1 and rng.random() < 0.3 else rng.randrange(100)
        for _ in range(rng.randint(2, 6))
    ]
    return listops.Node(rng.choice(listops.OPERATORS), tuple(arguments))


@pytest.fixture(scope="module")
def trees():
    rng = random.Random(0)
    return [random_tree(rng) for _ in range(1000)]


@pytest.fixture(scope="module")
def processor():
    return sentencepiece.SentencePieceProcessor(model_file=COMPACT)


def explanations(trees):
    return [listops.explain(tree, style) for tree in trees for style in STYLES]


def expressions(trees):
    return [listops.format(tree, style) for tree in trees for style in ("bracket", "parenthesized")]


def test_script_writes_the_shipped_model(tmp_path, monkeypatch):
    path = tmp_path / "again.model"
    monkeypatch.setattr(sys, "argv", ["make.py", str(path)])
    make.main()
    assert path.read_bytes() == Path(COMPACT).read_bytes()


def test_special_ids(processor):
    assert [processor.id_to_piece(i) for i in range(3)] == ["<pad>", "</s>", "<unk>"]
    assert (processor.pad_id(), processor.eos_id(), processor.unk_id(), processor.bos_id()) == (0, 1, 2, -1)


def test_digits_are_separate_pieces(processor):
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    assert len(set(pieces)) == len(pieces)
    assert max(sum(character.isdigit() for character in piece) for piece in pieces) == 1
    assert [piece for piece in pieces if "\n" in piece] == ["\n"]


def test_pieces_of_one_explanation(processor):
    text = "SUM, add [17, 5], sum is 22, answer is 2\nMax, largest number of [9, 2] is 9\nFinal answer: 9"
    assert processor.encode(text, out_type=str) == [
        *["SUM,▁add▁[", "1", "7", ",▁5", "],▁sum▁is", "▁2", "2", ",▁answer▁is", "▁2", "\n"],
        *["Max,▁largest▁number▁of▁[", "9", ",▁2", "]▁is", "▁9", "\n", "Final▁answer:", "▁9"],
    ]
    expression = "[MAX [SUM 17 5 ] 9 ]"
    assert processor.encode(expression, out_type=str) == ["[MAX", "▁[SUM", "▁1", "7", "▁5", "▁]", "▁9", "▁]"]


def test_decoding_inverts_encoding(processor, trees):
    texts = explanations(trees) + expressions(trees)
    texts += ["; ".join(text.split("\n")) for text in explanations(trees)]
    texts += ["\n".join(texts[:4]), "", "\n", " \n\n  7  ", "[MEDIAN 1 [SM 2 3 ] ]", string.printable[:95]]
    for text in texts:
        ids = processor.encode(text)
        assert processor.decode(ids) == text
        assert processor.unk_id() not in ids


def test_digits_and_phrases_are_one_piece_each(processor, trees):
    """This is the minimum with separate digits. A changed wording would be split into characters."""
    for text in explanations(trees):
        digits = re.findall(r"\d", text)
        phrases = [part for part in re.split(r", \d| \d|\d|(\n)", text) if part]
        assert len(processor.encode(text)) == len(digits) + len(phrases), text
    for text in expressions(trees):
        words = text.split(" ")
        assert len(processor.encode(text)) == sum(max(1, len(re.findall(r"\d", word))) for word in words), text


def test_every_phrase_is_used(processor, trees):
    used = {piece for text in explanations(trees) for piece in processor.encode(text, out_type=str)}
    assert {phrase.replace(" ", "▁") for phrase in make.phrases()} <= used


def test_seqio_encodes_equally_in_tensorflow_and_python(processor, trees):
    vocabulary = seqio.SentencePieceVocabulary(COMPACT)
    rng = random.Random(1)
    noise = ["".join(rng.choices(string.printable[:95] + "\n", k=60)) for _ in range(100)]
    for text in explanations(trees[:100]) + expressions(trees[:100]) + noise:
        ids = vocabulary.encode(text)
        assert ids == processor.encode(text)
        assert vocabulary.encode_tf(text).numpy().tolist() == ids
        assert vocabulary.decode([*ids, 1, 0, 0]) == text
        assert vocabulary.decode_tf(vocabulary.encode_tf(text)).numpy().decode() == text
    assert vocabulary.vocab_size == processor.get_piece_size()
