"""Hugging Face directories without its code: that takes part in the tests marked hf."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from explainft.checkpoints import convert, hugging_face
from explainft.core.errors import UserError
from tests.helpers.weights import FAMILIES, SMALL, assert_same_weights, random_weights


def test_shards_and_their_index(tmp_path, monkeypatch):
    original = random_weights(SMALL)
    monkeypatch.setattr(hugging_face, "SHARD_BYTES", 200_000)
    hugging_face.write(tmp_path / "hf", original)
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    files = set(index["weight_map"].values())
    assert len(files) > 3
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / "hf" / file)
    total = 4 * sum(int(np.prod(shape)) for shape in original.parameters.values())
    assert index["metadata"]["total_size"] == total
    assert_same_weights(hugging_face.read(tmp_path / "hf"), original)
    # Reading and writing in parts: never all at once.
    tracemalloc.start()
    convert.convert(str(tmp_path / "hf"), tmp_path / "again", "hf")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < total


def edit(folder, file, change):
    settings = json.loads((folder / file).read_text())
    settings.update(change)
    (folder / file).write_text(json.dumps(settings))


def test_untrained_output_tokens_are_suppressed_or_reported(tmp_path, monkeypatch, capsys):
    learned = dataclasses.replace(random_weights(SMALL), meta={"output_ids": [1, 5, 7]})
    monkeypatch.setattr(convert, "open_weights", lambda source, step: learned)
    hf = convert.convert("run", tmp_path / "hf", "hf")
    suppressed = json.loads((hf / "generation_config.json").read_text())["suppress_tokens"]
    assert set(suppressed) == set(range(160)) - {1, 5, 7}
    assert "output tokens" not in capsys.readouterr().err
    convert.convert("run", tmp_path / "t5x", "t5x")
    assert "the run was trained on 3 of 160 output tokens (OUTPUT_VOCABULARY=task)" in capsys.readouterr().err


def test_family_by_tied_embeddings_or_scale(tmp_path):
    folder = tmp_path / "hf"
    hugging_face.write(folder, random_weights(FAMILIES["1.1"]))
    # transformers 5 writes this of a T5 1.1.
    edit(folder, "config.json", {"tie_word_embeddings": True, "scale_decoder_outputs": False})
    assert_same_weights(hugging_face.read(folder), random_weights(FAMILIES["1.1"]))
    edit(folder, "config.json", {"scale_decoder_outputs": True})
    with pytest.raises(UserError, match="neither T5 1.0 nor 1.1 does"):
        hugging_face.read(folder)


def test_other_models_are_refused(tmp_path):
    folder = tmp_path / "hf"
    hugging_face.write(folder, random_weights(SMALL))
    edit(folder, "config.json", {"model_type": "umt5"})
    with pytest.raises(UserError, match=r"model_type='umt5' \(relative position .*\); it must be one of t5, mt5"):
        hugging_face.read(folder)
    edit(folder, "config.json", {"model_type": "t5", "relative_attention_num_buckets": 64})
    with pytest.raises(UserError, match="relative_attention_num_buckets=64, but T5 has 32"):
        hugging_face.read(folder)
    edit(folder, "config.json", {"relative_attention_num_buckets": 32})
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "encoder.adapter.weight": np.ones(3, np.float32)}, folder / "model.safetensors")
    with pytest.raises(UserError, match="tensor 'encoder.adapter.weight' that T5 does not have"):
        hugging_face.read(folder)


def test_embedding_stored_three_times(tmp_path):
    folder = tmp_path / "hf"
    hugging_face.write(folder, random_weights(SMALL))
    tensors = load_file(folder / "model.safetensors")
    tensors |= {name: tensors["shared.weight"] for name in (*hugging_face.EMBEDDING, hugging_face.OUTPUT)}
    tensors[hugging_face.IGNORED] = np.ones((32, 4), np.float32)
    save_file(tensors, folder / "model.safetensors")
    assert_same_weights(hugging_face.read(folder), random_weights(SMALL))
