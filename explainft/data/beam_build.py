"""Builds a dataset on Apache Beam: the same files, byte for byte, as the local build writes.

Two pipelines with a sum between them. The first makes the records of the streams block by block, writes them to scratch
files and finds the duplicates: of a record only its digest travels, and each worker compares one bucket of digests. Its
results tell the driver how many records of each block remain, so which stand in which file. The second pipeline writes
the files, each from the scratch files of its blocks. No process holds more than a bucket, a block or the numbers of
blocks.
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
from explainft.listops.configs import CHUNK, SHARES, SPLITS, STREAMS, Config, split_of

BLOCK = 64  # chunks whose records are made and kept together: about 10 MB
BUCKET = 2**20  # digests that are compared in one place: 16 MB
INDEX_BITS = 32  # of a position: the block above them, the place in the block's scratch file below


@dataclasses.dataclass(frozen=True)
class Scratch:
    """Where blocks lie between the pipelines."""

    folder: epath.Path  # one that every worker reaches
    config: Config

    def path(self, split: str, block: int, kind: str) -> epath.Path:
        return self.folder / f"{split}-{block:08d}.{kind}"


def pipeline_options(options: str) -> PipelineOptions:
    """Of "name=value,name=value", as TFDS reads them. Raises UserError where Beam does not take them."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = PipelineOptions([f"--{option}" for option in options.split(",") if option])
            parsed.get_all_options()  # it reads them only now
            beam.Pipeline(options=parsed)
    except (SystemExit, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else complaint.getvalue().splitlines()[-1]
        raise UserError(f"beam_pipeline_options={options!r}: {reason}") from error
    return parsed


def write(
    config: Config,
    files: dict[str, list[tuple[str, int]]],
    folder: epath.Path,
    runner: Any = None,
    options: PipelineOptions | None = None,
) -> None:
    """Writes the splits of a config into `files`: path and number of records of each.

    The folder is for scratch files: it is made, and removed in the end. Runner and options are beam.Pipeline's.
    """
    sizes = {split: sum(n for _, n in shards) for split, shards in files.items()}
    scratch = Scratch(folder, config)
    folder.mkdir()
    blocks = {stream: needed_blocks({split: sizes[split] for split in STREAMS[stream]}) for stream in STREAMS}
    while True:
        found = folder / f"found-{uuid.uuid4().hex}"
        with beam.Pipeline(runner, options) as first:
            _ = find_repeats(first, scratch, blocks) | "write" >> beam.io.WriteToText(os.fspath(found))
        unique = Unique(found)
        short = {stream for stream in STREAMS if any(unique.total(split) < sizes[split] for split in STREAMS[stream])}
        if not short:
            break
        # Seldom: more repeats than expected. Only the blocks that are new are made.
        blocks = {stream: ceil(1.2 * n) if stream in short else n for stream, n in blocks.items()}
    plans = list(write_plans(folder, unique, files))
    with beam.Pipeline(runner, options) as second:
        _ = second | beam.Create(plans) | beam.Reshuffle() | beam.Map(write_file, scratch)
    folder.rmtree()


def needed_blocks(sizes: dict[str, int]) -> int:
    """Blocks of a stream that nearly always hold enough of each of its splits, whose parts vary by chance."""
    candidates = max(
        size * sum(SHARES[member] for member in sizes) / SHARES[split] * (1.02 + 4 / sqrt(size))
        for split, size in sizes.items()
    )
    return ceil(candidates / (BLOCK * CHUNK))


def find_repeats(pipeline: Any, scratch: Scratch, blocks: dict[str, int]) -> Any:
    """JSON lines: for each block of each split how many records its scratch file holds, and which repeat others."""
    buckets = {stream: ceil(n * BLOCK * CHUNK / BUCKET) for stream, n in blocks.items()}
    made = (
        pipeline
        | beam.Create([(stream, block) for stream, n in blocks.items() for block in range(n)])
        | beam.Reshuffle()
        | beam.FlatMap(make_block, scratch, buckets).with_outputs("counts", main="digests")
    )
    repeated = made["digests"] | "by bucket" >> beam.GroupByKey() | beam.FlatMap(repeats)
    return (
        {"records": made["counts"], "repeats": repeated}
        | beam.CoGroupByKey()
        | beam.MapTuple(lambda key, found: json.dumps([*key, found["records"][0], sorted(found["repeats"])]))
    )


def make_block(place: tuple[str, int], scratch: Scratch, buckets: dict[str, int]) -> Iterator[Any]:
    """Writes the records of a block, a file for each split, unless they are there; yields their digests by bucket."""
    stream, block = place
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
    for split in STREAMS[stream]:  # last: where they are, the records are
        with atomic_write(scratch.path(split, block, "digests")) as path:
            path.write_bytes(np.array(digests[split], "<u8").tobytes())


def repeats(bucket: tuple[tuple[str, int], Iterable[tuple[bytes, bytes]]]) -> Iterator[tuple[tuple[str, int], int]]:
    """The block and the place in it of every record of a bucket but the first of each digest."""
    (split, _), pairs = bucket
    pairs = list(pairs)
    digests, positions = (np.frombuffer(b"".join(column), "<u8") for column in zip(*pairs, strict=True))
    order = np.lexsort([positions, digests])
    again = np.diff(digests[order]) == 0
    for position in positions[order][1:][again].tolist():
        yield (split, position >> INDEX_BITS), position % (1 << INDEX_BITS)


class Unique:
    """What the first pipeline found: of each split's blocks the number of records and the places of repeated ones."""

    def __init__(self, prefix: epath.Path):
        self.repeats: dict[str, dict[int, list[int]]] = {split: {} for split in SPLITS}
        counts: dict[str, dict[int, int]] = {split: {} for split in SPLITS}
        for path in prefix.parent.glob(f"{prefix.name}*"):
            with path.open() as lines:
                for line in lines:
                    split, block, n, again = json.loads(line)
                    counts[split][block] = n - len(again)
                    if again:
                        self.repeats[split][block] = again
        # Records of a split before each block, and at the end all of them.
        self.before = {
            split: np.cumsum([0, *(counts[split][block] for block in range(len(counts[split])))]) for split in SPLITS
        }

    def total(self, split: str) -> int:
        return int(self.before[split][-1])


def write_plans(folder: epath.Path, unique: Unique, files: dict[str, list[tuple[str, int]]]) -> Iterator[str]:
    """Writes for every file of the dataset which records of which blocks it holds; yields the plans' paths."""
    for split, shards in files.items():
        before, start = unique.before[split], 0
        for shard, (path, n) in enumerate(shards):
            first = int(np.searchsorted(before, start, side="right")) - 1
            end = int(np.searchsorted(before, start + n, side="left"))
            blocks = [(block, unique.repeats[split].get(block, [])) for block in range(first, end)]
            plan = {"split": split, "path": path, "skip": start - int(before[first]), "records": n, "blocks": blocks}
            plan_path = folder / f"plan-{split}-{shard:05d}.json"
            plan_path.write_text(json.dumps(plan))
            yield os.fspath(plan_path)
            start += n


def write_file(plan_path: str, scratch: Scratch) -> None:
    """Writes one file of the dataset."""
    plan = json.loads(epath.Path(plan_path).read_text())

    def kept() -> Iterator[Any]:
        for block, again in plan["blocks"]:
            again = set(again)
            path = scratch.path(plan["split"], block, "tfrecord")
            for place, record in enumerate(tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator()):
                if place not in again:
                    yield record

    _write_records(epath.Path(plan["path"]), islice(kept(), plan["skip"], plan["skip"] + plan["records"]))


def _write_records(path: epath.Path, records: Iterable[bytes]) -> None:
    with atomic_write(path) as scratch, tf.io.TFRecordWriter(os.fspath(scratch)) as file:
        for record in records:
            file.write(record)
