"""Reading one item of an orbax checkpoint leaf by leaf."""

from functools import cached_property
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from explainft.model.parameters import leaf_name, named_leaves


class OrbaxTree:
    """The arrays that orbax wrote into a directory with StandardSave or PyTreeSave, by their path."""

    def __init__(self, directory: epath.Path):
        self.directory = directory
        # Each process reads for itself: orbax would make it wait for the others.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(),
            active_processes={jax.process_index()},
            barrier_sync_key_prefix=f"process_{jax.process_index()}",
        )
        self._checkpointer = ocp.Checkpointer(
            ocp.PyTreeCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone
        )

    @cached_property
    def _saved(self) -> Any:
        metadata: Any = self._checkpointer.metadata(self.directory)
        return metadata.item_metadata.tree

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(leaf.shape) for name, leaf in named_leaves(self._saved).items()}

    def read(self, name: str) -> np.ndarray:
        """Reads one array as it is stored, and nothing else."""

        def wanted(path: jax.tree_util.KeyPath, leaf: Any) -> Any:
            return np.zeros(leaf.shape, leaf.dtype) if leaf_name(path) == name else ocp.PLACEHOLDER

        item = jax.tree_util.tree_map_with_path(wanted, self._saved)
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
        restored = self._checkpointer.restore(
            self.directory, args=ocp.args.PyTreeRestore(item=item, restore_args=as_numpy)
        )
        return named_leaves(restored)[name]
