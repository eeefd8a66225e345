"""The TFDS dataset `explained_listops`: ListOps expressions, their answers and their explanations in every style.

A build is one pass. Worker processes sample the streams of candidates chunk by chunk and turn each candidate into a
record, both with pure functions. This process takes the chunks in order, drops duplicates, assigns the records to the
splits and writes them. So the content does not depend on the number of processes or files. beam_build.py writes the
same files on Apache Beam.
"""

import contextlib
import dataclasses
import functools
import os
from functools import partial
from itertools import chain, count, pairwise
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epy
from tensorflow_datasets.core import dataset_builder, naming, splits
from tqdm import tqdm

from explainft.core.errors import UserError, nearest
from explainft.core.process_pool import available_cores, process_pool
from explainft.data.records import EXPLANATIONS, keyed_records
from explainft.data.splits import assign_splits
from explainft.listops.configs import CONFIGS, SPLITS, STREAMS, VERSION, Config

with epy.lazy_imports():  # worker processes import this module, and need no TensorFlow
    import tensorflow as tf

FRAMING = 16  # bytes of a TFRecord file for each record, beside its own


@dataclasses.dataclass(eq=False, kw_only=True)
class ListopsConfig(tfds.core.BuilderConfig):
    """A TFDS config: the problem and the number of examples of each split."""

    listops: Config
    train_examples: int = 98_000
    eval_examples: int = 2_000  # in each of the other splits

    def sizes(self) -> dict[str, int]:
        """Returns the number of examples of each split."""
        return {split: self.train_examples if split == "train" else self.eval_examples for split in SPLITS}


class ExplainedListops(dataset_builder.FileReaderBuilder):
    """`explained_listops/<config>`; `num_shards` of TFDS's DownloadConfig is the number of files of each split.

    `<config>-<n>` has the first n training examples of the same stream. One file a split is the default, because TFDS
    interleaves several; `tfds.ReadConfig(interleave_cycle_length=1)` reads them in the order of the stream.
    """

    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES = {"1.0.0": "The first version."}
    BUILDER_CONFIGS = [ListopsConfig(name=name, listops=config) for name, config in CONFIGS.items()]

    url_infos = None  # nothing is downloaded, so there is nothing to verify
    processes: int | None = None  # None: one for each core

    @classmethod
    def get_builder_config(cls, name: str, version: Any = None) -> tfds.core.BuilderConfig | None:
        return super().get_builder_config(name, version) or sized_config(name)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="ListOps expressions with their answers and step by step explanations in three styles.",
            homepage="https://arxiv.org/abs/2402.07543",
            features=tfds.features.FeaturesDict(
                {
                    "expression": tfds.features.Text(doc="Bracket form: [MAX 2 9 [MIN 4 7 ] 0 ]"),
                    "answer": tfds.features.Scalar(np.int64),
                    "explanation": {style: tfds.features.Text() for style in EXPLANATIONS},
                    "length": tfds.features.Scalar(np.int64, doc="An operator with its bracket counts 2, a value 1."),
                    "depth": tfds.features.Scalar(np.int64, doc="Operators on the longest path from the root."),
                    "operators": tfds.features.Text(
                        doc="Names joined by blanks, in the order of the explanation's lines; the last is the root's."
                    ),
                }
            ),
        )

    @property
    def config(self) -> ListopsConfig:
        assert isinstance(self.builder_config, ListopsConfig)
        return self.builder_config

    def _download_and_prepare(self, dl_manager, download_config=None):
        """Writes all splits. TFDS calls this with a temporary directory, which it renames at the end."""
        del dl_manager
        download_config = download_config or tfds.download.DownloadConfig()
        shards = download_config.num_shards or 1
        sizes = self.config.sizes()
        writers = {split: SplitWriter(self._get_filename_template(split), sizes[split], shards) for split in SPLITS}
        if download_config.beam_options is None and download_config.beam_runner is None:
            self._write(writers)
        else:
            self._write_on_beam(writers, download_config)
        self.info.set_splits(splits.SplitDict([writer.info() for writer in writers.values()]))

    def _write(self, writers: dict[str, "SplitWriter"]) -> None:
        listops, sizes = self.config.listops, self.config.sizes()
        # disable=None: no bar where standard error is not a terminal
        bar = tqdm(total=sum(sizes.values()), desc=self.config.name, unit=" examples", disable=None)
        processes = self.processes or available_cores()
        with bar, process_pool(processes) if processes > 1 else contextlib.nullcontext(map) as run:
            for stream, members in STREAMS.items():
                keyed = chain.from_iterable(run(partial(keyed_records, listops, stream), count()))
                for split, data in assign_splits(stream, {member: sizes[member] for member in members}, keyed):
                    writers[split].write(data)
                    bar.update()

    def _write_on_beam(self, writers: dict[str, "SplitWriter"], download_config: tfds.download.DownloadConfig) -> None:
        from explainft.data import beam_build

        files = {split: list(zip(writer.paths, writer.shard_lengths, strict=True)) for split, writer in writers.items()}
        beam_build.write(
            self.config.listops,
            files,
            self.data_path / "scratch",
            download_config.beam_runner,
            download_config.beam_options,
        )

    def _log_download_bytes(self):
        """Prints nothing, where TFDS would print a line about a download: there is none."""

    def _log_download_done(self):
        """See `_log_download_bytes`."""


class SplitWriter:
    """Writes the `size` records of one split, in order, into `shards` TFRecord files of nearly equal size."""

    def __init__(self, filenames: naming.ShardedFileTemplate, size: int, shards: int):
        self.filenames = filenames
        ends = [round(size * shard / shards) for shard in range(shards + 1)]
        self.shard_lengths = [end - start for start, end in pairwise(ends)]
        self.paths = [
            os.fspath(filenames.sharded_filepath(shard_index=shard, num_shards=shards)) for shard in range(shards)
        ]
        self._shards = zip(self.paths, self.shard_lengths, strict=True)
        self._file = None
        self._room = 0  # number of records that the open file still takes

    def write(self, data: bytes) -> None:
        if self._file is None:
            path, self._room = next(self._shards)
            self._file = tf.io.TFRecordWriter(path)
        self._file.write(data)
        self._room -= 1
        if not self._room:
            self._file.close()
            self._file = None

    def info(self) -> tfds.core.SplitInfo:
        """Returns the split's sizes from the files. TFDS counts their bytes without the framing of each record."""
        assert self.filenames.split
        return tfds.core.SplitInfo(
            name=self.filenames.split,
            shard_lengths=self.shard_lengths,
            num_bytes=sum(tf.io.gfile.stat(path).length for path in self.paths) - FRAMING * sum(self.shard_lengths),
            filename_template=self.filenames,
        )


@functools.cache  # TFDS requires one object for one name
def sized_config(name: str) -> tfds.core.BuilderConfig | None:
    """Returns the config `<published name>-<n>` with n training examples, None for any other name."""
    published, _, n = name.rpartition("-")
    if published not in CONFIGS or not (n.isascii() and n.isdecimal()) or n.startswith("0"):
        return None
    return dataclasses.replace(ExplainedListops.builder_configs[published], name=name, train_examples=int(n))


def require_config(config: str) -> None:
    """Raises UserError for the name of a config that does not exist."""
    if ExplainedListops.get_builder_config(config) is None:
        raise UserError(f"unknown config {config!r}{nearest(config, CONFIGS)}")
