"""What the dataset holds."""

import hashlib
import subprocess
import sys

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from explainft import listops
from explainft.core.errors import UserError
from explainft.data import records
from explainft.data.dataset import ExplainedListops, ListopsConfig
from explainft.data.dataset_build import build
from explainft.data.dataset_read import show
from explainft.listops.configs import CHUNK, CONFIGS, SPLITS, Config, candidates
from tasks.sources import ExplainedListopsSource
from tests.helpers.datasets import SIZES, environment, expressions

pytestmark = pytest.mark.usefixtures("small_tiny")


def expected_splits(config: str) -> dict[str, list[str]]:
    """Returns the expected splits, from the text and hash of every candidate."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for stream in ("train", "longer", "larger_numbers"):
        # The small splits get about one candidate in fifty each.
        chunks = range(SIZES["test"] * 51 * 3 // CHUNK)
        trees = [tree for chunk in chunks for tree in candidates(CONFIGS[config], stream, chunk)]
        for text in dict.fromkeys(map(listops.format, trees)):
            part = int(hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), 16) % 102
            shared = "train" if part < 98 else "validation" if part < 100 else "test"
            splits[shared if stream == "train" else stream].append(text)
    return {split: texts[: SIZES[split]] for split, texts in splits.items()}


def test_splits_are_the_first_of_their_streams(built):
    expected = expected_splits("tiny")
    for split in SPLITS:
        assert len(expected[split]) == SIZES[split]
        assert expressions(tfds.load("explained_listops/tiny", split=split, data_dir=built)) == expected[split]


def test_expressions_are_unique_across_splits(built):
    examples = tfds.load("explained_listops/tiny", data_dir=built)
    texts = [text for split in SPLITS for text in expressions(examples[split])]
    assert len(texts) == sum(SIZES.values()) == len(set(texts))


def test_other_sizes_share_examples(built, tmp_path):
    """The first training examples are the same, and so are the other splits."""
    for size in (200, 500):
        directory = build(f"tiny-{size}", str(tmp_path), processes=1)
        assert directory == tmp_path / f"explained_listops/tiny-{size}/1.0.0"
        examples = tfds.load(f"explained_listops/tiny-{size}", data_dir=tmp_path)
        train = expressions(examples["train"])
        assert len(train) == len(set(train)) == size
        published = expressions(tfds.load("explained_listops/tiny", split="train", data_dir=built))
        shared = min(size, len(published))
        assert train[:shared] == published[:shared]
        for split in SPLITS[1:]:
            same = expressions(tfds.load("explained_listops/tiny", split=split, data_dir=built))
            assert expressions(examples[split]) == same
    assert show("tiny-200", "train", 1, str(tmp_path)).replace("tiny-200", "tiny") == show(
        "tiny", "train", 1, str(built)
    )
    with pytest.raises(UserError, match="tiny-700 is not built in .*; run: explainft data build --config tiny-700 "):
        show("tiny-700", "train", 1, str(tmp_path))


def test_task_of_another_size(tmp_path):
    build("tiny-250", str(tmp_path), processes=1)
    source = ExplainedListopsSource("tiny-250", {"train": "train"})
    seqio.set_tfds_data_dir_override(str(tmp_path))
    try:
        assert source.num_input_examples("train") == len(list(source.get_dataset("train"))) == 250
        with pytest.raises(UserError, match="run: explainft data build --config tiny-251 "):
            ExplainedListopsSource("tiny-251", {"train": "train"}).num_input_examples("train")
    finally:
        seqio.set_tfds_data_dir_override(None)


def test_fields(built):
    for split, example in tfds.as_numpy(tfds.load("explained_listops/tiny", data_dir=built)).items():
        for row in example:
            tree = listops.parse(row["expression"].decode())
            assert row["expression"].decode() == listops.format(tree)
            assert row["answer"] == listops.evaluate(tree)
            assert row["length"] == listops.length(tree)
            assert row["depth"] == listops.depth(tree)
            steps = listops.steps(tree, "short")
            assert row["operators"].decode().split(" ") == [step.operator for step in steps]
            assert set(row["explanation"]) == {"short", "medium", "long"}
            for style, text in row["explanation"].items():
                assert listops.check(text.decode(), tree, style).valid, (split, text)
                assert text.decode() == listops.explain(tree, style)


def test_modulus_of_config():
    sampler = CONFIGS["tiny"].train
    config = Config("hundred", sampler, sampler, sampler, modulus=100)
    row = records.example(config, listops.parse("[SUM 70 50 8 ]"))
    assert row["answer"] == 28
    assert all(text.endswith("28") for text in row["explanation"].values())


def test_records_equal_those_of_tfds():
    features = ExplainedListops(config="listops30", data_dir="/nonexistent").info.features
    for tree in candidates(CONFIGS["listops30"], "longer", 0)[:20]:
        example = records.example(CONFIGS["listops30"], tree)
        of_tfds = features.serialize_example(features.encode_example(example))
        assert tf.train.Example.FromString(records.serialize(example)) == tf.train.Example.FromString(of_tfds)


def test_seqio_reads_ordered_and_shuffled(built):
    source = seqio.TfdsDataSource("explained_listops/tiny:1.0.0", tfds_data_dir=str(built))
    expected = expressions(tfds.load("explained_listops/tiny", split="test", data_dir=built))
    assert expressions(source.get_dataset("test", shuffle=False)) == expected
    assert sorted(expressions(source.get_dataset("test", shuffle=True, seed=1))) == sorted(expected)
    assert source.num_input_examples("train") == SIZES["train"]


def test_published_sizes():
    published = [config for config in ExplainedListops.BUILDER_CONFIGS if config.name != "tiny"]  # which is cut above
    sizes = [(config.train_examples, config.eval_examples) for config in published]
    assert sizes == [(98_000, 2_000)] * (len(CONFIGS) - 1)
    assert [config.name for config in ExplainedListops.BUILDER_CONFIGS] == list(CONFIGS)
    default = ListopsConfig(name="any", listops=CONFIGS["tiny"])
    assert (default.train_examples, default.eval_examples) == (98_000, 2_000)


def test_import_loads_no_tensorflow():
    code = "import sys, explainft.data.dataset; print('tensorflow' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert output.stdout == "False\n"
