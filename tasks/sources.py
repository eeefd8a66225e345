"""The data of the tasks: a config of explained_listops that has been built."""

from collections.abc import Sequence

import seqio
import tensorflow as tf

from explainft.data.dataset import ExplainedListops
from explainft.data.dataset_read import open_built


class ExplainedListopsSource(seqio.TfdsDataSource):
    """Reads one config. Building takes minutes, so reading never starts it: the error names the command.

    splits maps a task's split names to those of the dataset. Raises UserError where the data is not built.
    """

    def __init__(self, config: str, splits: dict[str, str]):
        self._config = config
        self._name = f"{ExplainedListops.name}/{config}:{ExplainedListops.VERSION}"
        super().__init__(tfds_name=self._name, splits=splits, read_only=True)

    def get_dataset(self, *args, **kwargs) -> tf.data.Dataset:
        self._require_built()
        return super().get_dataset(*args, **kwargs)

    def num_input_examples(self, split: str) -> int | None:
        self._require_built()
        return super().num_input_examples(split)

    def list_shards(self, split: str) -> Sequence[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._require_built()
        return super().list_shards(split)

    def _require_built(self) -> None:
        # A builder of our own: SeqIO keeps the first one it sees, and one from before the build has no splits.
        open_built(self._config, self.tfds_dataset.data_dir)
