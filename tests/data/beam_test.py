"""Builds on Apache Beam compared with local ones, on a small problem with many duplicates."""

import importlib.util
from pathlib import Path

import pytest

from explainft import listops
from explainft.core.errors import UserError
from explainft.data import records
from explainft.data.dataset import ExplainedListops
from explainft.data.dataset_build import build
from explainft.listops.configs import Config, candidates
from explainft.listops.sampling import Sampler

pytestmark = [
    pytest.mark.beam,
    pytest.mark.skipif(importlib.util.find_spec("apache_beam") is None, reason="needs the extra `beam`"),
    pytest.mark.filterwarnings("default"),  # of Beam itself
]

SMALL = Config(
    "small",
    train=Sampler(range(3), 4, 8, max_args=3),
    longer=Sampler(range(3), 9, 12, max_args=3),
    larger_numbers=Sampler(range(3, 6), 4, 8, max_args=3),
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Replaces `tiny` by SMALL, in blocks of 256 candidates and with some hundred digests in a bucket."""
    from explainft.data import beam_build

    config = ExplainedListops.builder_configs["tiny"]
    monkeypatch.setattr(config, "listops", SMALL)
    monkeypatch.setattr(config, "train_examples", 900)
    monkeypatch.setattr(config, "eval_examples", 20)
    monkeypatch.setattr(beam_build, "BLOCK", 2)
    monkeypatch.setattr(beam_build, "BUCKET", 300)
    return beam_build


def files(directory) -> dict[str, bytes]:
    root = Path(directory)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_problem_has_many_duplicates():
    texts = [listops.format(tree) for chunk in range(10) for tree in candidates(SMALL, "train", chunk)]
    assert len(set(texts)) < 0.9 * len(texts)


@pytest.mark.parametrize("shards", [1, 7])
def test_bytes_equal_the_local_build(tmp_path, shards):
    local = build("tiny", str(tmp_path / "local"), processes=1, shards=shards)
    on_beam = build("tiny", str(tmp_path / "beam"), shards=shards, beam_pipeline_options="")
    assert files(on_beam) == files(local)
    assert len(files(local)) == 5 * shards + 2


def test_several_worker_processes(tmp_path, monkeypatch, small):
    monkeypatch.undo()  # worker processes have the published numbers
    config = ExplainedListops.builder_configs["tiny"]
    monkeypatch.setattr(config, "train_examples", 300)
    monkeypatch.setattr(config, "eval_examples", 20)
    local = build("tiny", str(tmp_path / "local"), processes=1, shards=3)
    options = "runner=DirectRunner,direct_running_mode=multi_processing,direct_num_workers=2"
    on_beam = build("tiny", str(tmp_path / "beam"), shards=3, beam_pipeline_options=options)
    assert files(on_beam) == files(local)


def test_duplicates_cause_more_blocks_but_none_twice(tmp_path, monkeypatch, small):
    chunks = []

    def keyed_records(config, stream, chunk):
        chunks.append((stream, chunk))
        return records.keyed_records(config, stream, chunk)

    monkeypatch.setattr(small, "needed_blocks", lambda sizes: 3)
    monkeypatch.setattr(small, "keyed_records", keyed_records)
    local = build("tiny", str(tmp_path / "local"), processes=1, shards=2)
    on_beam = build("tiny", str(tmp_path / "beam"), shards=2, beam_pipeline_options="")
    assert files(on_beam) == files(local)
    assert len(chunks) == len(set(chunks))
    assert max(chunk for stream, chunk in chunks if stream == "train") > 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("runner=NoRunner", "'runner=NoRunner': Unexpected pipeline runner: NoRunner"),
        ("direct_num_workers=x", "'direct_num_workers=x': .*argument --direct_num_workers: invalid int value: 'x'"),
    ],
)
def test_invalid_beam_options(tmp_path, options, message):
    with pytest.raises(UserError, match=message) as error:
        build("tiny", str(tmp_path), beam_pipeline_options=options)
    assert "\n" not in error.value.line


def test_download_config_of_tfds_selects_beam(tmp_path, small):
    import tensorflow_datasets as tfds

    builder = ExplainedListops(config="tiny", data_dir=str(tmp_path))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(beam_runner="DirectRunner"))
    assert files(builder.data_path) == files(build("tiny", str(tmp_path / "local"), processes=1))
