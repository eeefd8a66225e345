"""`eval` and the evaluations of a training run: tasks are decoded, scored, and written to SeqIO's files."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from explainft.checkpoints import convert, run_checkpoint
from explainft.checkpoints.weights import Weights
from explainft.core.errors import require_name, require_positive
from explainft.data import token_cache
from explainft.evaluation import prediction_files
from explainft.evaluation.evaluator import Evaluator
from explainft.evaluation.loading import load_evaluation_tasks, load_model, own_vocabulary
from explainft.evaluation.task_names import evaluation_mixture
from explainft.generation.generator import Generator
from explainft.generation.label_choice import LabelChooser
from explainft.generation.quantization import DecodeConfig
from explainft.model.t5 import T5
from explainft.parallel import hosts, sharding

DIRECTORY = "inference_eval"  # below a run's


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated every `period` steps.

    Two evaluations: the loss of the training task's validation split on `eval_steps` batches, and the decoding of
    `mixture_or_task_name`, with `num_examples` of each task (None: all). `seqio_split` is SeqIO's name for the examples
    of an evaluation task. Training stops early after `patience` evaluations in a row in which `metric` has not risen
    (None: never).
    """

    mixture_or_task_name: str
    period: int = 1000
    eval_steps: int = 20
    batch_size: int = 256
    num_examples: int | None = None
    seqio_split: str = "validation"
    metric: str = "exact_match"
    patience: int | None = None

    def __post_init__(self):
        require_name(EVAL_MIXTURE=self.mixture_or_task_name, EVAL_METRIC=self.metric)
        require_positive(EVAL_PERIOD=self.period, EVAL_STEPS=self.eval_steps, EVAL_BATCH_SIZE=self.batch_size)
        optional = {"EVALUATOR_NUM_EXAMPLES": self.num_examples, "EARLY_STOPPING_PATIENCE": self.patience}
        require_positive(**{name: value for name, value in optional.items() if value is not None})

    def metric_id(self) -> str:
        """Returns what identifies the metric: scores with the same id can be compared."""
        n = "all" if self.num_examples is None else self.num_examples
        return f"{self.metric} of {n} examples of {self.mixture_or_task_name} {self.seqio_split}"


def evaluate_tasks(
    evaluators: Sequence[Evaluator],
    generator_for: Callable[[Evaluator], Generator | LabelChooser],
    step: int,
    output_dir: Path,
    between_batches: Callable[[], None] = lambda: None,
    overwrite: bool = True,
) -> dict[str, dict[str, float]]:
    """Decodes and scores each task into `output_dir`; returns the metrics by task."""
    for evaluator in evaluators:  # before hours of decoding
        prediction_files.check_scores_file(output_dir, evaluator.task, step, evaluator.n, overwrite)
    metrics = {}
    for evaluator in evaluators:
        scores = evaluator.score(evaluator.generate(generator_for(evaluator), between_batches))
        prediction_files.write_scores(output_dir, evaluator.task, step, evaluator.records, scores)
        metrics[evaluator.task] = scores.metrics
    return metrics


def evaluate(
    model: T5,
    decode_config: DecodeConfig,
    checkpoint_path: str,
    output_dir: str,
    mixture_or_task_name: str,
    module: str = "tasks",
    batch_size: int = 256,
    num_examples: int | None = None,
    seqio_split: str = "test",
    model_parallelism: int = 1,
    tfds_data_dir: str | None = None,
    overwrite: bool = False,
    vocabulary_file: str | None = None,
) -> None:
    """Scores a checkpoint of any format on a task or on each task of a mixture, which SeqIO names `seqio_split`.

    Prints a line for each task and adds to `output_dir`/inference_eval/. Scores of the same step on more examples are
    replaced with `overwrite` only. `vocabulary_file` is a SentencePiece model in place of the tasks' own.
    """
    require_name(CHECKPOINT_PATH=checkpoint_path, EVAL_OUTPUT_DIR=output_dir, MIXTURE_OR_TASK_NAME=mixture_or_task_name)
    require_positive(
        BATCH_SIZE=batch_size, **({} if num_examples is None else {"EVALUATOR_NUM_EXAMPLES": num_examples})
    )
    prediction_files.make_directory(EVAL_OUTPUT_DIR=output_dir)
    weights = convert.open_weights(checkpoint_path)
    caches = load_evaluation_tasks(
        mixture_or_task_name, module, seqio_split, tfds_data_dir, model.config, weights, vocabulary_file
    )
    evaluators = [Evaluator(cache, num_examples) for cache in caches]
    for cache in caches:
        if hosts.writes() and (line := cache.demonstrations()) is not None:
            print(line, file=sys.stderr)
    step, directory = weights.step or 0, Path(output_dir) / DIRECTORY
    for evaluator in evaluators:
        prediction_files.check_scores_file(directory, evaluator.task, step, evaluator.n, overwrite)
    loaded = load_model(weights, decode_config, batch_size, model, sharding.make_mesh(model_parallelism))
    for evaluator in evaluators:
        scored = evaluate_tasks(
            [evaluator], lambda e: loaded.task_generator(e.cache), step, directory, overwrite=overwrite
        )
        if hosts.writes():
            print(_summary(evaluator.task, step, scored[evaluator.task]))


def evaluate_run(
    run: Path,
    mixture_or_task: str | None,
    step: int | str | None,
    batch_size: int,
    num_examples: int | None,
    module: str | None,
    decode_config: DecodeConfig,
    tfds_data_dir: str | None,
    overwrite: bool = False,
) -> None:
    """Scores a run's checkpoint into its own directory.

    The default `module` is the run's own, and the default tasks are the evaluation mixture of its training task; where
    the module registers none, those that the run was evaluated on while it trained.
    """
    weights = run_checkpoint.open_run(run, step)
    module = module or str(weights.meta["module"])
    evaluate(
        T5(weights.architecture()),
        decode_config,
        checkpoint_path=str(run / "checkpoints" / f"checkpoint_{weights.step}"),
        output_dir=str(run),
        mixture_or_task_name=mixture_or_task or _own_evaluation(weights, module, tfds_data_dir),
        module=module,
        batch_size=batch_size,
        num_examples=num_examples,
        seqio_split="validation",
        tfds_data_dir=tfds_data_dir,
        overwrite=overwrite,
        vocabulary_file=own_vocabulary(weights),
    )


def _own_evaluation(weights: Weights, module: str, data_dir: str | None) -> str:
    mixture = evaluation_mixture(weights.meta["task"])
    return mixture if token_cache.is_registered(mixture, module, data_dir) else weights.meta["evaluation"]


def _summary(task: str, step: int, metrics: dict[str, float]) -> str:
    shown = [f"{name} {value:.4g}" for name, value in metrics.items() if "/" not in name]
    return f"{task} step {step}: " + "  ".join(shown)
