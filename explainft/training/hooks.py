"""What happens between train steps, each at its period: logging, evaluation, saving, early stopping.

The loop calls the hooks in order after each step. A new method adds a hook; hooks share a StepEvent and nothing else.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from explainft.checkpoints.progress import Progress
from explainft.evaluation import evaluate
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.evaluation.evaluator import Evaluator
from explainft.evaluation.loss_evaluation import evaluate_loss
from explainft.generation.generator import Generator
from explainft.generation.label_choice import LabelChooser, predictor
from explainft.generation.quantization import decode_parameters
from explainft.model.t5 import T5
from explainft.training.console import Console
from explainft.training.context import TrainContext
from explainft.training.metrics import TrainMetrics
from explainft.training.preemption import Stopped, StopSignal
from explainft.training.profiling import Trace
from explainft.training.run_directory import RunDirectory
from explainft.training.train_state import TrainState


@dataclasses.dataclass
class StepEvent:
    """The run after a step. `preempted` and `stop`, the reason to stop early, are set by hooks too."""

    step: int
    state: TrainState
    progress: Progress
    is_last: bool
    preempted: bool
    stop: str | None = None

    def is_due(self, period: int) -> bool:
        """Returns whether this is a step of the period, or the last step."""
        return self.step % period == 0 or self.is_last


class Hook(Protocol):
    """Something that the loop does after a step: `run(event)` where `is_due(event)`."""

    def is_due(self, event: StepEvent) -> bool: ...

    def run(self, event: StepEvent) -> None: ...


@dataclasses.dataclass
class Profile:
    """Traces a few steps."""

    trace: Trace

    def is_due(self, event: StepEvent) -> bool:
        return self.trace.is_due(event.step)

    def run(self, event: StepEvent) -> None:
        self.trace.toggle(event.state.step)


@dataclasses.dataclass
class Log:
    """Writes the metrics of the steps since the last line.

    Before an evaluation or a save too, `before`: what is counted here must not be lost between two saves.
    """

    context: TrainContext
    metrics: TrainMetrics
    run_directory: RunDirectory
    console: Console
    before: Sequence[Hook]

    def is_due(self, event: StepEvent) -> bool:
        if not self.metrics:
            return False
        # Not at the last step by itself: evaluation and saving are due then.
        periodic = event.step % self.context.config.log_period == 0
        return periodic or event.preempted or any(hook.is_due(event) for hook in self.before)

    def run(self, event: StepEvent) -> None:
        row = self.metrics.flush(event.step, event.progress, self.context.checkpointer)
        row["learning_rate"] = float(self.context.learning_rate(event.step - 1))
        self.run_directory.log({"step": event.step, **row})
        mfu = row["flops_per_second"] / row["peak_flops_per_second"]
        text = f"loss {row['loss']:.3f}, {row['examples_per_second']:,.0f} examples/s, {mfu:.0%} MFU"
        self.console.report_metrics(event.step, text)


@dataclasses.dataclass
class BeginEvaluation:
    """Records that an evaluation is due, so that a save before it saves that it is pending."""

    config: EvaluationConfig

    def is_due(self, event: StepEvent) -> bool:
        return event.is_due(self.config.period)

    def run(self, event: StepEvent) -> None:
        event.progress.begin_evaluation()


@dataclasses.dataclass
class Save:
    """Saves a checkpoint at its period, where the run ends, and of a new best score; prunes the others.

    It stands before the evaluation and after it: the second time, progress alone is new.
    """

    context: TrainContext
    metrics: TrainMetrics
    _saved: tuple[int, Progress] | None = None

    def is_due(self, event: StepEvent) -> bool:
        config = self.context.config.checkpoints
        is_best = config.keep_best and event.progress.best_step == event.step
        return event.is_due(config.period) or event.preempted or event.stop is not None or is_best

    def run(self, event: StepEvent) -> None:
        saved = event.step, dataclasses.replace(event.progress)
        if saved == self._saved:
            return
        checkpointer, state = self.context.checkpointer, event.state
        with self.metrics.timer.paused():
            checkpointer.save(event.step, state.params, state.opt_state, event.progress)
            checkpointer.prune(event.progress.best_step)
        self._saved = saved


@dataclasses.dataclass
class Evaluate:
    """Scores the parameters: teacher-forced loss, then the metric of decoded outputs. A signal interrupts it."""

    context: TrainContext
    metrics: TrainMetrics
    run_directory: RunDirectory
    console: Console
    stop: StopSignal

    def is_due(self, event: StepEvent) -> bool:
        return event.is_due(self.context.config.evaluation.period) or event.progress.evaluation_pending

    def run(self, event: StepEvent) -> None:
        with self.metrics.timer.paused():
            try:
                score = self._score(event.step, event.state.params)
            except Stopped:
                event.preempted = True
                return
            event.progress.record_score(event.step, score)
        self.console.report_score(event.step, f"{self.context.config.evaluation.metric} {score:.3f}")

    def _score(self, step: int, params: Any) -> float:
        context, config, data = self.context, self.context.config, self.context.data
        model = T5(config.model.config, config.model.execution.for_inference())
        losses = evaluate_loss(
            model,
            context.loss,
            params,
            data.validation,
            context.mesh,
            config.evaluation.eval_steps,
            self.stop.check,
        )
        decode_params = decode_parameters(config.model.config, params, output_ids=data.output_ids)

        def generator_for(evaluator: Evaluator) -> Generator | LabelChooser:
            return predictor(model, decode_params, evaluator.cache, config.evaluation.batch_size)

        directory = self.run_directory.path / evaluate.DIRECTORY
        metrics = evaluate.evaluate_tasks(data.evaluators, generator_for, step, directory, self.stop.check)
        for task, scores in metrics.items():
            self.run_directory.tensorboard(step, {f"inference_eval/{task}/{k}": v for k, v in scores.items()})
        self.run_directory.log({"step": step, **{f"eval/{name}": value for name, value in losses.items()}})
        return sum(scores[config.evaluation.metric] for scores in metrics.values()) / len(metrics)


@dataclasses.dataclass
class StopEarly:
    """Ends the run after `patience` evaluations without a better score."""

    config: EvaluationConfig

    def is_due(self, event: StepEvent) -> bool:
        return should_stop_early(self.config, event.progress)

    def run(self, event: StepEvent) -> None:
        event.stop = f"{self.config.metric} has not risen in {self.config.patience} evaluations: stopped"


def should_stop_early(config: EvaluationConfig, progress: Progress) -> bool:
    """Returns whether the score has not risen in `patience` evaluations."""
    return config.patience is not None and progress.evaluations_without_gain >= config.patience
