"""Folders that transformers writes and reads, against our conversion."""

import io
import json
import random

import numpy as np
import pytest

from explainft import listops
from explainft.checkpoints import convert, hugging_face, tokenizer_json
from explainft.core.errors import UserError
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.evaluation.infer import PRETRAINED
from explainft.generation import decoding
from explainft.listops.configs import CONFIGS
from explainft.model import t5
from tests.data.t5_vocabulary_test import SENTINELS, write_t5_like

pytestmark = [
    pytest.mark.hf,
    # torch and transformers warn of their own future; what they compute is compared below.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
torch = pytest.importorskip("torch", reason="compares with Hugging Face: needs torch")
transformers = pytest.importorskip("transformers", reason="compares with Hugging Face: needs transformers")

FAMILIES = {"1.0": ("relu", True), "1.1": ("gated-gelu", False), "silu": ("gated-silu", False)}


def random_model(family):
    feed_forward, tied = FAMILIES[family]
    settings = transformers.T5Config(
        vocab_size=160, d_model=64, d_kv=16, num_heads=4, d_ff=96, num_layers=2, num_decoder_layers=3,
        feed_forward_proj=feed_forward, tie_word_embeddings=tied, decoder_start_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(settings).eval()
    if not tied:  # transformers 5 ties a new model of any family; the public checkpoints of 1.1 are not
        model.lm_head.weight = torch.nn.Parameter(torch.randn(160, 64))
    return model


def logits(model):
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(2, 160, (3, 20)), rng.integers(2, 160, (3, 15))
    shifted = np.roll(targets, 1, axis=1)
    shifted[:, 0] = 0
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            return model(input_ids=torch.tensor(inputs), decoder_input_ids=torch.tensor(shifted)).logits.numpy()
    return np.asarray(t5.T5(model.architecture()).apply({"params": model.tree()}, inputs, shifted, targets))


def save_bin_shards(tensors, folder):
    weight_map = {name: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        torch.save({name: tensors[name] for name in tensors if weight_map[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("files", ["safetensors", "shards", "bin", "bin shards"])
@pytest.mark.parametrize("family", FAMILIES)
def test_reads_what_transformers_saved(family, files, tmp_path):
    model = random_model(family)
    model.save_pretrained(tmp_path, **({"max_shard_size": "100KB"} if files == "shards" else {}))
    if files == "bin":  # as transformers before 5 saved
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    if files == "bin shards":
        (tmp_path / "model.safetensors").unlink()
        save_bin_shards(model.state_dict(), tmp_path)
    assert (len(list(tmp_path.glob("model-*.safetensors"))) > 2) == (files == "shards")
    theirs = logits(model)
    np.testing.assert_allclose(logits(convert.open_weights(str(tmp_path))), theirs, atol=1e-5 * np.abs(theirs).max())


def test_a_pytorch_file_with_code_is_not_run(tmp_path):
    model = random_model("1.0")
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"shared.weight": io.StringIO}, tmp_path / "pytorch_model.bin")  # a class is code
    with pytest.raises(UserError, match="cannot read .* as weights alone"):
        convert.open_weights(str(tmp_path))


@pytest.mark.parametrize("family", ["1.0", "1.1"])
def test_transformers_loads_what_is_written(family, tmp_path):
    model = random_model(family)
    model.save_pretrained(tmp_path / "theirs")
    t5x = convert.convert(str(tmp_path / "theirs"), tmp_path / "t5x", "t5x")
    convert.convert(str(t5x), tmp_path / "back", "hf")
    again = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "back")
    wanted = model.state_dict()
    assert again.state_dict().keys() == wanted.keys()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name
    np.testing.assert_array_equal(logits(again.eval()), logits(model))


def test_the_shipped_model_writes_the_same_text_there(tmp_path):
    rng = random.Random(1)
    expressions = [listops.format(CONFIGS["tiny"].train.tree(rng)) for _ in range(40)]
    weights = convert.open_weights(str(PRETRAINED))
    vocabulary = weights.tokenizer()
    inputs = [[*vocabulary.encode(text), EOS_ID] for text in expressions]
    mine = decoding.generate(t5.T5(weights.architecture()), weights.tree(), inputs, 100, 8)
    convert.convert(str(PRETRAINED), tmp_path / "hf", "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    model = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "hf").eval()
    batch = tokenizer(expressions, return_tensors="pt", padding=True)
    with torch.no_grad():
        theirs = model.generate(**batch, max_new_tokens=100)
    texts = tokenizer.batch_decode(theirs, skip_special_tokens=True)
    assert texts == [vocabulary.decode(ids) for ids in mine]
    assert all(text.rpartition("\n")[2].startswith("Final answer: ") for text in texts)


def texts():
    rng = random.Random(2)
    for tree in (CONFIGS["listops30"].train.tree(rng) for _ in range(50)):
        yield listops.format(tree)
        for style in listops.STYLES:
            yield listops.explain(tree, style)
    yield "  two  spaces\nand a line \t tab ½ ﬁ é "


@pytest.mark.parametrize(("kind", "extra_ids"), [("compact", 0), ("like T5's", 0), ("bare", SENTINELS)])
def test_a_tokenizer_writes_the_ids_of_its_vocabulary(kind, extra_ids, tmp_path):
    path = COMPACT if kind == "compact" else write_t5_like(tmp_path / "like.model", 0 if kind == "bare" else SENTINELS)
    vocabulary = Vocabulary(path, extra_ids)
    tokenizer_json.write(tmp_path, vocabulary, extra_ids)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == vocabulary.size
    for text in texts():
        ids = tokenizer(text).input_ids
        assert ids == [*vocabulary.encode(text), EOS_ID], text
        if tokenizer_json.UNK not in ids:  # theirs drops it with the special tokens, SentencePiece writes a sign
            assert tokenizer.decode(ids, skip_special_tokens=True) == vocabulary.decode(ids[:-1])


def test_hugging_face_s_names_are_all_known():
    for family in FAMILIES:
        model = random_model(family)
        known = {
            theirs
            for theirs, _ in hugging_face.tensor_names(
                hugging_face._config(PRETRAINED, model.config.to_dict(), tied=FAMILIES[family][1])
            ).values()
        }
        assert set(model.state_dict()) - known <= {*hugging_face.EMBEDDING, hugging_face.OUTPUT}
