"""Replacing what T5's vocabulary cannot write: reversible, the same in TensorFlow, kept by caches and runs."""

import json
import os

import pytest
import seqio
import tensorflow as tf
import tokenizers

from explainft.checkpoints import run_checkpoint, tokenizer_json
from explainft.core.errors import UserError
from explainft.data import replacement, token_cache
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.replacement import replace, restore
from explainft.data.vocabulary import EOS_ID, Vocabulary
from tasks import replacement as ops
from tasks.vocabularies import ReplacingT5Vocabulary, T5Vocabulary
from tests.helpers.run_directories import shipped
from tests.helpers.vocabularies import TEXTS, random_texts, write_t5_characters


@pytest.fixture(scope="module")
def t5_like(tmp_path_factory):
    return str(write_t5_characters(tmp_path_factory.mktemp("vocabulary") / "like.model"))


# ---- text to text


@pytest.mark.parametrize("text", TEXTS)
def test_restore_undoes_replace(text):
    assert restore(replace(text)) == text


def test_restore_undoes_replace_in_random_texts():
    for text in random_texts(5000):
        assert restore(replace(text)) == text


def test_any_text_is_restored_without_an_error():
    for text in [*random_texts(2000), "•99999999999;", "•", "••", "•1", "•1114112;", "•55296;"]:
        for end in range(len(text) + 1):
            found = restore(text[:end])  # a model's output may hold half of a code, and is written as UTF-8
            assert found.encode().decode() == found


def test_plain_text_stays():
    text = 'Where would you put a lamp? (a) on a "desk"; it\'s 50% off, $3.50 & more [1] a_b #2 @x *y* 5>4'
    assert replace(text) == text == restore(text)


def test_lone_surrogates_pass():
    assert restore(replace("a\ud800b")) == "a\ud800b"


# ---- through a vocabulary


@pytest.mark.parametrize("text", TEXTS)
def test_vocabularies_lose_nothing(t5_like, text):
    vocabulary, seqio_s = Vocabulary(t5_like, replacement=True), ReplacingT5Vocabulary(t5_like)
    ids = vocabulary.encode(text)
    assert ids == seqio_s.encode(text) == seqio_s.encode_tf(tf.constant(text)).numpy().tolist()
    assert 2 not in ids
    assert vocabulary.decode(ids) == seqio_s.decode([*ids, EOS_ID]) == text
    if ids:
        assert seqio_s.decode_tf(tf.constant([[*ids, EOS_ID, 0, 0]])).numpy()[0].decode() == text


def test_random_texts_pass_through_the_vocabulary(t5_like):
    vocabulary = Vocabulary(t5_like, replacement=True)
    for text in random_texts(3000):
        assert vocabulary.decode(vocabulary.encode(text)) == text


def test_a_newline_costs_one_token_more_than_a_space(t5_like):
    vocabulary = Vocabulary(t5_like, replacement=True)
    assert len(vocabulary.encode("the\nof")) == len(vocabulary.encode("the of")) + 1


@pytest.mark.skipif(not os.path.isfile(os.environ.get("EXPLAINFT_T5_VOCAB", "")), reason="needs T5's own vocabulary")
def test_t5_s_own_model_loses_nothing():
    vocabulary = Vocabulary(os.environ["EXPLAINFT_T5_VOCAB"], replacement=True)
    for text in [*TEXTS, *random_texts(3000), *(f"a{c}b {c} {c}c{c}" for c in map(chr, range(0x3000)))]:
        assert vocabulary.decode(vocabulary.encode(text)) == text


# ---- in TensorFlow


@pytest.mark.parametrize("name", ["replace", "restore"])
def test_tensorflow_agrees(name):
    texts = [*TEXTS, *random_texts(3000), *map(replace, TEXTS), *map(replace, random_texts(1000))]
    expected = [getattr(replacement, name)(text) for text in texts]
    in_tensorflow = getattr(ops, name)
    assert [text.decode() for text in in_tensorflow(tf.constant(texts)).numpy()] == expected
    mapped = tf.data.Dataset.from_tensor_slices(texts).map(in_tensorflow)
    assert mapped.element_spec == tf.TensorSpec([], tf.string)  # pyright: ignore[reportCallIssue]
    assert [text.decode() for text in mapped.as_numpy_iterator()] == expected
    ragged = in_tensorflow(tf.ragged.constant([texts[:5], [], texts[5:7]]))
    assert [[text.decode() for text in row] for row in ragged.to_list()] == [expected[:5], [], expected[5:7]]


def test_it_equals_the_vocabulary_of_a_model(t5_like):
    """T5X compares the vocabularies of a task and of a model, which its gin files give as SeqIO's class."""
    model_s, task_s = seqio.SentencePieceVocabulary(t5_like), ReplacingT5Vocabulary(t5_like)
    assert model_s == task_s == T5Vocabulary(t5_like) and task_s == model_s
    assert task_s != seqio.SentencePieceVocabulary(str(COMPACT))


# ---- on disk


def add_task(name, inputs, targets, texts):
    def dataset(split, shuffle_files, seed=None):
        return tf.data.Dataset.from_tensor_slices({"inputs": texts, "targets": texts})

    seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(dataset, splits=["train"], num_input_examples={"train": len(texts)}),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={"inputs": seqio.Feature(inputs), "targets": seqio.Feature(targets)},
    )


def test_a_token_cache_restores(t5_like, monkeypatch, tmp_path):
    monkeypatch.setenv("EXPLAINFT_CACHE_DIR", str(tmp_path))
    vocabulary = ReplacingT5Vocabulary(t5_like)
    add_task("replaced", vocabulary, vocabulary, TEXTS)
    cache = token_cache.load("replaced", "train")
    assert [cache.vocabulary.decode(cache.targets[i][:-1].tolist()) for i in range(len(cache))] == TEXTS
    assert cache.meta["replacement"] is True


def test_plain_and_replacing_vocabularies_are_not_mixed(t5_like, monkeypatch, tmp_path):
    monkeypatch.setenv("EXPLAINFT_CACHE_DIR", str(tmp_path))
    add_task("mixed", T5Vocabulary(t5_like), ReplacingT5Vocabulary(t5_like), TEXTS)
    with pytest.raises(UserError, match="'mixed' has two vocabularies"):
        token_cache.load("mixed", "train")
    line = Vocabulary(t5_like).difference(Vocabulary(t5_like, replacement=True))
    assert line == "replacement is False here, True there"


def test_a_run_restores(tmp_path):
    run = shipped(tmp_path / "run", replacement=True)
    assert run_checkpoint.open_run(run).tokenizer().replacement
    assert not run_checkpoint.open_run(shipped(tmp_path / "plain")).tokenizer().replacement


def test_hugging_face_s_tokenizer_replaces(t5_like, tmp_path):
    vocabulary = Vocabulary(t5_like, replacement=True)
    tokenizer_json.write(tmp_path, vocabulary, 0)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in [text for text in TEXTS if "中" not in text and "</s>" not in text]:
        ids = tokenizer.encode(text).ids
        assert ids == [*vocabulary.encode(text), EOS_ID]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["replacement"] is True
