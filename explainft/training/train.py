"""The training loop. `state.step` counts the steps that were applied."""

import contextlib
import dataclasses
import functools
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from explainft.checkpoints.progress import Progress
from explainft.data import token_cache
from explainft.data.token_cache import TokenCache
from explainft.parallel import hosts, sharding
from explainft.training import profiling
from explainft.training.config import TrainConfig
from explainft.training.console import Console
from explainft.training.context import TrainContext, choose_lengths, set_up
from explainft.training.hooks import (
    BeginEvaluation,
    Evaluate,
    Hook,
    Log,
    Profile,
    Save,
    StepEvent,
    StopEarly,
    should_stop_early,
)
from explainft.training.metrics import TrainMetrics
from explainft.training.preemption import StopSignal
from explainft.training.run_directory import RunDirectory, find_changed_macros
from explainft.training.train_state import TrainState


def train(
    config: TrainConfig,
    *,
    profile: bool = False,
    config_text: Callable[[], str] = str,
    tfds_data_dir: str | None = None,
    seqio_additional_cache_dirs: Sequence[str] = (),
) -> signal.Signals | None:
    """Trains to the last step, or resumes from the latest checkpoint in `config.model_dir`.

    `profile` writes a trace of a few steps to profile/ there; `config_text` is written to config.gin.

    On SIGTERM, SIGHUP or Ctrl-C, it ends the step in progress or interrupts the evaluation in progress, saves, and
    returns the signal. It returns None where no signal came.

    Writes config.gin, metrics.jsonl, TensorBoard events, checkpoints/ and inference_eval/ there. A step that is
    both saved and evaluated is saved first, so that a failed evaluation costs no steps. The evaluation is pending from
    then on, and its score is added to the checkpoint. Raises UserError for what the user can fix.
    """
    directory = Path(config.model_dir)
    load = functools.partial(
        token_cache.load,
        task_module=config.dataset.module,
        data_dir=tfds_data_dir,
        use_cached=config.dataset.use_cached,
        seqio_additional_cache_dirs=seqio_additional_cache_dirs,
        vocabulary_file=config.dataset.vocabulary_file,
        input_lengths=config.dataset.input_lengths(),
    )
    task_names = functools.partial(token_cache.task_names, task_module=config.dataset.module, data_dir=tfds_data_dir)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        console = stack.enter_context(Console(directory.name, writes=hosts.writes()))
        config = with_lengths(config, load, console)
        context, state, progress = set_up(config, load, task_names, console, stack)
        start_step = int(state.step)
        is_over = start_step >= context.end_step or should_stop_early(config.evaluation, progress)
        if is_over and not progress.evaluation_pending:
            print(f"{directory} is complete at step {start_step:,}: nothing to train", file=sys.stderr)
            return None
        text = config_text()
        report_start(context, state, text, console)
        run_directory = stack.enter_context(
            RunDirectory(directory, text, context.data.cache.vocabulary.path, writes=hosts.writes())
        )
        run_directory.truncate_after(start_step, evaluated=not progress.evaluation_pending)
        console.start(start_step, context.end_step)

        peak = profiling.peak_flops_per_second(context.matmul_dtype)
        metrics = TrainMetrics(config.dataset.tokens_per_batch(), context.flops_step, peak)
        trace = profiling.Trace(directory / "profile" if profile and hosts.writes() else None, start_step)
        save = Save(context, metrics)
        evaluation = Evaluate(context, metrics, run_directory, console, stop)
        hooks: list[Hook] = [
            Profile(stack.enter_context(trace)),
            Log(context, metrics, run_directory, console, before=[evaluation, save]),
            BeginEvaluation(config.evaluation),
            save,  # before the evaluation, which may fail
            evaluation,
            StopEarly(config.evaluation),
            save,  # the score, or that the evaluation is pending
        ]
        event = run_loop(context, state, progress, metrics, hooks, console, stop)
        if event.preempted:
            line = f"{stop.name}: step {event.step:,} is saved; rerun the same command to resume"
            console.warn(line)
            return stop.signal
        if event.stop is not None:
            console.warn(event.stop)
    return None


def with_lengths(config: TrainConfig, load: Callable[[str, str], TokenCache], console: Console) -> TrainConfig:
    """Returns the config with row lengths, which are reported where they were chosen from the data."""
    dataset = choose_lengths(config.dataset, load)
    if dataset is not config.dataset:
        console.report(f"TASK_FEATURE_LENGTHS = {dataset.lengths()}: no example is longer")
    return dataclasses.replace(config, dataset=dataset)


def run_loop(
    context: TrainContext,
    state: TrainState,
    progress: Progress,
    metrics: TrainMetrics,
    hooks: Sequence[Hook],
    console: Console,
    stop: StopSignal,
) -> StepEvent:
    """Trains until the last step or until a hook or a signal stops the run; returns the last event.

    An evaluation that a signal interrupted comes before the first step.
    """
    step = int(state.step)
    while True:
        if not progress.evaluation_pending:
            batch = sharding.put_batch(context.data.train[step - progress.first_step], context.mesh)
            metrics.count_flops(state, batch)
            state, sums = context.train_step(state, batch)
            step += 1
            metrics.add(sums)
            console.count_step(step)
        event = StepEvent(step, state, progress, is_last=step == context.end_step, preempted=stop.requested())
        for hook in hooks:
            if hook.is_due(event):
                hook.run(event)
        if event.is_last or event.preempted or event.stop is not None:
            return event


def report_start(context: TrainContext, state: TrainState, config_text: str, console: Console) -> None:
    """Reports what trains on what, and where a resumed run continues, with the settings that have changed."""
    devices, config = jax.devices(), context.config
    lengths = " + ".join(f"{length} {name}" for name, length in config.dataset.lengths().items())
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    console.report_phase(f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})")
    console.report_phase(f"{parameters:,} parameters, batches of {config.dataset.batch_size} rows of {lengths} tokens")
    if context.checkpointer.latest is not None:
        changed = find_changed_macros(context.directory, config_text)
        words = "".join(f", {name}={new}, which was {old}" for name, (old, new) in changed.items())
        console.report(f"resuming from checkpoint {int(state.step):,}{words}")
    console.report_phase("compiling the train step")
