"""tokenizer.json against SentencePiece: the same ids for the same text, and the same text for the same ids."""

import json
import random

import pytest
import tokenizers

from explainft import listops
from explainft.checkpoints import tokenizer_json
from explainft.core.errors import UserError
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.listops.configs import CONFIGS
from tests.data.t5_vocabulary_test import SENTINELS, write_t5_like


def sample_texts():
    rng = random.Random(2)
    for tree in (CONFIGS["listops30"].train.tree(rng) for _ in range(50)):
        yield listops.format(tree)
        for style in listops.STYLES:
            yield listops.explain(tree, style)
    yield "  two  spaces\nand a line \t tab ½ ﬁ é "


@pytest.fixture(scope="module", params=["compact", "like T5's", "bare"])
def vocabulary(request, tmp_path_factory):
    """`bare`: a model without sentinels, which the vocabulary adds."""
    bare = request.param == "bare"
    path = tmp_path_factory.mktemp("vocabulary") / "like.model"
    model = COMPACT if request.param == "compact" else write_t5_like(path, 0 if bare else SENTINELS)
    return Vocabulary(model, SENTINELS if bare else 0)


@pytest.fixture(scope="module")
def directory(vocabulary, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer_json.write(directory, vocabulary, vocabulary.extra_ids)
    return directory


def test_ids_equal_sentencepiece(vocabulary, directory):
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == vocabulary.size
    for text in sample_texts():
        ids = tokenizer.encode(text).ids
        assert ids == [*vocabulary.encode(text), EOS_ID], text
        if tokenizer_json.UNK not in ids:  # dropped with the special tokens, where SentencePiece has a sign for it
            assert tokenizer.decode(ids, skip_special_tokens=True) == vocabulary.decode(ids[:-1])


def test_each_sentinel_is_one_token(vocabulary, directory):
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    sentinels = [f"<extra_id_{i}>" for i in range(SENTINELS)] if vocabulary.size > SENTINELS + 160 else []
    for i, sentinel in enumerate(sentinels):
        assert tokenizer.token_to_id(sentinel) == vocabulary.size - 1 - i
        assert tokenizer.encode(sentinel).ids == [vocabulary.size - 1 - i, EOS_ID]


def test_settings_name_the_special_tokens(vocabulary, directory):
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    assert settings["extra_ids"] == vocabulary.extra_ids
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    special = [settings[name] for name in ("pad_token", "eos_token", "unk_token")]
    assert [tokenizer.token_to_id(token) for token in special] == [0, EOS_ID, 2]


def test_only_unigram_models_are_written(tmp_path):
    vocabulary = Vocabulary(COMPACT)
    vocabulary.proto.trainer_spec.model_type = 2
    with pytest.raises(UserError, match="must be a unigram model, as T5's is; choose another vocabulary"):
        tokenizer_json.write(tmp_path, vocabulary, 0)
