"""A trial of a sweep: what is trained and scored, and its result, which one small JSON file holds."""

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
    """One combination of axis values: what is trained, and the evaluation mixtures that score it.

    `recipe_module` is the task module that the recipe names, where no macro of the trial names one.
    """

    sweep: str
    axis_values: dict[str, str]
    gin_file: str
    macros: dict[str, Any]
    mixtures: tuple[str, ...]
    run: Path
    recipe_module: str = "tasks"

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def module(self) -> str:
        """The module that registers the tasks."""
        return self.macros.get(MODULE, self.recipe_module)

    def commands(self) -> list[list[str]]:
        """Returns the arguments of `explainft` that train the trial and then score it on each mixture."""
        macros = {"MODEL_DIR": str(self.run), **self.macros}
        bindings = [f"--gin.{name}={value}" for name, value in macros.items()]
        module = [f"--module={macros[MODULE]}"] if MODULE in macros else []
        return [
            ["train", f"--gin_file={self.gin_file}", *bindings],
            *(["eval", str(self.run), "--mixture", mixture, *module] for mixture in self.mixtures),
        ]

    def lines(self) -> list[str]:
        """Returns the commands as a shell takes them."""
        return [shlex.join(["explainft", *command]) for command in self.commands()]

    @property
    def log(self) -> Path:
        return self.run.with_name(self.name + LOG_SUFFIX)

    def is_scored(self, mixture: str, step: int) -> bool:
        """Returns whether the run's directory still has the scores of this sweep's own evaluation.

        An evaluation during training, or one that a user started, may have other examples or another decode dtype.
        """
        try:
            noted = json.loads(self._scored_file(mixture).read_text())
        except (OSError, ValueError, RecursionError):  # absent or corrupt: score it again
            return False
        return noted == self._scores(mixture, step)

    def note_scored(self, mixture: str, step: int) -> None:
        """Records the scores that this sweep's own evaluation wrote. Raises UserError where it cannot."""
        with refuse_unwritable(self.run), atomic_write(self._scored_file(mixture)) as scratch:
            scratch.write_text(json.dumps(self._scores(mixture, step)))

    def _scored_file(self, mixture: str) -> Path:
        return self.run.with_name(f"{self.name}.{mixture}{SCORED_SUFFIX}")

    def _scores(self, mixture: str, step: int) -> dict[str, Any]:
        """Returns the metrics of the step, by task, for the tasks that have a predictions file."""
        evaluations = read_run(self.run).evaluations
        predictions = self.run / "inference_eval"
        return {
            task: evaluations.get(task, {}).get(step)
            for task in token_cache.task_names(mixture, self.module)
            if (predictions / f"{task}-{step:06d}.jsonl").is_file()
        }

    def check_config_hash(self, config_hash: str) -> None:
        """Raises UserError where the directory holds a run of another config; records the hash in a new one."""
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
    """Contains what can be computed of a trial before it is trained.

    `config_hash` identifies its training, `result_hash` its result: another evaluation needs new scores, but no new
    training.
    """

    config_hash: str
    result_hash: str
    evaluation: str
    steps: int  # the last step; those of the initial checkpoint count
    parameters: int
    flops: int  # of its own train steps
    module: str = "tasks"  # that registers the training task


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
    curve_tasks = [run.evaluations.get(task, {}) for task in token_cache.task_names(plan.evaluation, trial.module)]
    curve = []
    for step in sorted(set.intersection(*map(set, curve_tasks))):
        rows = [by_step[step] for by_step in curve_tasks]
        # The mean over the tasks of a mixture, as during training; a user's task may have metrics of other names.
        exact_match, n = ([row[name] for row in rows if name in row] for name in ("exact_match", "n"))
        examples = round(run.at(step, "examples") or 0)
        curve.append([step, examples, statistics.mean(exact_match) if exact_match else None, sum(n) if n else None])
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
    """Rounds to five significant digits."""
    return float(f"{value:.5g}")


def made_with() -> dict[str, Any]:
    """Returns the machine and the versions that a result was made with."""
    return {
        "explainft": __version__,
        "commit": _commit(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "cpu": cpu(),
    }


def _commit() -> str | None:
    """Returns the commit of the checkout that this package is in, with a "+" where the package has changes.

    Returns None outside of a checkout. An installed copy may lie inside another project's checkout.
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
    """Returns the name of this machine's processor."""
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
