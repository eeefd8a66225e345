"""The TFDS dataset `explained_listops`: ListOps expressions, their answers and their explanations in every style.

A build is one pass. Worker processes draw the streams of candidates chunk by chunk and turn each candidate into a
record, both with pure functions; this process takes the chunks in order, drops duplicates, deals the records out to the
splits and writes them. So neither the number of processes nor that of files changes what the dataset holds, or where.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from itertools import chain, count, pairwise
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath, epy
from tensorflow_datasets.core import constants, dataset_builder, naming, splits
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from explainft.errors import UserError, nearest
from explainft.listops.configs import CONFIGS, SPLITS, STREAMS, VERSION, Config, candidates, digest, split_of
from explainft.listops.draw import draw
from explainft.listops.explain import STYLES, explain_in
from explainft.listops.expression import Tree, depth, format, length, operators, parse

with epy.lazy_imports():  # The workers import this module, and do without.
    import tensorflow as tf

EXPLANATIONS = tuple(style for style in STYLES if style != "none")


@dataclasses.dataclass(eq=False, kw_only=True)
class ListopsConfig(tfds.core.BuilderConfig):
    """A TFDS configuration: the problem and how many examples of it to keep."""

    listops: Config
    train_examples: int = 98_000
    eval_examples: int = 2_000  # in each of the other splits


class ExplainedListops(dataset_builder.FileReaderBuilder):
    """`explained_listops/<config>`; `num_shards` of TFDS's DownloadConfig is the number of files of each split.

    One file is the default: TFDS reads several files interleaved, so only one is read in the order of the stream
    without further settings (with several, `tfds.ReadConfig(interleave_cycle_length=1)` does it).
    """

    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES = {"1.0.0": "The first version."}
    BUILDER_CONFIGS = [ListopsConfig(name=name, listops=config) for name, config in CONFIGS.items()]

    url_infos = None  # Nothing is downloaded, so TFDS need not look for checksums.
    processes: int | None = None  # None: one for each core

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
        config = self.config
        sizes = {split: config.train_examples if split == "train" else config.eval_examples for split in SPLITS}
        shards = (download_config and download_config.num_shards) or 1
        filenames = self._get_filename_template
        writers = {split: SplitWriter(filenames(split), size, shards) for split, size in sizes.items()}
        # A bar with examples/s and the time left; nothing where the standard error is no terminal.
        bar = tqdm(total=sum(sizes.values()), desc=config.name, unit=" examples", disable=None)
        with workers(self.processes or available_cores()) as run, bar:
            for stream, members in STREAMS.items():
                keyed = chain.from_iterable(run(partial(keyed_records, config.listops, stream), count()))
                for split, data in deal(stream, {member: sizes[member] for member in members}, keyed):
                    writers[split].write(data)
                    bar.update()
        self.info.set_splits(splits.SplitDict([writer.info() for writer in writers.values()]))

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
        self.n_bytes = 0
        self._files = iter(range(shards))
        self._file = None
        self._room = 0  # records that the open file still takes

    def write(self, data: bytes) -> None:
        if self._file is None:
            shard = next(self._files)
            path = self.filenames.sharded_filepath(shard_index=shard, num_shards=len(self.shard_lengths))
            self._file = tf.io.TFRecordWriter(os.fspath(path))
            self._room = self.shard_lengths[shard]
        self._file.write(data)
        self.n_bytes += len(data)
        self._room -= 1
        if not self._room:
            self._file.close()
            self._file = None

    def info(self) -> tfds.core.SplitInfo:
        assert self.filenames.split
        return tfds.core.SplitInfo(
            name=self.filenames.split,
            shard_lengths=self.shard_lengths,
            num_bytes=self.n_bytes,
            filename_template=self.filenames,
        )


def deal(stream: str, sizes: dict[str, int], keyed: Iterable[tuple[int, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yields the split of each record: the first `sizes` of the stream that are the split's own and no duplicates."""
    missing = dict(sizes)
    seen: set[int] = set()
    for key, data in keyed:
        split = split_of(stream, key)
        if missing[split] and key not in seen:
            seen.add(key)
            missing[split] -= 1
            yield split, data
        if not any(missing.values()):
            return


def keyed_records(config: Config, stream: str, chunk: int) -> list[tuple[int, bytes]]:
    """The digest and the record of every candidate of a chunk."""
    examples = [example(config, tree) for tree in candidates(config, stream, chunk)]
    return [(digest(features["expression"]), serialize(features)) for features in examples]


def example(config: Config, tree: Tree) -> dict[str, Any]:
    """The features of one expression, as TFDS nests them."""
    answer, *explanations = explain_in(tree, ("none", *EXPLANATIONS), config.modulus).values()
    return {
        "expression": format(tree),
        "answer": int(answer),
        "explanation": dict(zip(EXPLANATIONS, explanations, strict=True)),
        "length": length(tree),
        "depth": depth(tree),
        "operators": " ".join(operators(tree)),
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


@contextlib.contextmanager
def workers(processes: int) -> Iterator[Callable[..., Iterable]]:
    """Yields a lazy `map` over that many processes, in order; the built-in one where a single process is asked for."""
    if processes == 1:
        yield map
        return
    # Fresh interpreters: TensorFlow's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, end_with_parent) as pool:
        try:
            yield partial(map_in_order, pool, 2 * processes)
        finally:
            pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Leaves an interrupt to the parent, and ends this worker with it even where it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait():
        parent.join()
        os._exit(1)  # The main thread would wait for work for ever.

    threading.Thread(target=wait, daemon=True).start()


def map_in_order(pool: Executor, ahead: int, function: Callable, arguments: Iterable) -> Iterator:
    """`pool.map` for endless arguments: it is never more than `ahead` calls ahead of what is taken from it."""
    calls = deque()
    try:
        for argument in arguments:
            calls.append(pool.submit(function, argument))
            if len(calls) > ahead:
                yield calls.popleft().result()
        while calls:
            yield calls.popleft().result()
    finally:
        for call in calls:
            call.cancel()


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build(config: str, data_dir: str | None, processes: int | None = None, shards: int | None = None) -> epath.Path:
    """Builds a configuration under `data_dir` (None: TFDS's own) unless it is there; returns its folder.

    Takes one process for each core and writes one file for each split unless told otherwise. The folder appears when it
    is complete. Raises UserError for an unknown config, a number below 1 or a folder that cannot be written.
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
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=shards))
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        where = getattr(error, "filename", None) or data_dir or constants.DATA_DIR
        raise UserError(
            f"cannot write the dataset to {where}: {reason}; choose another folder with --tfds_data_dir"
        ) from error
    return builder.data_path


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
    return "\n\n".join(_page(f"{config}/{split} {index}", CONFIGS[config], row) for index, row in enumerate(rows))


def _page(title: str, config: Config, row: dict[str, Any]) -> str:
    expression = row["expression"].decode()
    facts = ", ".join(f"{name} {row[name]}" for name in ("answer", "length", "depth"))
    explanations = [f"{style}:\n{row['explanation'][style].decode()}" for style in EXPLANATIONS]
    return "\n".join([f"--- {title}: {facts}", expression, *explanations, draw(parse(expression), config.modulus)])


def build_command(config: str, data_dir: str | None) -> str:
    """The command line that builds a configuration."""
    return f"explainft data build --config {config}" + (f" --tfds_data_dir {data_dir}" if data_dir else "")


def known_config(config: str) -> None:
    if config not in CONFIGS:
        raise UserError(f"unknown config {config!r}{nearest(config, CONFIGS)}")
