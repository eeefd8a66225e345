"""The set-up of a run: everything that the loop needs and does not change."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from explainft.checkpoints.checkpointer import Checkpointer
from explainft.checkpoints.metadata import describe, describe_settings, with_earlier_questions
from explainft.checkpoints.progress import Progress
from explainft.data.batches import Batches
from explainft.data.token_cache import TokenCache, target_token_ids
from explainft.data.tokenize import FEATURES
from explainft.evaluation.evaluator import Evaluator
from explainft.evaluation.loading import check_vocabulary
from explainft.generation.quantization import DecodeConfig
from explainft.model.t5 import T5
from explainft.model.verifier_losses import AnyLoss
from explainft.parallel import hosts, sharding
from explainft.training.config import DatasetConfig, TrainConfig
from explainft.training.console import Console
from explainft.training.initialize import last_step, restore_or_init, starting_point
from explainft.training.run_directory import locked
from explainft.training.train_state import TrainState, abstract_state
from explainft.training.train_step import make_train_step


@dataclasses.dataclass(frozen=True)
class Data:
    """What a run reads: batches of this host's rows, and the tasks that it decodes.

    `output_ids` are the token ids that the output layer has (None: all).
    """

    train: Batches
    validation: Batches
    evaluators: list[Evaluator]
    output_ids: list[int] | None

    @property
    def cache(self) -> TokenCache:
        return self.train.cache


@dataclasses.dataclass(frozen=True)
class TrainContext:
    """What a run is made of. `end_step` counts the steps of an initial checkpoint too.

    `loss` has the output ids of the data. `flops_step` is the train step without recomputation, for its FLOPs.
    """

    config: TrainConfig
    directory: Path
    mesh: jax.sharding.Mesh
    data: Data
    loss: AnyLoss
    learning_rate: Callable[[jax.typing.ArrayLike], jax.Array]
    train_step: Callable[..., Any]
    flops_step: Callable[..., Any]
    matmul_dtype: str
    checkpointer: Checkpointer
    end_step: int


LENGTH_MULTIPLE = 16  # of chosen row lengths: few shapes compile, and kernels like even ones


def choose_lengths(dataset: DatasetConfig, load: Callable[[str, str], TokenCache]) -> DatasetConfig:
    """Returns the dataset with row lengths: where it has none, the longest inputs and targets of both splits.

    They are rounded up, so nothing is cut.
    """
    if dataset.task_feature_lengths is not None:
        return dataset
    longest = [load(dataset.mixture_or_task_name, split).lengths() for split in ("train", "validation")]
    exact = {feature: max(lengths[feature] for lengths in longest) for feature in FEATURES}
    chosen = {feature: -(-n // LENGTH_MULTIPLE) * LENGTH_MULTIPLE for feature, n in exact.items()}
    return dataclasses.replace(dataset, task_feature_lengths=chosen)


def set_up(
    config: TrainConfig,
    load: Callable[[str, str], TokenCache],
    task_names: Callable[[str], list[str]],
    console: Console,
    stack: contextlib.ExitStack,
) -> tuple[TrainContext, TrainState, Progress]:
    """Returns the context, and the state and the progress that the run starts from.

    `load` returns the tokens of a task's split, `task_names` the tasks of a mixture. Settings that do not fit together,
    and a directory that cannot be written or holds a run of other settings, are refused before any data is read. What
    must be closed at the end of the run goes to `stack`. Raises UserError.
    """
    optimization, directory, architecture = config.optimization, Path(config.model_dir), config.model.config
    task, dataset = config.dataset.mixture_or_task_name, dataclasses.asdict(config.dataset)
    mesh = sharding.make_mesh(config.mesh.model_parallelism)
    sharding.check_model(architecture, mesh, config.mesh.fsdp)
    sharding.check_batch(config.dataset.batch_size, mesh, optimization.microbatches, optimization.loss.group)
    if config.initial_checkpoint.path is None and optimization.train_steps_relative is None:
        optimization.schedule(train_steps=optimization.train_steps)  # refuses settings that do not fit together
    if hosts.writes():
        stack.enter_context(locked(directory))
    settings = describe_settings(architecture, task, dataset)
    checkpointer = stack.enter_context(Checkpointer(directory, config.checkpoints, settings))
    weights, progress = starting_point(
        checkpointer, config.initial_checkpoint, architecture, optimization.train_steps_relative is not None
    )
    end_step = last_step(progress, optimization.train_steps, optimization.train_steps_relative)
    learning_rate = optimization.schedule(train_steps=end_step)
    tx = optimization.optimizer(learning_rate)
    stack.enter_context(jax.set_mesh(mesh))
    abstract = abstract_state(architecture, tx, mesh, config.mesh.fsdp)
    checkpointer.check_optimizer(abstract.opt_state)

    console.report_phase(f"reading {task}")
    data = read_data(config, mesh, load, task_names)
    for line in _describe_examples(data):
        console.report(line)
    evaluation = config.evaluation.mixture_or_task_name
    description = describe(architecture, data.cache, dataset, evaluation, data.output_ids)
    earlier = checkpointer.latest_meta if weights is None else weights.meta
    checkpointer.describe_run(with_earlier_questions(description, earlier))
    checkpointer.check_vocabulary(data.cache.vocabulary)
    if weights is not None:
        check_vocabulary(architecture, data.cache, weights)

    state = restore_or_init(checkpointer, weights, progress.first_step, architecture, tx, optimization.seed, abstract)
    if checkpointer.latest is not None:  # a corrupt one may have been skipped
        progress = checkpointer.progress()
    progress.set_metric_id(config.evaluation.metric_id())
    loss = optimization.loss.for_task(data.cache.vocabulary, data.output_ids)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    train_step, flops_step, dtype = make_train_steps(config, mesh, tx, loss, shardings)
    context = TrainContext(
        config, directory, mesh, data, loss, learning_rate, train_step, flops_step, dtype, checkpointer, end_step
    )
    return context, state, progress


def make_train_steps(
    config: TrainConfig,
    mesh: jax.sharding.Mesh,
    tx: optax.GradientTransformation,
    loss: AnyLoss,
    shardings: TrainState,
) -> tuple[Callable[..., Any], Callable[..., Any], str]:
    """Returns the train step, the step whose FLOPs are the model's, and the type of its matmuls."""
    optimization = config.optimization
    make = functools.partial(
        make_train_step,
        tx=tx,
        loss=loss,
        seed=optimization.seed,
        microbatches=optimization.microbatches,
        shardings=shardings,
    )
    architecture, lengths = config.model.config, config.dataset.lengths().values()
    execution = sharding.resolve_execution(config.model.execution, architecture, mesh, lengths)
    # Rematerialized matmuls are not model FLOPs.
    plain = dataclasses.replace(execution, remat_policy="none", attention_kernel="plain")
    train_step = make(T5(architecture, execution))
    flops_step = train_step if plain == execution else make(T5(architecture, plain))
    dtype = execution.matmul_precision if architecture.dtype == "float32" else architecture.dtype
    return train_step, flops_step, dtype


def _describe_examples(data: Data) -> Iterator[str]:
    """Yields a line on each group of examples that are changed, partly used or left out."""
    for cache in (data.cache, data.validation.cache):
        yield from cache.lost()
        yield from filter(None, [cache.unexplained(), cache.demonstrations()])
    for evaluator in data.evaluators:
        yield from evaluator.cache.left_out()
        yield from filter(None, [evaluator.cache.demonstrations()])


def read_data(
    config: TrainConfig,
    mesh: jax.sharding.Mesh,
    load: Callable[[str, str], TokenCache],
    task_names: Callable[[str], list[str]],
) -> Data:
    """Raises UserError where the tasks suit neither the model nor the evaluation."""
    dataset, evaluation = config.dataset, config.evaluation
    cache = load(dataset.mixture_or_task_name, "train")
    check_vocabulary(config.model.config, cache)
    loss = config.optimization.loss
    rows, labels = sharding.host_rows(mesh, dataset.batch_size // loss.group), loss.label_ids(cache.vocabulary)
    batches = dataset.batches(cache, rows, labels, loss.group)
    validation = dataset.batches(load(dataset.mixture_or_task_name, "validation"), rows, labels, loss.group)
    tasks = task_names(evaluation.mixture_or_task_name)
    evaluators = [Evaluator(load(task, evaluation.seqio_split), evaluation.num_examples) for task in tasks]
    for evaluator in evaluators:
        evaluator.check_metric(evaluation.metric)
    output_ids = None
    if DecodeConfig(output_vocabulary=config.output_vocabulary).output_vocabulary == "task":
        output_ids = np.union1d(target_token_ids(cache), target_token_ids(validation.cache)).tolist()
    return Data(batches, validation, evaluators, output_ids)
