"""Converting checkpoints between formats, and what is refused."""

import dataclasses
import gc
import json
import resource
import shutil

import ml_dtypes
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file

from explainft.checkpoints import convert, export, hugging_face, run_checkpoint, t5x
from explainft.checkpoints.weights import check_parameters
from explainft.core.errors import UserError, require_local
from explainft.data.compact_vocabulary import COMPACT
from explainft.evaluation.infer import PRETRAINED
from tests.helpers.weights import FAMILIES, SMALL, assert_same_weights, random_weights


@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip_through_both_formats_is_bitwise(family, tmp_path):
    original = random_weights(FAMILIES[family])
    hugging_face.write(tmp_path / "hf", original)
    first = convert.convert(str(tmp_path / "hf"), tmp_path / "t5x", "t5x")
    second = convert.convert(str(first), tmp_path / "back", "hf")
    found = convert.open_weights(str(second))
    assert found.architecture() == FAMILIES[family]
    assert_same_weights(found, original)
    tensors = load_file(second / "model.safetensors")
    assert ("lm_head.weight" in tensors) == (family == "1.1")
    # Theirs is [out, in], and the memory order of a transposed array must not show.
    np.testing.assert_array_equal(
        tensors["encoder.block.0.layer.1.DenseReluDense.wo.weight"], original.read("encoder/layers_0/mlp/wo/kernel").T
    )


def test_a_run_and_its_step_directory_are_read(tmp_path):
    wanted = run_checkpoint.open_run(PRETRAINED)
    assert_same_weights(convert.open_weights(str(PRETRAINED)), wanted)
    assert_same_weights(convert.open_weights(str(PRETRAINED / "checkpoints" / f"checkpoint_{wanted.step}")), wanted)
    out = convert.convert(str(PRETRAINED), tmp_path / "hf", "hf")
    assert_same_weights(hugging_face.read(out), wanted)
    settings = json.loads((out / "config.json").read_text())
    assert (settings["d_model"], settings["tie_word_embeddings"], settings["vocab_size"]) == (64, True, 160)
    assert "explained_tiny_medium_compact" in (out / "README.md").read_text()
    assert (out / "spiece.model").read_bytes() == (PRETRAINED / "vocabulary.model").read_bytes()


def test_bfloat16(tmp_path):
    original = random_weights(SMALL)
    hugging_face.write(tmp_path / "hf", original, "bfloat16")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["dtype"] == "bfloat16"
    t5x = convert.convert(str(tmp_path / "hf"), tmp_path / "t5x", "t5x")
    found = convert.open_weights(str(t5x))
    for name in original.parameters:
        assert found.read(name).dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(found.read(name), original.read(name).astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda d: None, ["no checkpoint at", "expected a run of explainft"]),
        (lambda d: d.mkdir(), ["holds nothing", "T5X checkpoint"]),
        (lambda d: (d.mkdir(), (d / "notes.txt").touch()), ["holds notes.txt", "Hugging Face directory"]),
        (
            lambda d: (
                d.mkdir(),
                (d / "checkpoint").write_text('model_checkpoint_path: "x"'),
                (d / "model.ckpt-1.index").touch(),
            ),
            ["TensorFlow checkpoint must be converted by T5X"],
        ),
    ],
)
def test_unknown_formats_are_refused(make, words, tmp_path):
    make(tmp_path / "it")
    with pytest.raises(UserError) as error:
        convert.open_weights(str(tmp_path / "it"))
    for word in words:
        assert word in error.value.line


def test_corrupt_files_are_one_line(tmp_path):
    t5x.write(epath.Path(tmp_path / "checkpoint_0"), random_weights(SMALL))
    (tmp_path / "checkpoint_0" / "target.token_embedder.embedding" / ".zarray").write_text("{")
    found = convert.open_weights(str(tmp_path))
    found.read("encoder/encoder_norm/scale")
    with pytest.raises(UserError, match="checkpoint_0: cannot read token_embedder/embedding"):
        found.read("token_embedder/embedding")
    (tmp_path / "checkpoint_0" / "checkpoint").write_bytes(b"\x82\xa7versi")
    with pytest.raises(UserError, match="copy the checkpoint again"):
        convert.open_weights(str(tmp_path))
    hugging_face.write(tmp_path / "hf", random_weights(SMALL))
    whole = (tmp_path / "hf" / "model.safetensors").read_bytes()
    (tmp_path / "hf" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="copy the checkpoint again"):
        convert.open_weights(str(tmp_path / "hf"))


def test_missing_files_are_named(tmp_path, monkeypatch):
    t5x.write(epath.Path(tmp_path / "checkpoint_0"), random_weights(SMALL))
    next((tmp_path / "checkpoint_0" / "target.token_embedder.embedding").glob("0.*")).unlink()
    with pytest.raises(UserError, match="cannot read token_embedder/embedding .*missing"):
        convert.open_weights(str(tmp_path)).read("token_embedder/embedding")
    monkeypatch.setattr(hugging_face, "SHARD_BYTES", 200_000)
    hugging_face.write(tmp_path / "hf", random_weights(FAMILIES["1.1"]))
    last = sorted((tmp_path / "hf").glob("*.safetensors"))[-1]
    last.unlink()
    with pytest.raises(UserError, match=f"lacks {last.name}, which its index names"):
        convert.open_weights(str(tmp_path / "hf"))


def test_invalid_arguments_are_refused(tmp_path, capsys):
    with pytest.raises(UserError, match="must be a directory of this machine"):
        require_local(DESTINATION="gs://bucket/out")
    t5x.write(epath.Path(tmp_path / "checkpoint_0"), random_weights(SMALL))
    for flags, message in (
        ({"to": "hf", "step": 5}, "has no checkpoint of step 5"),
        ({"to": "t5x", "vocabulary": COMPACT}, "it needs --to hf"),
        ({"to": "hf", "vocabulary": tmp_path / "none.model"}, "no SentencePiece model at"),
    ):
        with pytest.raises(UserError, match=message):
            convert.convert(str(tmp_path), tmp_path / "out", **flags)
    hugging_face.write(tmp_path / "hf", random_weights(SMALL))
    for alone in ("hf", "checkpoint_0"):
        with pytest.raises(UserError, match="is one checkpoint; give --step with the directory of a run"):
            convert.open_weights(str(tmp_path / alone), 5)
    shutil.copytree(next((PRETRAINED / "checkpoints").glob("checkpoint_*")), tmp_path / "alone")
    with pytest.raises(UserError, match="is a checkpoint outside of its run"):
        convert.open_weights(str(tmp_path / "alone"))
    convert.convert(str(tmp_path / "hf"), tmp_path / "t5x", "t5x")
    assert "they start fresh, at step 0" in capsys.readouterr().err


def test_relative_attention_max_distance_is_kept_or_refused(tmp_path):
    near = dataclasses.replace(SMALL, relative_attention_max_distance=32)
    hugging_face.write(tmp_path / "hf", random_weights(near))
    found = hugging_face.read(tmp_path / "hf")
    assert found.architecture() == near
    check_parameters(found, near)
    with pytest.raises(UserError, match="=32, but the model 128; give --gin.RELATIVE_ATTENTION_MAX_DISTANCE=32"):
        check_parameters(found, SMALL)
    with pytest.raises(UserError, match="but T5X's model always 128; use --to hf"):
        convert.convert(str(tmp_path / "hf"), tmp_path / "t5x", "t5x")
    with pytest.raises(UserError, match="relative_attention_max_distance=16 must be above 16"):
        dataclasses.replace(SMALL, relative_attention_max_distance=16)


@pytest.mark.parametrize("to", ["hf", "t5x"])
def test_local_encoder_attention_is_refused(tmp_path, monkeypatch, to):
    local = dataclasses.replace(SMALL, encoder_local_radius=8)
    monkeypatch.setattr(convert, "open_weights", lambda source, step: random_weights(local))
    with pytest.raises(UserError, match="encoder_local_radius=8, which T5X and Hugging Face do not support"):
        convert.convert("run", tmp_path / "out", to)
    with pytest.raises(UserError, match="encoder_local_radius=8, but the model None"):
        check_parameters(random_weights(local), SMALL)
    with pytest.raises(UserError, match="encoder_local_radius=0 must be an integer of at least 1"):
        dataclasses.replace(SMALL, encoder_local_radius=0)


def test_nothing_is_overwritten_or_half_written(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists; choose a new directory"):
        convert.convert(str(PRETRAINED), tmp_path / "there", "hf")
    monkeypatch.setattr(shutil, "copyfile", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left on device"):
        convert.convert(str(PRETRAINED), tmp_path / "new", "hf")
    assert [entry.name for entry in tmp_path.iterdir()] == ["there"]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("to", ["hf", "t5x", "export"])
def test_write_errors_are_one_line(tmp_path, to):
    """Each library has its own error for a full disk; a limit on the size of files stands for one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(UserError, match="^cannot write .*new .*choose a directory with enough free space$"):
            if to == "export":
                export.export_run(PRETRAINED, tmp_path / "new", None, "float32")
            else:
                convert.convert(str(PRETRAINED), tmp_path / "new", to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        gc.collect()  # what orbax leaves behind, which would be found in some other test
    assert not list(tmp_path.iterdir())
