"""Questions and other rows of texts as TFRecord files with TFDS's metadata. Imports TensorFlow."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import dataset_info, naming
from tensorflow_datasets.proto import tf_example_pb2

from explainft.data.questions.examples import Question

_MESSAGE_ROWS = 256
FEATURES = ("id", "question", "answer", "explanation", "fields")
SEQUENCES = ("choices",)


class Writer:
    """Writes the records of one split into files of at most `shard_rows`, named as TFDS names them at the end.

    A row has texts as its `features` and tuples of texts as its `sequences`; the default is a Question.
    """

    def __init__(
        self,
        directory: Path,
        dataset: str,
        split: str,
        shard_rows: int,
        features: tuple[str, ...] = FEATURES,
        sequences: tuple[str, ...] = SEQUENCES,
    ):
        self.split, self.features, self.sequences = split, features, sequences
        self.rows, self._bytes = 0, 0
        self._digest = hashlib.blake2b(digest_size=8)
        self._directory, self._dataset, self._shard_rows = directory, dataset, shard_rows
        self._paths: list[Path] = []
        self._lengths: list[int] = []
        self._file = None
        self._serialize = Serializer(features, sequences)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if error is None:
            for path, final in zip(self._paths, self._final_paths(), strict=True):
                path.rename(final)

    def write(self, row: Any) -> None:
        """Appends a record."""
        if self._file is None or self._lengths[-1] == self._shard_rows:
            with contextlib.suppress(AttributeError):
                self._file.close()  # pyright: ignore[reportOptionalMemberAccess]
            self._paths.append(self._directory / f"{self.split}.{len(self._paths)}.incomplete")
            self._lengths.append(0)
            self._file = tf.io.TFRecordWriter(str(self._paths[-1]))
        if self.rows % _MESSAGE_ROWS == 0:
            self._serialize = Serializer(self.features, self.sequences)
        data = self._serialize(row)
        self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)
        self._lengths[-1] += 1
        self.rows += 1

    def digest(self) -> str:
        """Returns a digest of the records."""
        return self._digest.hexdigest()

    def info(self) -> tfds.core.SplitInfo:
        """Returns TFDS's description of the split."""
        return tfds.core.SplitInfo(
            name=self.split, shard_lengths=self._lengths, num_bytes=self._bytes, filename_template=self._template()
        )

    def _template(self) -> naming.ShardedFileTemplate:
        return naming.ShardedFileTemplate(
            data_dir=epath.Path(self._directory),
            dataset_name=self._dataset,
            split=self.split,
            filetype_suffix="tfrecord",
        )

    def _final_paths(self) -> list[Path]:
        template, n = self._template(), len(self._paths)
        return [Path(template.sharded_filepath(shard_index=i, num_shards=n)) for i in range(n)]


class Serializer:
    """Makes a tf.train.Example of a row, always of the same bytes.

    To make a message takes longer than to fill it, so one is used for several; what it held is freed with it alone.
    """

    def __init__(self, features: tuple[str, ...] = FEATURES, sequences: tuple[str, ...] = SEQUENCES):
        self._proto = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue] (made at import)
        self._features, self._sequences = features, sequences
        self._values = {name: self._proto.features.feature[name].bytes_list.value for name in (*features, *sequences)}

    def __call__(self, row: Any) -> bytes:
        values = self._values
        for name in self._features:
            values[name][:] = [getattr(row, name).encode()]
        for name in self._sequences:
            values[name][:] = [text.encode() for text in getattr(row, name)]
        return self._proto.SerializeToString(deterministic=True)


def read(directory: Path, split: str) -> Iterator[Question]:
    """Yields the questions of a split in their order."""
    files = sorted(directory.glob(f"*-{split}.tfrecord-*"))
    for data in tf.data.TFRecordDataset([str(file) for file in files]).as_numpy_iterator():
        feature = tf_example_pb2.Example.FromString(data).features.feature  # pyright: ignore[reportAttributeAccessIssue]
        texts = {name: feature[name].bytes_list.value[0].decode() for name in FEATURES}
        yield Question(**texts, choices=tuple(value.decode() for value in feature["choices"].bytes_list.value))


def write_metadata(
    directory: Path, writers: list[Writer], dataset: str, name: str, version: str, description: str
) -> None:
    """Writes dataset_info.json and features.json."""
    text = tfds.features.Text
    features = tfds.features.FeaturesDict(
        {feature: text() for feature in writers[0].features}
        | {feature: tfds.features.Sequence(text()) for feature in writers[0].sequences}
    )
    identity = dataset_info.DatasetIdentity(
        name=dataset,
        config_name=name,
        version=tfds.core.Version(version),
        data_dir=str(directory),
        module_name="",
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features, description=description)
    info.set_file_format("tfrecord")
    info.set_splits(tfds.core.SplitDict([writer.info() for writer in writers]))
    info.write_to_directory(directory)
