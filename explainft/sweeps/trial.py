"""A trial of a sweep: what is trained and scored, and what that has given, a small JSON file."""

import dataclasses
import functools
import json
import platform
import shlex
import statistics
import subprocess
from pathlib import Path
from typing import Any

import jax

from explainft import __version__
from explainft.checkpoints import run_checkpoint
from explainft.core.atomic_files import atomic_write, refuse_unwritable
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.reporting.predictions import read_predictions
from explainft.reporting.runs import CONFIG_HASH_SUFFIX, LOG_SUFFIX, SCORED_SUFFIX, read_run
from explainft.sweeps.results import read_result, result_path

MODULE = "MIXTURE_OR_TASK_MODULE"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One combination: what is trained, and on what it is scored."""

    sweep: str
    axis_values: dict[str, str]
    gin_file: str
    macros: dict[str, Any]
    mixtures: tuple[str, ...]
    run: Path

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def module(self) -> str:
        """Of the tasks."""
        return self.macros.get(MODULE, "tasks")

    def commands(self) -> list[list[str]]:
        """What to type after `explainft`, one command after the other."""
        macros = {"MODEL_DIR": str(self.run), **self.macros}
        bindings = [f"--gin.{name}={value}" for name, value in macros.items()]
        module = [f"--module={macros[MODULE]}"] if MODULE in macros else []
        return [
            ["train", f"--gin_file={self.gin_file}", *bindings],
            *(["eval", str(self.run), "--mixture", mixture, *module] for mixture in self.mixtures),
        ]

    def lines(self) -> list[str]:
        return [shlex.join(["explainft", *command]) for command in self.commands()]

    @property
    def log(self) -> Path:
        return self.run.with_name(self.name + LOG_SUFFIX)

    def is_scored(self, mixture: str, step: int) -> bool:
        """Whether the run's folder still has what this sweep's own evaluation wrote, in an earlier try.

        A run's last evaluation while it trains, or one by hand, may be of other examples or with other kernels.
        """
        file = self._scored(mixture)
        return file.is_file() and json.loads(file.read_text()) == self._scores(mixture, step)

    def note_scored(self, mixture: str, step: int) -> None:
        with refuse_unwritable(self.run), atomic_write(self._scored(mixture)) as scratch:
            scratch.write_text(json.dumps(self._scores(mixture, step)))

    def _scored(self, mixture: str) -> Path:
        return self.run.with_name(f"{self.name}.{mixture}{SCORED_SUFFIX}")

    def _scores(self, mixture: str, step: int) -> dict[str, Any]:
        """What the run's folder holds of an evaluation of the step: of each task its metrics, where predictions are."""
        evaluations = read_run(self.run).evaluations
        predictions = self.run / "inference_eval"
        return {
            task: evaluations.get(task, {}).get(step)
            for task in token_cache.task_names(mixture, self.module)
            if (predictions / f"{task}-{step:06d}.jsonl").is_file()
        }

    def check_config_hash(self, config_hash: str) -> None:
        """Refuses a directory that holds a run of another config: its result would be taken for this trial's."""
        file = self.run.with_name(self.name + CONFIG_HASH_SUFFIX)
        found = file.read_text() if file.is_file() else "unknown"
        if found == config_hash:
            return
        if self.run.exists():
            raise UserError(f"{self.run} holds a run of another config; delete it to train the trial")
        with refuse_unwritable(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as scratch:
                scratch.write_text(config_hash)


@dataclasses.dataclass(frozen=True)
class TrialPlan:
    """What is known of a trial before it is trained.

    `config_hash` identifies its training, `result_hash` its result: another evaluation needs more scores, but no
    other training.
    """

    config_hash: str
    result_hash: str
    evaluation: str
    steps: int  # at which it ends; of pre-training too, where that counts
    parameters: int
    flops: int  # of the updates that it makes itself


def result_of(trial: Trial, plan: TrialPlan) -> dict[str, Any]:
    """Returns the content of a trial's result file. Raises UserError where its run is incomplete."""
    steps = plan.steps
    run = read_run(trial.run)
    last = max(run.train, default=0)
    if last < steps:
        raise UserError(f"stopped at step {last:,} of {steps:,}; rerun the same command to resume")
    vocabulary = run_checkpoint.open_run(trial.run).tokenizer()
    decoded = {found.task: found.texts for found in read_predictions(run) if found.step == steps}
    evaluations = {}
    for task, by_step in run.evaluations.items():
        if steps in by_step:
            evaluations[task] = {name: rounded(value) for name, value in by_step[steps].items() if name != "step"}
            if task in decoded:
                tokens = statistics.mean(len(vocabulary.encode(text)) + 1 for text in decoded[task])  # EOS counts
                evaluations[task]["decoded_tokens"] = rounded(tokens)
    followed = [run.evaluations.get(task, {}) for task in token_cache.task_names(plan.evaluation, trial.module)]
    curve = []
    for step in sorted(set.intersection(*map(set, followed))):
        rows = [by_step[step] for by_step in followed]
        # Of a mixture the mean of its tasks, as the run counts it; metrics of a user's task may have other names.
        right, n = ([row[name] for row in rows if name in row] for name in ("exact_match", "n"))
        seen = round(run.at(step, "examples") or 0)
        curve.append([step, seen, statistics.mean(right) if right else None, sum(n) if n else None])
    return {
        "sweep": trial.sweep,
        "axis_values": trial.axis_values,
        "result_hash": plan.result_hash,
        "commands": trial.lines(),
        "parameters": plan.parameters,
        "steps": steps,
        "examples": round(run.train[last]["examples"]),
        "flops": plan.flops,
        "seconds": rounded(run.train[last]["seconds"]),
        "final_loss": rounded(run.train[last]["loss"]),
        "curve": {"columns": ["step", "examples", "exact_match", "n"], "rows": curve},
        "evaluations": evaluations,
    }


def rounded(value: float) -> float:
    return float(f"{value:.5g}")


def made_with() -> dict[str, Any]:
    """The machine and the program, for a reader of the results."""
    return {
        "explainft": __version__,
        "commit": _commit(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "cpu": cpu(),
    }


def _commit() -> str | None:
    """The checkout that this package is part of, with a "+" where the package has been changed; None where it is not.

    An installed copy may lie inside another project's checkout.
    """
    git = functools.partial(subprocess.run, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    try:
        tracked = git(["git", "ls-files", "--error-unmatch", "__init__.py"])
        if tracked.returncode:
            return None
        changed = git(["git", "diff", "--quiet", "HEAD", "--", "."]).returncode
        return git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip() + ("+" if changed else "")
    except OSError:  # no git here
        return None


def cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def read_trial_result(results: Path, trial: Trial, plan: TrialPlan) -> dict[str, Any] | None:
    """Returns the trial's result; None where it has none, or one of another config or other evaluations."""
    path = result_path(results, trial.sweep, trial.name)
    result = read_result(path) if path.is_file() else None
    return result if result is not None and result["result_hash"] == plan.result_hash else None
