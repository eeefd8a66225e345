"""The data of the tasks: a config of explained_listops that somebody has built."""

from collections.abc import Sequence

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from explainft.core.errors import UserError
from explainft.data.dataset import ExplainedListops, build_command


class ExplainedListopsSource(seqio.TfdsDataSource):
    """Reads one config. Building takes minutes, so reading never starts it but says which command does.

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
        # A builder of our own: seqio keeps the first one it sees, and one made before the data knows no splits.
        data_dir = self.tfds_dataset.data_dir
        builder = tfds.builder(self._name, data_dir=data_dir)
        if not builder.is_prepared():
            raise UserError(
                f"{builder.name}/{self._config} is not built in {builder.data_dir_root}; "
                f"run: {build_command(self._config, data_dir)}"
            )
