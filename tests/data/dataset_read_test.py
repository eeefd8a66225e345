"""Opening a built dataset and printing examples of it."""

import json
import shutil

import pytest
import seqio
import tensorflow_datasets as tfds

from explainft.core.errors import UserError
from explainft.data.dataset_build import build
from explainft.data.dataset_read import build_command, show
from tasks.sources import ExplainedListopsSource

pytestmark = pytest.mark.usefixtures("small_tiny")


def test_show(built):
    text = show("tiny", "longer", 2, str(built))
    rows = list(tfds.as_numpy(tfds.load("explained_listops/tiny", split="longer", data_dir=built).take(2)))
    assert text.count("--- tiny/longer") == 2
    for index, row in enumerate(rows):
        title = f"--- tiny/longer {index}: answer {row['answer']}, length {row['length']}, depth {row['depth']}\n"
        assert title + row["expression"].decode() + "\nshort:\n" in text
        for style, explanation in row["explanation"].items():
            assert f"{style}:\n{explanation.decode()}\n" in text
    assert "\n├─ " in text


def test_show_keeps_order_across_files(built, tmp_path):
    build(
        "tiny", str(tmp_path), processes=1, shards=2
    )  # 150 training examples in each: TFDS would change files after 16
    assert show("tiny", "train", 170, str(tmp_path)) == show("tiny", "train", 170, str(built))


def test_build_command():
    assert build_command("tiny", None) == "explainft data build --config tiny"
    assert build_command("tiny", "/data") == "explainft data build --config tiny --tfds_data_dir /data"


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", ["", "[", "[]", "7", "{}", "null", "[" * 10_000, '{"splits": 3}'])
def test_corrupt_description_is_named(built, tmp_path, file, content):
    directory = shutil.copytree(built / "explained_listops/tiny/1.0.0", tmp_path / "explained_listops/tiny/1.0.0")
    (directory / file).write_text(content)
    line = f"{directory}: {file} is corrupt; delete the directory and run: explainft data build --config tiny"
    with pytest.raises(UserError, match=line):
        show("tiny", "test", 1, str(tmp_path))
    with pytest.raises(UserError, match=line):
        build("tiny", str(tmp_path))


@pytest.mark.parametrize("content", [None, b"", b"x" * 100, b"\0" * 100])
def test_corrupt_records_name_their_split(built, tmp_path, content):
    directory = shutil.copytree(built / "explained_listops/tiny/1.0.0", tmp_path / "explained_listops/tiny/1.0.0")
    [file] = directory.glob("*-test.tfrecord-*")
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(
        UserError, match=f"{directory}: split 'test' is corrupt; delete the directory and run: explainft data"
    ):
        show("tiny", "test", 1, str(tmp_path))


def test_task_names_a_corrupt_description(built, tmp_path, seqio_unchanged):
    directory = shutil.copytree(built / "explained_listops/tiny/1.0.0", tmp_path / "explained_listops/tiny/1.0.0")
    info = json.loads((directory / "dataset_info.json").read_text())
    (directory / "dataset_info.json").write_text(json.dumps(info | {"splits": info["splits"][1:]}))
    seqio.set_tfds_data_dir_override(str(tmp_path))
    with pytest.raises(UserError, match="dataset_info.json is corrupt; delete"):
        ExplainedListopsSource("tiny", {"train": "train"}).num_input_examples("train")
