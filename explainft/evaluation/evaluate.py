"""Scoring a network: teacher-forced loss, and decoding with the tasks' own metrics in SeqIO's files."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from explainft.checkpoints import convert, run_checkpoint
from explainft.checkpoints.weights import Weights, check_network, parameters_like
from explainft.core.atomic_files import atomic_write, file_lock, refuse_unwritable
from explainft.core.errors import UserError, nearest, require_local, require_name, require_positive
from explainft.core.jsonl import read_jsonl
from explainft.data import token_cache
from explainft.data.batches import Batches
from explainft.data.token_cache import Record, TokenCache
from explainft.evaluation.metrics import METRICS_SUFFIX
from explainft.generation.generator import Generator
from explainft.generation.quantization import DecodeConfig
from explainft.model.config import T5Config
from explainft.model.loss import Loss, loss_sums
from explainft.model.t5 import T5
from explainft.parallel import hosts, sharding


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated every `period` updates.

    The training task's validation split is teacher-forced on `eval_steps` batches; `mixture_or_task_name` is decoded,
    `num_examples` of each task (None: all). Training stops early after `patience` evaluations in a row in which
    `metric` has not risen (None: never).
    """

    mixture_or_task_name: str
    period: int = 1000
    eval_steps: int = 20
    batch_size: int = 256
    num_examples: int | None = None
    split: str = "validation"
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
        return f"{self.metric} of {n} examples of {self.mixture_or_task_name} {self.split}"


@functools.partial(jax.jit, static_argnums=(0, 1))
def _loss_sums(model: T5, loss: Loss, params: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return loss_sums(model, loss, params, batch)


def teacher_forced(
    model: T5,
    loss: Loss,
    params: Any,
    batches: Batches,
    mesh: jax.sharding.Mesh,
    steps: int,
    between_batches: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Loss and token accuracy on the first `steps` batches of one pass in order."""
    totals: dict[str, float] = {}
    for i in range(min(steps, batches.epoch_batches())):
        between_batches()
        sums = _loss_sums(model, loss, params, sharding.put_batch(batches.ordered(i), mesh))
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + float(value)
    weight = totals["weight_sum"]
    return {"loss": totals["loss_sum"] / weight, "accuracy": totals["correct_sum"] / weight}


def decode_and_score(
    model: T5,
    params: Any,
    cache: TokenCache,
    batch_size: int,
    num_examples: int | None,
    step: int,
    output_dir: Path,
    between_batches: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Decodes one task greedily, scores it with its metrics and writes its two files."""
    read_jsonl(output_dir / f"{cache.task}{METRICS_SUFFIX}", {"step": int})  # damage is told before hours of decoding
    n = len(cache) if num_examples is None else min(num_examples, len(cache))
    records = cache.records[:n]
    texts = decode(model, params, cache, batch_size, n, between_batches)
    metrics, targets, predictions = score(cache, records, texts)
    write(output_dir, cache.task, step, metrics, records, targets, predictions)
    return metrics


def decode(
    model: T5,
    params: Any,
    cache: TokenCache,
    batch_size: int,
    n: int,
    between_batches: Callable[[], None] = lambda: None,
) -> list[str]:
    """Predictions for the first n examples: greedy texts, each up to the length of the longest right one."""
    length = int(cache.targets.lengths[:n].max())
    with tqdm(total=n, desc=f"decoding {cache.task}", unit=" examples", disable=None, leave=False) as bar:
        between_batches()
        generator = Generator(model, params, cache.vocabulary, batch_size, cache.iterative())
        return generator.generate([cache.inputs[i] for i in range(n)], length, bar.update, between_batches)


def score(cache: TokenCache, records: list[Record], texts: list[str]) -> tuple[dict[str, float], list[Any], list[Any]]:
    """The task's metrics of decoded texts, with the postprocessed targets and predictions that they compared."""
    postprocess = cache.postprocess()
    targets = [postprocess(record["targets_pretokenized"], example=record, is_target=True) for record in records]
    predictions = [
        postprocess(text, example=record, is_target=False) for text, record in zip(texts, records, strict=True)
    ]
    metrics: dict[str, float] = {}
    for metric in cache.metrics():
        metrics.update(metric(targets, predictions))
    return metrics, targets, predictions


def check_metric(caches: list[TokenCache], metric: str) -> None:
    """Refuses a metric that the tasks do not have, before hours of training depend on it."""
    for cache in caches:
        cache.require_texts()
        records = cache.records[:1]
        known, _, _ = score(cache, records, [record["targets_pretokenized"] for record in records])
        if metric not in known:
            overall = [name for name in known if "/" not in name]
            raise UserError(f"EVAL_METRIC={metric!r} is no metric of {cache.task}{nearest(metric, overall)}")


def decode_all(
    model: T5,
    params: Any,
    caches: list[TokenCache],
    evaluation: EvaluationConfig,
    step: int,
    output_dir: Path,
    log: Callable[[int, dict[str, float]], None],
    between_batches: Callable[[], None] = lambda: None,
) -> float:
    """Decodes and scores each task into `output_dir`; returns the mean of the metric that counts."""
    scores = []
    for cache in caches:
        metrics = decode_and_score(
            model,
            params,
            cache,
            evaluation.batch_size,
            evaluation.num_examples,
            step,
            output_dir,
            between_batches,
        )
        log(step, {f"inference_eval/{cache.task}/{name}": value for name, value in metrics.items()})
        scores.append(metrics[evaluation.metric])
    return sum(scores) / len(scores)


def evaluate(
    model: T5,
    decode_config: DecodeConfig,
    checkpoint_path: str,
    output_dir: str,
    mixture_or_task_name: str,
    module: str = "tasks",
    batch_size: int = 256,
    num_examples: int | None = None,
    split: str = "test",
    model_parallelism: int = 1,
    tfds_data_dir: str | None = None,
) -> None:
    """Scores a checkpoint of any format on a task or on each task of a mixture.

    Prints a line for each task and adds to `output_dir`/inference_eval/.
    """
    require_name(CHECKPOINT_PATH=checkpoint_path, EVAL_OUTPUT_DIR=output_dir, MIXTURE_OR_TASK_NAME=mixture_or_task_name)
    require_positive(
        BATCH_SIZE=batch_size, **({} if num_examples is None else {"EVALUATOR_NUM_EXAMPLES": num_examples})
    )
    make_folder(EVAL_OUTPUT_DIR=output_dir)
    weights = convert.open_weights(checkpoint_path)
    names = token_cache.task_names(mixture_or_task_name, module)
    caches = [token_cache.load(name, split, module, tfds_data_dir) for name in names]
    for cache in caches:
        cache.require_texts()
        check_vocabulary(model.config, cache, weights)
    params = placed_parameters(weights, model.config, model_parallelism)
    for cache in caches:
        step = weights.step or 0
        metrics = decode_and_score(
            model,
            decode_config.parameters_for(model.config, params, cache, weights.meta),
            cache,
            batch_size,
            num_examples,
            step,
            Path(output_dir) / "inference_eval",
        )
        shown = {name: value for name, value in metrics.items() if "/" not in name}
        if hosts.writes():
            print(f"{cache.task} step {step}: " + "  ".join(f"{name} {value:.4g}" for name, value in shown.items()))


def make_folder(**named: str) -> None:
    """Makes the folder where results go: before hours of decoding, not after."""
    for name, folder in named.items():
        require_local(**{name: folder})
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(f"cannot write {name}={folder!r} ({e.strerror}); name a writable folder") from e


def placed_parameters(weights: Weights, config: T5Config, model_parallelism: int) -> Any:
    """A checkpoint's parameters on all devices, read one at a time."""
    check_network(weights, config)
    mesh = sharding.make_mesh(model_parallelism)
    sharding.check_model(config, mesh)
    return parameters_like(weights, sharding.abstract_parameters(config, mesh))


def evaluate_run(
    run: Path,
    mixture_or_task: str | None,
    step: int | str | None,
    batch_size: int,
    num_examples: int | None,
    module: str,
    decode_config: DecodeConfig,
    tfds_data_dir: str | None,
) -> None:
    """Scores a run's checkpoint into its own folder, by default on all evaluation tasks of its config and style."""
    weights = run_checkpoint.open_run(run, step)
    mixture = mixture_or_task or evaluation_mixture(weights.meta["task"])
    evaluate(
        T5(weights.architecture()),
        checkpoint_path=str(run / "checkpoints" / f"checkpoint_{weights.step}"),
        output_dir=str(run),
        mixture_or_task_name=mixture,
        module=module,
        batch_size=batch_size,
        num_examples=num_examples,
        split="validation",
        decode_config=decode_config,
        tfds_data_dir=tfds_data_dir,
    )


def check_vocabulary(config: T5Config, cache: TokenCache, weights: Weights | None = None) -> None:
    """Refuses a task whose vocabulary is larger than the network's, or is not the one that the checkpoint brings."""
    if cache.vocabulary.size > config.vocab_size:
        raise UserError(
            f"the network's vocab_size={config.vocab_size} is smaller than the {cache.vocabulary.size} pieces "
            f"of {cache.task}'s vocabulary; choose the gin/models file that goes with the task"
        )
    if weights is not None and weights.vocabulary is not None:
        difference = cache.vocabulary.difference(weights.tokenizer())
        if difference:
            raise UserError(
                f"{cache.task} has another vocabulary than {weights.origin}: {difference}; name a task of the same one"
            )


def evaluation_mixture(task: str) -> str:
    """explained_tiny_medium_compact -> explained_tiny_medium_eval_compact."""
    base = task.removesuffix("_compact")
    return f"{base}_eval{task[len(base) :]}"


def write(
    output_dir: Path,
    task: str,
    step: int,
    metrics: dict[str, float],
    records: list[Record],
    targets: list[Any],
    predictions: list[Any],
) -> None:
    """The two files of an evaluation, as seqio.JSONLogger names and fills them. A step evaluated again is replaced.

    Of several processes one writes.
    """
    if not hosts.writes():
        return
    with refuse_unwritable(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    metrics_file = output_dir / f"{task}{METRICS_SUFFIX}"
    with refuse_unwritable(metrics_file), file_lock(metrics_file):
        kept = [row for row in read_jsonl(metrics_file, {"step": int}) if row["step"] != step]
        _write_lines(metrics_file, [json.dumps(row) for row in [*kept, {"step": step, **metrics}]])
    rows = zip(records, targets, predictions, strict=True)
    _write_lines(
        output_dir / f"{task}-{step:06d}.jsonl",
        [
            json.dumps({"input": record, "target": target, "prediction": prediction})
            for record, target, prediction in rows
        ],
    )


def _write_lines(path: Path, lines: list[str]) -> None:
    with refuse_unwritable(path), atomic_write(path) as scratch:
        scratch.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
