"""The settings of a training run, in groups that a recipe fills."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np
import optax

from explainft.checkpoints.checkpointer import CheckpointConfig
from explainft.core.errors import UserError, require_count, require_local, require_name, require_positive
from explainft.data import few_shot_names
from explainft.data.batches import Batches, PairBatches, check_labels
from explainft.data.token_cache import TokenCache
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.model.t5 import T5
from explainft.model.verifier_losses import AnyLoss


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """The training examples, by T5X's names.

    `task_feature_lengths` are the row lengths of a batch (None: chosen from the data, so that nothing is cut), `seed`
    orders the rows, `alpha` weighs answer against explanation (see target_parts.loss_weights). `use_cached` reads what
    seqio_cache_tasks wrote instead of the task's source. `vocabulary_file` is a SentencePiece model in place of the
    task's own.
    """

    mixture_or_task_name: str
    task_feature_lengths: dict[str, int] | None
    batch_size: int
    module: str = "tasks"
    seed: int = 0
    pack: bool = True
    use_cached: bool = False
    vocabulary_file: str | None = None
    alpha: float | None = None

    def __post_init__(self):
        require_name(MIXTURE_OR_TASK_NAME=self.mixture_or_task_name, MIXTURE_OR_TASK_MODULE=self.module)
        require_positive(BATCH_SIZE=self.batch_size)
        require_count(RANDOM_SEED=self.seed)

    def batches(
        self,
        cache: TokenCache,
        rows: np.ndarray | None = None,
        labels: Sequence[Sequence[int]] | None = None,
        group: int = 1,
    ) -> Batches:
        """Returns the batches; `rows` are those that this host feeds (None: all).

        With `labels`, which all targets end with, they are not packed; with a `group` of 2 they hold pairs of examples.
        """
        if labels is not None and self.alpha is not None:
            raise UserError(
                f"ALPHA={self.alpha} weighs the tokens of targets, and the loss of a verifier's score has none; "
                "set it to None, or VERIFIER_LOSS to 'cross_entropy'"
            )
        arguments = cache, self.lengths(), self.batch_size, self.seed
        if labels is not None and group == 2:
            return PairBatches(*arguments, labels=labels, rows=rows)
        if labels is not None:
            check_labels(cache, labels)
        return Batches(*arguments, packed=self.pack and labels is None, rows=rows, alpha=self.alpha)

    def lengths(self) -> dict[str, int]:
        """Returns the row lengths. Raises UserError where they are still to be chosen from the data."""
        if self.task_feature_lengths is None:
            raise UserError(
                "TASK_FEATURE_LENGTHS=None is chosen from the data when training starts; "
                "give them, such as {'inputs': 128, 'targets': 256}"
            )
        return self.task_feature_lengths

    def input_lengths(self) -> dict[str, int]:
        """Returns the length that prompts must fit, where the task is a few-shot one and lengths are given."""
        given = self.task_feature_lengths
        few_shot = few_shot_names.parse(self.mixture_or_task_name)
        return {self.mixture_or_task_name: given["inputs"]} if few_shot and given and "inputs" in given else {}

    def tokens_per_batch(self) -> int:
        """Returns the tokens of a batch, padding included."""
        return self.batch_size * sum(self.lengths().values())


@dataclasses.dataclass(frozen=True)
class OptimizationConfig:
    """What is minimized, how, and for how many steps.

    `optimizer` takes a learning-rate schedule; `schedule` takes `train_steps`. `train_steps` includes the steps of the
    initial checkpoint, as in T5X; `train_steps_relative` counts from the start of this run instead. A batch is split
    into `microbatches`, whose gradients are summed. `seed` is that of fresh parameters and of dropout.
    """

    optimizer: Callable[[optax.Schedule], optax.GradientTransformation]
    schedule: Callable[..., Callable[[jax.typing.ArrayLike], jax.Array]]
    loss: AnyLoss
    train_steps: int
    train_steps_relative: int | None = None
    microbatches: int = 1
    seed: int = 0

    def __post_init__(self):
        require_positive(TRAIN_STEPS=self.train_steps, MICROBATCHES=self.microbatches)
        if self.train_steps_relative is not None:
            require_positive(TRAIN_STEPS_RELATIVE=self.train_steps_relative)


@dataclasses.dataclass(frozen=True)
class InitialCheckpoint:
    """Where a new run starts: `path` in any format that convert.open_weights reads (None: fresh parameters).

    `step` is the checkpoint's step, where it records none. With `block_expansion` the model may have more layers than
    the checkpoint, see checkpoints.block_expansion.
    """

    path: str | None = None
    step: int | None = None
    block_expansion: bool = False

    def __post_init__(self):
        require_count(INITIAL_STEP=self.step or 0)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How devices share the work: `model_parallelism` of them hold a part of each layer.

    `fsdp` also splits parameters and optimizer slots over the data-parallel devices.
    """

    model_parallelism: int = 1
    fsdp: bool = False


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """All settings of a run. `output_vocabulary` 'task': the output layer has the tokens of the task's targets alone.

    `log_period` is in steps.
    """

    model_dir: str
    model: T5
    dataset: DatasetConfig
    optimization: OptimizationConfig
    evaluation: EvaluationConfig
    checkpoints: CheckpointConfig
    initial_checkpoint: InitialCheckpoint = InitialCheckpoint()
    mesh: MeshConfig = MeshConfig()
    output_vocabulary: str = "all"
    log_period: int = 100

    def __post_init__(self):
        if not isinstance(self.model_dir, str) or not self.model_dir:
            raise UserError(f"MODEL_DIR={self.model_dir!r} is not a valid directory; give --gin.MODEL_DIR=DIRECTORY")
        require_local(MODEL_DIR=self.model_dir)
        require_positive(LOG_PERIOD=self.log_period)
