"""A grid of runs: each trial is trained and scored, and writes one small JSON file. A trial with a file is skipped.

A trial runs `explainft train` and then `explainft eval`, which the user may run as well.
"""

import dataclasses
import itertools
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from explainft.core.errors import UserError, require_name, require_positive
from explainft.data import token_cache
from explainft.recipes import recipe
from explainft.reporting.runs import CONFIG_HASH_SUFFIX, LOG_SUFFIX, SCORED_SUFFIX
from explainft.sweeps.cost_model import describe_cost, make_trial_plans, max_parallel_jobs
from explainft.sweeps.results import result_path, summary, table, write_result
from explainft.sweeps.runner import Runner, build_data
from explainft.sweeps.trial import Trial, TrialPlan, made_with, read_trial_result, result_of, rounded
from explainft.training.run_directory import locked

FILE_NAME = re.compile(r"\w[\w.+=,%-]*")  # and not .. or -x
MAX_FILE_NAME = 255  # bytes, of Linux and macOS
RECIPE = "recipe"  # is given beside the macros of an axis's value


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Defines a sweep: its trials are all combinations of the axes' values, and the last axis varies fastest.

    `axes` maps each value of each axis to the macros that it sets: {"seed": {"0": {"RANDOM_SEED": 0}, ...}}.
    A later axis overrides an earlier one. One of them, or `recipe`, names the gin file: {"none": {"recipe": "..."}}.
    `evaluations` are the mixtures that each trial is scored on. In strings, the name of an axis in braces stands for
    the trial's value: "explained_tiny_{style}_eval".
    `data` are configs of explained_listops that are built first. `jobs` is the number of runs at once unless --jobs is
    given; None: as many as cores and memory allow, and one on an accelerator.
    """

    axes: dict[str, dict[str, dict[str, Any]]]
    evaluations: Sequence[str]
    recipe: str | None = None
    data: Sequence[str] = ()
    jobs: int | None = None

    def __post_init__(self):
        check_axes(self.axes)
        for axis, values in self.axes.items():
            for macro in {macro for macros in values.values() for macro in macros}:
                if macro.rpartition(".")[2].upper() == "MODEL_DIR":
                    raise UserError(f"axis {axis!r} sets {macro}, which the sweep chooses for each trial; remove it")
        for name, listed in (("evaluations", self.evaluations), ("data", self.data)):
            if isinstance(listed, str):
                raise UserError(f"{name}={listed!r} must be a list of names: [{listed!r}]")
        if self.jobs is not None:
            require_positive(jobs=self.jobs)
        if not self.evaluations:
            raise UserError("evaluations=() is empty; name the mixture to score each trial on")

    def trials(self, name: str, runs: Path) -> list["Trial"]:
        """Returns the trials of the sweep `name`, whose runs are in `runs`/`name`. Raises UserError."""
        found = []
        for values in itertools.product(*self.axes.values()):
            axis_values = dict(zip(self.axes, values, strict=True))
            macros: dict[str, Any] = {RECIPE: self.recipe}
            for axis, value in axis_values.items():
                macros |= self.axes[axis][value]
            macros = {name: _fill_axis_values(value, axis_values) for name, value in macros.items()}
            gin_file = macros.pop(RECIPE)
            if gin_file is None:
                raise UserError(f"trial {axis_values} has no recipe; give one to the sweep or to the value of an axis")
            mixtures = tuple(_fill_axis_values(mixture, axis_values) for mixture in self.evaluations)
            run = runs / name / "-".join(values)
            found.append(Trial(name, axis_values, gin_file, macros, mixtures, run))
            require_short(*(f"{run.name}.{mixture}{SCORED_SUFFIX}" for mixture in mixtures))
        for name, times in Counter(trial.name for trial in found).items():
            if times > 1:
                raise UserError(f"{times} trials would be named {name!r}; change the values of an axis")
        return found


def check_axes(axes: Any) -> None:
    """Refuses axes that do not map values, which name directories, to dictionaries."""
    if not isinstance(axes, dict) or not axes:
        raise UserError(f"axes={axes!r} must give the values of at least one axis")
    for axis, values in axes.items():
        if not isinstance(values, dict) or not all(isinstance(macros, dict) for macros in values.values()):
            raise UserError(f"axis {axis!r} must give each of its values a dictionary of macros, {{}} for none")
        for value in values:
            require_file_name(**{f"axis {axis!r}, value": value})


def require_file_name(**values: object) -> None:
    """Raises UserError for a value that cannot be, or is the start of, the name of a run's directory."""
    require_name(**values)
    for name, value in values.items():
        taken = str(value).endswith((CONFIG_HASH_SUFFIX, LOG_SUFFIX, SCORED_SUFFIX))
        if taken or not FILE_NAME.fullmatch(str(value)):
            raise UserError(
                f"{name}={value!r} names directories of runs; start with a letter or digit, go on with these or any of "
                f"_ . + = , % -, and end in none of {CONFIG_HASH_SUFFIX}, {LOG_SUFFIX} and {SCORED_SUFFIX}"
            )


def require_short(*names: str) -> None:
    """Raises UserError for a name that no file can have."""
    for name in names:
        if (length := len(name.encode())) > MAX_FILE_NAME:
            raise UserError(
                f"the values of the axes name a file of {length} bytes, {name[:40]}..., and names have at most "
                f"{MAX_FILE_NAME}; give the axes shorter values"
            )


def _fill_axis_values(value: Any, axis_values: dict[str, str]) -> Any:
    """Returns a string with the trial's values for the axes in braces; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return value.format(**axis_values)
    except KeyError as e:
        raise UserError(f"{value!r} names the axis {e}; axes: {', '.join(axis_values)}") from e
    except (IndexError, ValueError) as e:
        raise UserError(f"{value!r}: {e}; braces hold the name of an axis ({', '.join(axis_values)})") from e


def run(
    file: str,
    bindings: Sequence[str] = (),
    runs: Path = Path("runs"),
    results: Path = Path("results"),
    jobs: int | None = None,
    dry_run: bool = False,
    tfds_data_dir: str | None = None,
) -> None:
    """Runs the pending trials of a sweep, `jobs` at a time (None: the sweep's own number).

    Writes results/<sweep>/<trial>.json for each and prints a line; once all are complete, prints a table of them.
    SIGTERM and Ctrl-C let the runs save; the same command resumes them. Raises UserError where a trial failed, after
    the others are complete.
    """
    name = Path(file).stem
    require_file_name(**{"the name of the sweep's file": name})
    if not Path(file).is_file():
        raise UserError(f"no sweep {file!r} in {Path.cwd()}; give the path of one, as experiments/sizes.gin")
    sweep: Sweep = recipe.load([file], bindings, command="sweep").build(Sweep)()
    trials = sweep.trials(name, runs)
    if tfds_data_dir is not None:
        os.environ["TFDS_DATA_DIR"] = tfds_data_dir  # where tasks are looked up below
    jax.config.update("jax_platforms", "cpu")  # an accelerator is the runs'
    plans = make_trial_plans(trials)
    trials = [dataclasses.replace(trial, recipe_module=plans[trial.name].module) for trial in trials]
    for mixture, module in {(mixture, trial.module) for trial in trials for mixture in trial.mixtures}:
        token_cache.task_names(mixture, module)  # raises for what would be unknown after hours of training

    def read_results() -> dict[str, dict[str, Any]]:
        read = {trial.name: read_trial_result(results, trial, plans[trial.name]) for trial in trials}
        return {trial: result for trial, result in read.items() if result is not None}

    done = read_results()
    pending = [trial for trial in trials if trial.name not in done]
    jobs = jobs or sweep.jobs or max_parallel_jobs(list(done.values()))
    cost = describe_cost([plans[trial.name] for trial in pending], list(done.values()), jobs)
    print(f"{name}: {len(trials)} trials, {cost}")
    if dry_run:
        for trial in pending:
            print("\n".join(trial.lines()))
        return
    if pending:
        data_flags = [f"--tfds_data_dir={tfds_data_dir}"] if tfds_data_dir else []
        with locked(runs / name):
            build_data(sweep.data, data_flags)
            failed = run_trials(pending, plans, Runner(jobs, data_flags), results)
        if failed:
            logs = runs / name / f"<trial>{LOG_SUFFIX}"
            raise UserError(f"{len(failed)} trials failed: {', '.join(failed)}; see {logs} for the reasons")
    print(table(read_results().values()))


def _run_trial(
    trial: Trial, plan: TrialPlan, runner: Runner, results: Path, machine: dict[str, Any]
) -> Callable[[], str]:
    """Returns the function that trains and scores a trial, writes its result and returns a line about it."""

    def run() -> str:
        peak = 0
        started = time.monotonic()
        trial.check_config_hash(plan.config_hash)
        for mixture, command in zip((None, *trial.mixtures), trial.commands(), strict=True):
            if mixture and trial.is_scored(mixture, plan.steps):
                continue
            peak = max(peak, runner.run_command(command, trial.log))
            if mixture:
                trial.note_scored(mixture, plan.steps)
        result = result_of(trial, plan)
        # A resumed trial was partly trained by an earlier command.
        wall = max(time.monotonic() - started, result["seconds"])
        result |= {"wall_seconds": rounded(wall), "peak_bytes": peak, "made_with": machine}
        write_result(result_path(results, trial.sweep, trial.name), result)
        return summary(result)

    return run


def run_trials(trials: Sequence[Trial], plans: Mapping[str, TrialPlan], runner: Runner, results: Path) -> list[str]:
    """Runs trials, and writes a result for each; returns the names of those that failed."""
    machine = made_with()  # before hours in which the checkout may change
    return runner.run({trial.name: _run_trial(trial, plans[trial.name], runner, results, machine) for trial in trials})
