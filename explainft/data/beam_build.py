"""Builds a dataset on Apache Beam: the same files, byte for byte, as the local build writes.

There are two pipelines. The first creates the records of the streams block by block, writes them to scratch files and
finds the duplicates: workers exchange only the records' digests, and each compares one bucket of digests. The driver
then counts the remaining records of each block, which gives the blocks of each file. The second pipeline writes the
files, each from the scratch files of its blocks. No process holds more than a bucket, a block or the counts of blocks.
"""

import contextlib
import dataclasses
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from math import ceil, sqrt
from typing import Any

import apache_beam as beam  # pyright: ignore[reportMissingImports] (the extra `beam`)
import numpy as np
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]
from etils import epath

from explainft.core.atomic_files import atomic_write
from explainft.core.errors import UserError
from explainft.data.records import keyed_records
from explainft.listops.configs import CHUNK, PROPORTIONS, SPLITS, STREAMS, Config, split_of

BLOCK = 64  # chunks of records in one scratch file: about 10 MB
BUCKET = 2**20  # digests that one worker compares: 16 MB
INDEX_BITS = 32  # of a position: above them the block, below the index in the block's scratch file


@dataclasses.dataclass(frozen=True)
class Scratch:
    """The blocks' files between the pipelines."""

    directory: epath.Path  # shared by all workers
    config: Config

    def path(self, split: str, block: int, kind: str) -> epath.Path:
        return self.directory / f"{split}-{block:08d}.{kind}"


def pipeline_options(options: str) -> PipelineOptions:
    """Parses "name=value,name=value" as TFDS does. Raises UserError where Beam rejects them."""
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            parsed = PipelineOptions([f"--{option}" for option in options.split(",") if option])
            parsed.get_all_options()  # Beam parses them only now
            beam.Pipeline(options=parsed)
    except (SystemExit, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else message.getvalue().splitlines()[-1]
        raise UserError(f"beam_pipeline_options={options!r}: {reason}") from error
    return parsed


def write(
    config: Config,
    files: dict[str, list[tuple[str, int]]],
    directory: epath.Path,
    runner: Any = None,
    options: PipelineOptions | None = None,
) -> None:
    """Writes the splits of a config to `files`: the path and number of records of each.

    `directory` is created for scratch files and removed at the end. `runner` and `options` are those of beam.Pipeline.
    """
    sizes = {split: sum(n for _, n in shards) for split, shards in files.items()}
    scratch = Scratch(directory, config)
    directory.mkdir()
    blocks = {stream: needed_blocks({split: sizes[split] for split in STREAMS[stream]}) for stream in STREAMS}
    while True:
        found = directory / f"found-{uuid.uuid4().hex}"
        with beam.Pipeline(runner, options) as first:
            _ = find_duplicates(first, scratch, blocks) | "write" >> beam.io.WriteToText(os.fspath(found))
        unique = Unique(found)
        short = {stream for stream in STREAMS if any(unique.total(split) < sizes[split] for split in STREAMS[stream])}
        if not short:
            break
        # Rare: more duplicates than expected. Existing blocks are reused.
        blocks = {stream: ceil(1.2 * n) if stream in short else n for stream, n in blocks.items()}
    plans = list(write_plans(directory, unique, files))
    with beam.Pipeline(runner, options) as second:
        _ = second | beam.Create(plans) | beam.Reshuffle() | beam.Map(write_file, scratch)
    directory.rmtree()


def needed_blocks(sizes: dict[str, int]) -> int:
    """Returns a number of blocks that nearly always holds enough of each split, whose fractions vary by chance."""
    candidates = max(
        size * sum(PROPORTIONS[member] for member in sizes) / PROPORTIONS[split] * (1.02 + 4 / sqrt(size))
        for split, size in sizes.items()
    )
    return ceil(candidates / (BLOCK * CHUNK))


def find_duplicates(pipeline: Any, scratch: Scratch, blocks: dict[str, int]) -> Any:
    """Returns JSON lines: the number of records of each split's block, and the indices of duplicates."""
    buckets = {stream: ceil(n * BLOCK * CHUNK / BUCKET) for stream, n in blocks.items()}
    created = (
        pipeline
        | beam.Create([(stream, block) for stream, n in blocks.items() for block in range(n)])
        | beam.Reshuffle()
        | beam.FlatMap(make_block, scratch, buckets).with_outputs("counts", main="digests")
    )
    repeated = created["digests"] | "by bucket" >> beam.GroupByKey() | beam.FlatMap(yield_duplicates)
    return (
        {"records": created["counts"], "repeats": repeated}
        | beam.CoGroupByKey()
        | beam.MapTuple(lambda key, found: json.dumps([*key, found["records"][0], sorted(found["repeats"])]))
    )


def make_block(key: tuple[str, int], scratch: Scratch, buckets: dict[str, int]) -> Iterator[Any]:
    """Writes the records of a block, a file for each split, unless they exist, and yields their digests by bucket."""
    stream, block = key
    digest_files = {split: scratch.path(split, block, "digests") for split in STREAMS[stream]}
    if not all(path.exists() for path in digest_files.values()):
        _write_block(stream, block, scratch)
    for split, path in digest_files.items():
        digests = np.frombuffer(path.read_bytes(), "<u8")
        yield beam.pvalue.TaggedOutput("counts", ((split, block), len(digests)))
        positions = np.uint64(block << INDEX_BITS) + np.arange(len(digests), dtype="<u8")
        bucket_of = digests % np.uint64(buckets[stream])
        for bucket in np.unique(bucket_of).tolist():
            inside = bucket_of == bucket
            yield (split, bucket), (digests[inside].tobytes(), positions[inside].tobytes())


def _write_block(stream: str, block: int, scratch: Scratch) -> None:
    digests: dict[str, list[int]] = {split: [] for split in STREAMS[stream]}
    records: dict[str, list[bytes]] = {split: [] for split in STREAMS[stream]}
    for chunk in range(block * BLOCK, (block + 1) * BLOCK):
        for digest, record in keyed_records(scratch.config, stream, chunk):
            split = split_of(stream, digest)
            digests[split].append(digest)
            records[split].append(record)
    for split in STREAMS[stream]:
        _write_records(scratch.path(split, block, "tfrecord"), records[split])
    for split in STREAMS[stream]:  # last: their existence implies that of the records
        with atomic_write(scratch.path(split, block, "digests")) as path:
            path.write_bytes(np.array(digests[split], "<u8").tobytes())


def yield_duplicates(
    bucket: tuple[tuple[str, int], Iterable[tuple[bytes, bytes]]],
) -> Iterator[tuple[tuple[str, int], int]]:
    """Yields the block and index of every record of a bucket except the first of each digest."""
    (split, _), pairs = bucket
    pairs = list(pairs)
    digests, positions = (np.frombuffer(b"".join(column), "<u8") for column in zip(*pairs, strict=True))
    order = np.lexsort([positions, digests])
    duplicate = np.diff(digests[order]) == 0
    for position in positions[order][1:][duplicate].tolist():
        yield (split, position >> INDEX_BITS), position % (1 << INDEX_BITS)


class Unique:
    """The result of the first pipeline: for each split's blocks the number of records and the indices of duplicates."""

    def __init__(self, prefix: epath.Path):
        self.repeats: dict[str, dict[int, list[int]]] = {split: {} for split in SPLITS}
        counts: dict[str, dict[int, int]] = {split: {} for split in SPLITS}
        for path in prefix.parent.glob(f"{prefix.name}*"):
            with path.open() as lines:
                for line in lines:
                    split, block, n, duplicates = json.loads(line)
                    counts[split][block] = n - len(duplicates)
                    if duplicates:
                        self.repeats[split][block] = duplicates
        # The number of a split's records before each block, and at the end the total.
        self.before = {
            split: np.cumsum([0, *(counts[split][block] for block in range(len(counts[split])))]) for split in SPLITS
        }

    def total(self, split: str) -> int:
        return int(self.before[split][-1])


def write_plans(directory: epath.Path, unique: Unique, files: dict[str, list[tuple[str, int]]]) -> Iterator[str]:
    """Writes a plan for every file of the dataset, its blocks and records, and yields the plans' paths."""
    for split, shards in files.items():
        before, start = unique.before[split], 0
        for shard, (path, n) in enumerate(shards):
            first = int(np.searchsorted(before, start, side="right")) - 1
            end = int(np.searchsorted(before, start + n, side="left"))
            blocks = [(block, unique.repeats[split].get(block, [])) for block in range(first, end)]
            plan = {"split": split, "path": path, "skip": start - int(before[first]), "records": n, "blocks": blocks}
            plan_path = directory / f"plan-{split}-{shard:05d}.json"
            plan_path.write_text(json.dumps(plan))
            yield os.fspath(plan_path)
            start += n


def write_file(plan_path: str, scratch: Scratch) -> None:
    """Writes one file of the dataset."""
    plan = json.loads(epath.Path(plan_path).read_text())

    def kept() -> Iterator[Any]:
        for block, duplicates in plan["blocks"]:
            duplicates = set(duplicates)
            path = scratch.path(plan["split"], block, "tfrecord")
            for index, record in enumerate(tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator()):
                if index not in duplicates:
                    yield record

    _write_records(epath.Path(plan["path"]), islice(kept(), plan["skip"], plan["skip"] + plan["records"]))


def _write_records(path: epath.Path, records: Iterable[bytes]) -> None:
    with atomic_write(path) as scratch, tf.io.TFRecordWriter(os.fspath(scratch)) as file:
        for record in records:
            file.write(record)
