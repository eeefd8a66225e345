"""Builds a config of the dataset, with worker processes or on Apache Beam."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from etils import epath, epy
from tensorflow_datasets.core import constants

from explainft.core.atomic_files import without_abandoned
from explainft.core.errors import UserError, require_positive
from explainft.core.process_pool import WorkerDied, available_cores
from explainft.data.dataset import ExplainedListops, require_config
from explainft.data.dataset_read import open_builder, open_built

with epy.lazy_imports():
    import tensorflow as tf


def build(
    config: str,
    data_dir: str | None,
    processes: int | None = None,
    shards: int | None = None,
    beam_pipeline_options: str | None = None,
) -> epath.Path:
    """Builds a config under `data_dir` (None: TFDS's own) unless it is built, and returns its directory.

    The defaults are one process per core and one file per split. With `beam_pipeline_options`, such as
    "runner=DirectRunner,direct_num_workers=4" or "", Apache Beam does the work. The directory appears when it is
    complete. Raises UserError for an unknown config or option, a number below 1 or a directory that cannot be written.
    """
    for name, number in (("processes", processes), ("shards", shards)):
        if number is not None:
            require_positive(**{name: number})
    require_config(config)
    try:
        builder = open_builder(config, data_dir)
        if builder.data_path.exists():
            if not builder.is_prepared():
                raise UserError(f"{builder.data_path} exists but holds no dataset; remove it and build again")
            open_built(config, data_dir)  # refuses a corrupt one
            print(f"{builder.data_path} is already built", file=sys.stderr)
            return builder.data_path
        smallest = min(builder.config.train_examples, builder.config.eval_examples)
        if shards is not None and shards > smallest:
            raise UserError(f"shards={shards} must be at most {smallest}, the examples of the smallest split")
        builder.processes = processes
        _prepare(builder, shards, beam_pipeline_options)
    except WorkerDied as error:
        raise UserError(
            f"one of {processes or available_cores()} worker processes died, perhaps for lack of memory; rerun the "
            "command with fewer of them: --processes"
        ) from error
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        path = getattr(error, "filename", None) or data_dir or constants.DATA_DIR
        raise UserError(
            f"cannot write the dataset to {path}: {reason}; choose another directory with --tfds_data_dir"
        ) from error
    return builder.data_path


def _prepare(builder: ExplainedListops, shards: int | None, beam_pipeline_options: str | None) -> None:
    options = None if beam_pipeline_options is None else _beam_options(beam_pipeline_options, builder.processes)
    try:
        with _without_abandoned(builder):
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(num_shards=shards, beam_options=options)
            )
    except (OSError, tf.errors.OpError):
        # A concurrent build may have moved its directory there in the meantime: the content is the same.
        if not builder.data_path.exists():
            raise


def _without_abandoned(builder: ExplainedListops) -> contextlib.AbstractContextManager[None]:
    """Deletes the scratch directories of builds that were killed, where the dataset's directory is a local one."""
    directory = os.fspath(builder.data_path.parent)
    if "://" in directory:
        return contextlib.nullcontext()
    os.makedirs(directory, exist_ok=True)
    return without_abandoned(Path(directory), f"incomplete.*_{builder.version}")


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
