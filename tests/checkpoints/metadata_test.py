"""The metadata of checkpoints: its names, its format, and what is refused."""

import json

import pytest

from explainft.checkpoints import run_checkpoint
from explainft.checkpoints.export import export_run
from explainft.checkpoints.integrity import CorruptCheckpoint, with_digest
from explainft.checkpoints.metadata import FORMAT, KEYS
from explainft.core.errors import UserError
from explainft.evaluation.infer import PRETRAINED
from tests.helpers.run_directories import shipped

ARCHITECTURE = {
    "vocab_size", "emb_dim", "num_heads", "num_encoder_layers", "num_decoder_layers", "head_dim", "mlp_dim",
    "mlp_activations", "dropout_rate", "logits_via_embedding", "dtype", "relative_attention_max_distance",
    "encoder_local_radius",
}  # fmt: skip
PROGRESS = {
    "first_step", "examples", "seconds", "best_step", "best_score", "evaluations_without_gain", "evaluation_pending",
    "metric_id",
}  # fmt: skip


def metadata_file(run):
    [file] = run.glob("checkpoints/*/meta/metadata")
    return file


def test_names_on_disk():
    """Checkpoints outlive the code: another name needs another format number."""
    meta = json.loads(metadata_file(PRETRAINED).read_text())
    assert list(meta) == ["format", *KEYS, "digest"]
    assert FORMAT == meta["format"] == 2
    assert meta["model"].keys() == ARCHITECTURE and meta["progress"].keys() == PROGRESS
    assert meta["data"].keys() == {"task_feature_lengths", "batch_size", "seed", "pack"}
    assert meta["explanation"] == {"style": "medium", "modulus": 10}


def test_metadata_names_no_module_of_the_package():
    assert "explainft" not in metadata_file(PRETRAINED).read_text()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "has format 1 of an older explainft, and this one reads format 2; use the explainft that wrote it"),
        ("x", "has format 'x' of an older explainft"),
        (3, "has format 3, and this explainft reads format 2; upgrade explainft"),
    ],
)
def test_other_formats_are_refused(number, words, tmp_path):
    with pytest.raises(UserError, match=words) as error:
        run_checkpoint.open_run(shipped(tmp_path / "run", format=number))
    assert "\n" not in error.value.line
    assert not isinstance(error.value, CorruptCheckpoint)  # which a run would skip, and train again


@pytest.mark.parametrize("digest", [True, False])
def test_metadata_without_a_format_is_of_an_older_one(digest, tmp_path):
    file = metadata_file(shipped(tmp_path / "run"))
    meta = {key: value for key, value in json.loads(file.read_text()).items() if key not in ("format", "digest")}
    file.write_text(json.dumps(with_digest(meta) if digest else meta))
    with pytest.raises(UserError, match="has format 1 of an older explainft"):
        run_checkpoint.open_run(tmp_path / "run")
    with pytest.raises(UserError, match="has format 1 of an older explainft"):
        export_run(tmp_path / "run", tmp_path / "export", None, "float32")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", '"text"', "\x00\x01", "[" * 10_000, '{"format": 2}', '{"format": 2, "digest": 5}'],
)
def test_corrupt_metadata_is_one_line(text, tmp_path):
    metadata_file(shipped(tmp_path / "run")).write_text(text)
    with pytest.raises(CorruptCheckpoint, match="checkpoint 4000 in .* is corrupt") as error:
        run_checkpoint.open_run(tmp_path / "run")
    assert "\n" not in error.value.line


@pytest.mark.parametrize("key", [*KEYS])
@pytest.mark.parametrize("value", ["missing", 1.5])
def test_a_missing_or_wrong_value_is_named(key, value, tmp_path):
    file = metadata_file(shipped(tmp_path / "run"))
    meta = json.loads(file.read_text())
    meta[key] = value
    if value == "missing":
        del meta[key]
    file.write_text(json.dumps(with_digest(meta)))
    with pytest.raises(CorruptCheckpoint, match=f"lacks a valid '{key}'"):
        run_checkpoint.open_run(tmp_path / "run")


@pytest.mark.parametrize("name", ["vocab_size", "encoder_local_radius"])
def test_a_missing_field_of_the_model_is_named(name, tmp_path):
    meta = json.loads(metadata_file(PRETRAINED).read_text())
    del meta["model"][name]
    with pytest.raises(UserError, match=f"step 4000: its metadata lacks model field '{name}'"):
        run_checkpoint.open_run(shipped(tmp_path / "run", model=meta["model"]))
