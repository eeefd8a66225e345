"""The TFDS dataset `explained_listops`: ListOps expressions, their answers and their explanations in every style.

A build is one pass. Worker processes draw the streams of candidates chunk by chunk and turn each candidate into a
record, both with pure functions; this process takes the chunks in order, drops duplicates, deals the records out to the
splits and writes them. So neither the number of processes nor that of files changes what the dataset holds, or where.
beam_build.py writes the same files from an Apache Beam pipeline.
"""

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, count, pairwise
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath, epy
from tensorflow_datasets.core import constants, dataset_builder, naming, splits
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from explainft.core.errors import UserError, nearest
from explainft.core.process_pool import WorkerDied, available_cores, process_pool
from explainft.listops.configs import CONFIGS, SPLITS, STREAMS, VERSION, Config, candidates, digest, split_of
from explainft.listops.explain import STYLES, explain_applied
from explainft.listops.expression import Node, applications, depth, format, parse
from explainft.listops.render import render_tree

with epy.lazy_imports():  # The workers import this module, and do without.
    import tensorflow as tf

FRAMING = 16  # bytes that a TFRecord file spends on each record beside its own
EXPLANATIONS = tuple(style for style in STYLES if style != "none")


@dataclasses.dataclass(eq=False, kw_only=True)
class ListopsConfig(tfds.core.BuilderConfig):
    """A TFDS configuration: the problem and how many examples of it to keep."""

    listops: Config
    train_examples: int = 98_000
    eval_examples: int = 2_000  # in each of the other splits

    def sizes(self) -> dict[str, int]:
        """The number of examples of each split."""
        return {split: self.train_examples if split == "train" else self.eval_examples for split in SPLITS}


class ExplainedListops(dataset_builder.FileReaderBuilder):
    """`explained_listops/<config>`; `num_shards` of TFDS's DownloadConfig is the number of files of each split.

    `<config>-<n>` is the same with n training examples: the config's own and those that follow them, or the first n.
    One file is the default: TFDS reads several files interleaved, so only one is read in the order of the stream
    without further settings (with several, `tfds.ReadConfig(interleave_cycle_length=1)` does it).
    """

    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES = {"1.0.0": "The first version."}
    BUILDER_CONFIGS = [ListopsConfig(name=name, listops=config) for name, config in CONFIGS.items()]

    url_infos = None  # Nothing is downloaded, so TFDS need not look for checksums.
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
        """Writes all splits; TFDS calls this on a temporary folder, which it renames when all is done."""
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
        # A bar with examples/s and the time left; nothing where the standard error is no terminal.
        bar = tqdm(total=sum(sizes.values()), desc=self.config.name, unit=" examples", disable=None)
        processes = self.processes or available_cores()
        with bar, process_pool(processes) if processes > 1 else contextlib.nullcontext(map) as run:
            for stream, members in STREAMS.items():
                keyed = chain.from_iterable(run(partial(keyed_records, listops, stream), count()))
                for split, data in deal(stream, {member: sizes[member] for member in members}, keyed):
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
        """Says nothing of a download on the standard output, as TFDS would: there is none."""

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
        self._room = 0  # records that the open file still takes

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
        """Of the files as they are; TFDS counts their bytes without the framing of each record."""
        assert self.filenames.split
        return tfds.core.SplitInfo(
            name=self.filenames.split,
            shard_lengths=self.shard_lengths,
            num_bytes=sum(tf.io.gfile.stat(path).length for path in self.paths) - FRAMING * sum(self.shard_lengths),
            filename_template=self.filenames,
        )


def deal(stream: str, sizes: dict[str, int], keyed: Iterable[tuple[int, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yields the split of each record: the first `sizes` of the stream that are the split's own and no duplicates."""
    missing = dict(sizes)
    seen = DigestSet()
    for key, data in keyed:
        split = split_of(stream, key)
        if missing[split] and seen.add(key):
            missing[split] -= 1
            yield split, data
        if not any(missing.values()):
            return


class DigestSet:
    """A set of 64-bit digests at 8 bytes each, where Python's takes about 100: a sorted array, and the newest apart."""

    NEWEST = 2**18

    def __init__(self):
        self._sorted = np.empty(0, np.uint64)
        self._newest: set[int] = set()

    def add(self, digest: int) -> bool:
        """Whether it is new."""
        if digest in self._newest:
            return False
        place = self._sorted.searchsorted(np.uint64(digest))
        if place < len(self._sorted) and self._sorted[place] == digest:
            return False
        self._newest.add(digest)
        if len(self._newest) == self.NEWEST:
            self._sorted = np.concatenate([self._sorted, np.fromiter(self._newest, np.uint64, self.NEWEST)])
            self._sorted.sort()
            self._newest.clear()
        return True


def keyed_records(config: Config, stream: str, chunk: int) -> list[tuple[int, bytes]]:
    """The digest and the record of every candidate of a chunk."""
    examples = [example(config, tree) for tree in candidates(config, stream, chunk)]
    return [(digest(features["expression"]), serialize(features)) for features in examples]


def example(config: Config, tree: Node) -> dict[str, Any]:
    """The features of one expression, as TFDS nests them."""
    applied = list(applications(tree, config.modulus))
    _, _, answer = applied[-1]
    expression = format(tree)
    return {
        "expression": expression,
        "answer": answer,
        "explanation": {style: explain_applied(applied, answer, style) for style in EXPLANATIONS},
        "length": len(expression.split()),
        "depth": depth(tree),
        "operators": " ".join([operator for operator, _, _ in applied]),
    }


def serialize(features: dict[str, Any]) -> bytes:
    """A tf.train.Example as TFDS would write it, but always the same bytes: protobuf promises no order unasked.

    (And several times faster: TFDS's serialiser goes through numpy arrays.)
    """
    flat = features | {f"explanation/{style}": text for style, text in features["explanation"].items()}
    del flat["explanation"]
    proto = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue] (made when it is imported)
    for name, value in flat.items():
        if isinstance(value, int):
            proto.features.feature[name].int64_list.value.append(value)
        else:
            proto.features.feature[name].bytes_list.value.append(value.encode())
    return proto.SerializeToString(deterministic=True)


def build(
    config: str,
    data_dir: str | None,
    processes: int | None = None,
    shards: int | None = None,
    beam_pipeline_options: str | None = None,
) -> epath.Path:
    """Builds a configuration under `data_dir` (None: TFDS's own) unless it is there; returns its folder.

    Takes one process for each core and writes one file for each split unless told otherwise. With
    `beam_pipeline_options`, "runner=DirectRunner,direct_num_workers=4" or just "", Apache Beam does the work. The
    folder appears when it is complete. Raises UserError for an unknown config or option, a number below 1 or a folder
    that cannot be written.
    """
    for name, number in (("processes", processes), ("shards", shards)):
        if number is not None and number < 1:
            raise UserError(f"{name}={number} must be at least 1")
    known_config(config)
    try:
        builder = ExplainedListops(config=config, data_dir=data_dir)
        if builder.data_path.exists():
            if not builder.is_prepared():
                raise UserError(f"{builder.data_path} is there but holds no dataset; remove it and build again")
            print(f"{builder.data_path} is already built", file=sys.stderr)
            return builder.data_path
        smallest = min(builder.config.train_examples, builder.config.eval_examples)
        if shards is not None and shards > smallest:
            raise UserError(f"shards={shards} must be at most {smallest}, the examples of the smallest split")
        builder.processes = processes
        options = None if beam_pipeline_options is None else _beam_options(beam_pipeline_options, processes)
        try:
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(num_shards=shards, beam_options=options)
            )
        except (OSError, tf.errors.OpError):
            # Another build may have put its folder there in the meantime: the content is the same.
            if not ExplainedListops(config=config, data_dir=data_dir).is_prepared():
                raise
    except WorkerDied as error:
        raise UserError(
            f"one of {processes or available_cores()} worker processes was killed, perhaps for want of memory; give "
            "the same command again, with fewer of them: --processes"
        ) from error
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        where = getattr(error, "filename", None) or data_dir or constants.DATA_DIR
        raise UserError(
            f"cannot write the dataset to {where}: {reason}; choose another folder with --tfds_data_dir"
        ) from error
    return builder.data_path


def _beam_options(options: str, processes: int | None) -> Any:
    if processes is not None:
        raise UserError(
            f"processes={processes} is for a build without Beam; give the runner's own, direct_num_workers=N"
        )
    try:
        from explainft.data import beam_build
    except ModuleNotFoundError as error:
        raise UserError(f"a build on Beam needs {error.name}; run: pip install 'explainft[beam]'") from error
    return beam_build.pipeline_options(options)


def show(config: str, split: str, n: int, data_dir: str | None) -> str:
    """The first n examples of a split, each as its fields, its explanations and a drawn tree.

    Raises UserError for an unknown config or split, or where the dataset is not built.
    """
    known_config(config)
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}{nearest(split, SPLITS)}")
    if n < 1:
        raise UserError(f"n={n} must be at least 1")
    builder = ExplainedListops(config=config, data_dir=data_dir)
    if not (builder.data_path.exists() and builder.is_prepared()):
        raise UserError(f"{config} is not built in {builder.data_dir_root}; run: {build_command(config, data_dir)}")
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    examples = builder.as_dataset(split=split, read_config=in_order)  # pyright: ignore[reportCallIssue] (decorated)
    rows = tfds.as_numpy(examples.take(n))
    return "\n\n".join(
        _page(f"{config}/{split} {index}", builder.config.listops, row) for index, row in enumerate(rows)
    )


def _page(title: str, config: Config, row: dict[str, Any]) -> str:
    expression = row["expression"].decode()
    facts = ", ".join(f"{name} {row[name]}" for name in ("answer", "length", "depth"))
    explanations = [f"{style}:\n{row['explanation'][style].decode()}" for style in EXPLANATIONS]
    return "\n".join(
        [f"--- {title}: {facts}", expression, *explanations, render_tree(parse(expression), config.modulus)]
    )


def build_command(config: str, data_dir: str | None) -> str:
    """The command line that builds a configuration."""
    return f"explainft data build --config {config}" + (f" --tfds_data_dir {data_dir}" if data_dir else "")


@functools.cache  # TFDS wants one name to be one object
def sized_config(name: str) -> tfds.core.BuilderConfig | None:
    """The config `<published name>-<n>` with n training examples; None for any other name."""
    published, _, n = name.rpartition("-")
    if published not in CONFIGS or not (n.isascii() and n.isdecimal()) or n.startswith("0"):
        return None
    return dataclasses.replace(ExplainedListops.builder_configs[published], name=name, train_examples=int(n))


def known_config(config: str) -> None:
    if ExplainedListops.get_builder_config(config) is None:
        raise UserError(f"unknown config {config!r}{nearest(config, CONFIGS)}")
