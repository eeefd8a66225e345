"""Training, from top to bottom: data, the update, the loop. `state.step` counts the updates applied."""

import contextlib
import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from explainft.checkpoints.checkpointer import NOT_FINITE_HINT, Checkpointer
from explainft.checkpoints.metadata import describe
from explainft.checkpoints.progress import Progress
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.data.batches import Batches
from explainft.data.token_cache import TokenCache, target_token_ids
from explainft.evaluation import evaluate
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.generation.quantization import DecodeConfig, decode_parameters
from explainft.model.config import T5Config
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.parallel import hosts, sharding
from explainft.training import profiling
from explainft.training.config import DatasetConfig, TrainConfig
from explainft.training.initialize import last_step, restore_or_init, starting_point
from explainft.training.preemption import Stopped, StopSignal
from explainft.training.run_directory import RunDirectory, Timer, locked
from explainft.training.train_state import abstract_state
from explainft.training.train_step import make_train_step


@dataclasses.dataclass(frozen=True)
class Data:
    """What a run reads: batches of this host's rows, and the tasks that it decodes. `output_ids`: see Loss."""

    batches: Batches
    validation: Batches
    decoded: list[TokenCache]
    output_ids: list[int] | None

    @property
    def cache(self) -> TokenCache:
        return self.batches.cache


def read_data(
    dataset: DatasetConfig,
    evaluation: EvaluationConfig,
    config: T5Config,
    mesh: jax.sharding.Mesh,
    output_vocabulary: str,
    load: Callable[[str, str], TokenCache],
) -> Data:
    """Raises UserError where the tasks suit neither the network nor the evaluation."""
    cache = load(dataset.mixture_or_task_name, "train")
    evaluate.check_vocabulary(config, cache)
    rows = sharding.host_rows(mesh, dataset.batch_size)
    batches = dataset.batches(cache, rows)
    validation = dataset.batches(load(dataset.mixture_or_task_name, "validation"), rows)
    tasks = token_cache.task_names(evaluation.mixture_or_task_name, dataset.module)
    decoded = [load(task, evaluation.split) for task in tasks]
    evaluate.check_metric(decoded, evaluation.metric)
    output_ids = None
    if DecodeConfig(output_vocabulary=output_vocabulary).output_vocabulary == "task":
        output_ids = np.union1d(target_token_ids(cache), target_token_ids(validation.cache)).tolist()
    return Data(batches, validation, decoded, output_ids)


class TrainMetrics:
    """What the updates since the last line of metrics.jsonl came to; adds them to the run's progress.

    `places`: of a batch, padding included. Its watch is to be paused for whatever is no training.
    """

    def __init__(self, places: int, peak_flops_per_second: float, progress: Progress):
        self.watch = Timer()
        self.flops = 0  # of the products of an update
        self._places = places
        self._peak = peak_flops_per_second
        self._progress = progress
        self._sums: list[dict[str, jax.Array]] = []

    def __bool__(self) -> bool:
        return bool(self._sums)

    def add(self, sums: dict[str, jax.Array]) -> None:
        """Returns when all but the last two updates have ended: a signal must not wait for a queue of them."""
        self._sums.append(sums)
        jax.block_until_ready(self._sums[-3:][0])

    def row(self, done: int, checkpointer: Checkpointer) -> dict[str, float]:
        """The line for the updates up to `done`. Raises UserError for the first of them whose loss is no number."""
        recent, self._sums = self._sums, []
        for step, sums in enumerate(recent, done - len(recent) + 1):
            if not math.isfinite(loss_sum := float(sums["loss_sum"])):
                raise UserError(f"the loss is {loss_sum} at step {step}; {checkpointer.last_good()}; {NOT_FINITE_HINT}")
        total = {name: sum(float(sums[name]) for sums in recent) for name in recent[0]}
        seconds = self.watch.lap()
        self._progress.seconds += seconds
        self._progress.examples += int(total["examples"])
        return {
            "loss": total["loss_sum"] / total["weight_sum"],
            "accuracy": total["correct_sum"] / total["weight_sum"],
            "examples": self._progress.examples,
            "seconds": self._progress.seconds,
            "examples_per_second": total["examples"] / seconds,
            "target_tokens_per_second": total["weight_sum"] / seconds,
            "flops_per_second": len(recent) * self.flops / seconds,
            "padding_share": 1.0 - total["tokens"] / (len(recent) * self._places),
            "peak_flops_per_second": self._peak,
        }


def train(
    config: TrainConfig,
    *,
    profile: bool = False,
    config_text: Callable[[], str] = str,
    tfds_data_dir: str | None = None,
    seqio_additional_cache_dirs: Sequence[str] = (),
) -> None:
    """Trains to the last step, or resumes from the latest checkpoint in `config.model_dir`.

    `profile` writes a trace of a few steps to profile/ there; `config_text` is written to config.gin.

    SIGTERM and Ctrl-C end the step in progress, or give up the evaluation in progress, save, and return.

    Writes config.gin, metrics.jsonl, TensorBoard events, checkpoints/ and inference_eval/ there. What is evaluated and
    saved at the same step is saved first, so that an evaluation that fails costs no steps: it is pending from then on,
    and its outcome is added to the checkpoint. Raises UserError for what the user can fix.
    """
    # ---- what is trained on what
    model, dataset, evaluation, checkpoints = config.model, config.dataset, config.evaluation, config.checkpoints
    optimization, initial = config.optimization, config.initial_checkpoint
    loss, microbatches, random_seed = optimization.loss, optimization.microbatches, optimization.seed
    train_steps, train_steps_relative = optimization.train_steps, optimization.train_steps_relative
    fsdp, log_period = config.mesh.fsdp, config.log_period
    mesh = sharding.make_mesh(config.mesh.model_parallelism)
    sharding.check_model(model.config, mesh, fsdp)
    sharding.check_batch(dataset.batch_size, mesh, microbatches)
    load = functools.partial(
        token_cache.load,
        task_module=dataset.module,
        data_dir=tfds_data_dir,
        use_cached=dataset.use_cached,
        seqio_additional_cache_dirs=seqio_additional_cache_dirs,
    )
    if initial.path is None and train_steps_relative is None:
        optimization.schedule(train_steps=train_steps)  # what does not fit together is told before the data is read
    data = read_data(dataset, evaluation, model.config, mesh, config.output_vocabulary, load)
    if data.output_ids is not None:
        loss = dataclasses.replace(loss, output_ids=(0, *data.output_ids))

    # ---- from where
    path = Path(config.model_dir)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        if hosts.writes():
            stack.enter_context(locked(path))
        description = describe(
            model.config, data.cache, dataset.what_a_batch_holds(), evaluation.mixture_or_task_name, data.output_ids
        )
        checkpointer = stack.enter_context(Checkpointer(path, checkpoints, description))
        checkpointer.check_vocabulary(data.cache.vocabulary)
        weights, progress = starting_point(checkpointer, initial.path, initial.step, train_steps_relative is not None)
        if weights is not None:
            evaluate.check_vocabulary(model.config, data.cache, weights)
        train_steps = last_step(progress, train_steps, train_steps_relative)
        rate = optimization.schedule(train_steps=train_steps)
        tx = optimization.optimizer(rate)
        stack.enter_context(jax.set_mesh(mesh))
        like = abstract_state(model.config, tx, mesh, fsdp)
        state = restore_or_init(checkpointer, weights, progress.first_step, model.config, tx, random_seed, like)
        shardings = jax.tree.map(lambda x: x.sharding, like)
        lengths = dataset.task_feature_lengths.values()
        execution = sharding.resolve_execution(model.execution, model.config, mesh, lengths)
        evaluated = T5(model.config, model.execution.for_inference())
        update = make_train_step(T5(model.config, execution), tx, loss, random_seed, microbatches, shardings)

        if checkpointer.latest is not None:  # a damaged one may have been passed over
            progress = checkpointer.progress()
        progress.set_metric_id(evaluation.metric_id())

        first = int(state.step)
        last = first if should_stop_early(evaluation, progress) else train_steps
        if first >= last and not progress.evaluation_pending:
            print(f"{path} is complete at step {first:,}: nothing to train", file=sys.stderr)
            return
        run = stack.enter_context(RunDirectory(path, config_text(), data.cache.vocabulary.path, writes=hosts.writes()))
        run.truncate_after(first, evaluated=not progress.evaluation_pending)

        # ---- training
        # Rematerialized matmuls are not model FLOPs.
        plain = dataclasses.replace(execution, remat_policy="none", attention_kernel="plain")
        counted = update
        if plain != execution:
            counted = make_train_step(T5(model.config, plain), tx, loss, random_seed, microbatches, shardings)
        dtype = model.config.dtype
        peak = profiling.peak_flops_per_second(execution.matmul_precision if dtype == "float32" else dtype)
        trace = stack.enter_context(profiling.Trace(path / "profile" if profile and hosts.writes() else None, first))
        bar = stack.enter_context(tqdm(total=train_steps, initial=first, desc=path.name, unit=" steps", disable=None))
        meter = TrainMetrics(dataset.tokens_per_batch(), peak, progress)
        done = first

        def tell(text: str) -> None:
            if bar.disable and hosts.writes():  # no terminal: a log, where a bar would be in the way
                print(f"{path.name}: step {done:,} of {train_steps:,}: {text}", flush=True)

        # An evaluation that was cut off by a signal is made up for before the next update.
        while done < last or progress.evaluation_pending:
            if not progress.evaluation_pending:
                batch = sharding.put_batch(data.batches[done - progress.first_step], mesh)
                meter.flops = meter.flops or profiling.model_flops(counted, state, batch)
                state, sums = update(state, batch)
                done += 1
                trace.after(done, sums)
                meter.add(sums)
                bar.update()

            at_end = done == train_steps
            told_to_stop = stop.requested()
            evaluate_now = done % evaluation.period == 0 or at_end or progress.evaluation_pending
            save_now = done % checkpoints.period == 0 or at_end
            # Before an evaluation or a save too: what is counted here must not be lost between two saves.
            if meter and (done % log_period == 0 or evaluate_now or save_now or told_to_stop):
                row = {**meter.row(done, checkpointer), "learning_rate": float(rate(done - 1))}
                run.log({"step": done, **row})
                share = f"{row['flops_per_second'] / row['peak_flops_per_second']:.0%}"
                text = f"loss {row['loss']:.3f}, {row['examples_per_second']:,.0f} examples/s, {share} of peak FLOP/s"
                bar.set_postfix_str(text)
                tell(text)

            with meter.watch.paused():
                if evaluate_now:
                    progress.evaluation_pending = True
                    if save_now:
                        checkpointer.save(done, state.params, state.opt_state, progress)
                    with contextlib.suppress(Stopped):
                        score = scored(done, state.params, evaluated, loss, data, evaluation, mesh, run, stop)
                        progress.record_score(done, score)
                        bar.set_description_str(f"{path.name}, {evaluation.metric} {score:.3f}")
                        tell(f"{evaluation.metric} {score:.3f}")
                told_to_stop = told_to_stop or progress.evaluation_pending
                no_gain = should_stop_early(evaluation, progress)
                new_best = checkpoints.keep_best and progress.best_step == done
                if save_now or told_to_stop or no_gain or new_best:
                    checkpointer.save(done, state.params, state.opt_state, progress)
                    checkpointer.prune(progress.best_step)
            if told_to_stop:
                bar.write(f"{stop.name}: step {done:,} is saved; the same command goes on from it", file=sys.stderr)
                break
            if no_gain:
                bar.write(
                    f"{evaluation.metric} has not risen in {evaluation.patience} evaluations: stopped", file=sys.stderr
                )
                break


def scored(
    done: int,
    params: Any,
    model: T5,
    loss: Loss,
    data: Data,
    evaluation: EvaluationConfig,
    mesh: jax.sharding.Mesh,
    run: RunDirectory,
    stop: StopSignal,
) -> float:
    """The metric that counts, after `done` updates, which is logged with the loss. Raises Stopped when told to."""
    losses = evaluate.teacher_forced(model, loss, params, data.validation, mesh, evaluation.eval_steps, stop.check)
    written = decode_parameters(model.config, params, output_ids=data.output_ids)
    score = evaluate.decode_all(
        model, written, data.decoded, evaluation, done, run.path / "inference_eval", run.tensorboard, stop.check
    )
    run.log({"step": done, **{f"eval/{name}": value for name, value in losses.items()}})
    return score


def should_stop_early(evaluation: EvaluationConfig, progress: Progress) -> bool:
    return evaluation.patience is not None and progress.evaluations_without_gain >= evaluation.patience
