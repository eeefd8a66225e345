"""A grid of runs: each cell is trained, scored, and ends as one small JSON file; what has its file is not done again.

A cell is two kinds of commands that anybody can give by hand, `explainft train` and `explainft eval`, and runs as its
own processes on its own cores: one run on one core and another on the next take less time than both on two cores each.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import platform
import queue
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from explainft import __version__, checkpoint, flops, plan, profiling, recipe, sharding, token_cache, train
from explainft.errors import UserError, require_name, require_positive
from explainft.run_folder import locked, writing
from explainft.runs import read_predictions, read_run, variant_and_split
from explainft.train_state import abstract_state
from explainft.workers import available_cores

EXPLAINFT = (sys.executable, "-m", "explainft.main")
MODULE = "MIXTURE_OR_TASK_MODULE"
RECIPE = "recipe"  # stands beside the macros of an axis's value
MEMORY_A_RUN = 2 * 2**30  # bytes, before the first cell of a sweep has told its own
SHARE_OF_PEAK = 0.3  # of the measured FLOP/s: what a small network reaches on a CPU, before the first cell has told


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The cells are all combinations of the axes' values, those of the last axis next to each other.

    `axes` gives for each value of each axis the macros that it stands for: {"seed": {"0": {"RANDOM_SEED": 0}, ...}}.
    A later axis has the last word. One of them, or `recipe`, names the gin file: {"none": {"recipe": "..."}}.
    `evaluations` are the mixtures that each cell is scored on. A text may hold axes in braces, to be filled in for each
    cell: "explained_tiny_{style}_eval".
    `data` are configs of the dataset that are built first. `jobs` run at once where the command does not say; None: as
    many as cores and memory allow, which an accelerator has no room for.
    """

    axes: dict[str, dict[str, dict[str, Any]]]
    evaluations: Sequence[str]
    recipe: str | None = None
    data: Sequence[str] = ()
    jobs: int | None = None

    def __post_init__(self):
        if not isinstance(self.axes, dict) or not self.axes:
            raise UserError(f"axes={self.axes!r} must give the values of at least one axis")
        for axis, values in self.axes.items():
            if not isinstance(values, dict) or not all(isinstance(macros, dict) for macros in values.values()):
                raise UserError(f"axis {axis!r} must give each of its values a dictionary of macros, {{}} for none")
            for value in values:
                require_name(**{f"axis {axis!r}, value": value})
                if "/" in value:
                    raise UserError(f"axis {axis!r}, value={value!r} names files and cannot hold a slash")
        for name, listed in (("evaluations", self.evaluations), ("data", self.data)):
            if isinstance(listed, str):
                raise UserError(f"{name}={listed!r} must be a list of names: [{listed!r}]")
        if self.jobs is not None:
            require_positive(jobs=self.jobs)
        if not self.evaluations:
            raise UserError("evaluations=() is empty; name the mixture to score each cell on")

    def cells(self, name: str, runs: Path) -> list["Cell"]:
        found = []
        for values in itertools.product(*self.axes.values()):
            labels = dict(zip(self.axes, values, strict=True))
            macros: dict[str, Any] = {RECIPE: self.recipe}
            for axis, value in labels.items():
                macros |= self.axes[axis][value]
            macros = {name: _with_labels(value, labels) for name, value in macros.items()}
            gin_file = macros.pop(RECIPE)
            if gin_file is None:
                raise UserError(f"cell {labels} has no recipe; give one to the sweep or to the value of an axis")
            mixtures = tuple(_with_labels(mixture, labels) for mixture in self.evaluations)
            run = runs / name / "-".join(values)
            found.append(Cell(name, labels, gin_file, macros, mixtures, run))
        for name, times in Counter(cell.name for cell in found).items():
            if times > 1:
                raise UserError(f"{times} cells would be named {name!r}; change the values of an axis")
        return found


def _with_labels(value: Any, labels: dict[str, str]) -> Any:
    """A text with the cell's own values for the axes in braces; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return value.format(**labels)
    except KeyError as e:
        raise UserError(f"{value!r} names the axis {e}; axes: {', '.join(labels)}") from e
    except (IndexError, ValueError) as e:
        raise UserError(f"{value!r}: {e}; braces hold the name of an axis ({', '.join(labels)})") from e


@dataclasses.dataclass(frozen=True)
class Cell:
    """One combination: what is trained, and on what it is scored."""

    sweep: str
    labels: dict[str, str]
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
        return self.run.with_name(f"{self.name}.log")

    def is_scored(self, mixture: str, step: int) -> bool:
        """Whether the run's folder has what an evaluation of an earlier try gave."""
        folder = self.run / "inference_eval"
        tasks = token_cache.task_names(mixture, self.module)
        evaluations = read_run(self.run).evaluations
        return all(
            step in evaluations.get(task, {}) and (folder / f"{task}-{step:06d}.jsonl").is_file() for task in tasks
        )

    def claim(self, settings: str) -> None:
        """Refuses a folder that holds a run with other settings: its outcome would be taken for this cell's."""
        file = self.run.with_name(f"{self.name}.settings")
        found = file.read_text() if file.is_file() else "unknown"
        if found != settings and self.run.exists():
            raise UserError(f"{self.run} holds a run with other settings; delete it, and the cell is trained anew")
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(settings)


@dataclasses.dataclass(frozen=True)
class Training:
    """What is known of a cell before it is trained.

    `settings` tells its training from others, `identity` its result: with another evaluation more is to be scored, and
    nothing trained anew.
    """

    settings: str
    identity: str
    evaluation: str
    steps: int  # at which it ends; of pre-training too, where that counts
    parameters: int
    flops: int  # of the updates that it makes itself


def run(
    file: str,
    bindings: Sequence[str] = (),
    runs: Path = Path("runs"),
    results: Path = Path("results"),
    jobs: int | None = None,
    dry_run: bool = False,
    tfds_data_dir: str | None = None,
) -> None:
    """Does what is missing of a sweep's cells, `jobs` at a time (None: as the sweep says).

    Writes results/<sweep>/<cell>.json for each, and prints a line. SIGTERM and Ctrl-C let the runs save; the same
    command goes on. Raises UserError where a cell failed, after the others were done.
    """
    name = Path(file).stem
    if not Path(file).is_file():
        raise UserError(f"no sweep {file!r} in {Path.cwd()}; give the path of one, as experiments/sizes.gin")
    recipe.load([file], bindings)
    sweep: Sweep = recipe.configured(Sweep)()
    cells = sweep.cells(name, runs)
    jax.config.update("jax_platforms", "cpu")  # an accelerator is the runs'
    trainings = read_trainings(cells)
    known = {cell.name: read_result(results, cell, trainings[cell.name]) for cell in cells}
    missing = [cell for cell in cells if known[cell.name] is None]
    done = [result for result in known.values() if result is not None]
    jobs = jobs or sweep.jobs or jobs_that_fit(done)
    print(f"{name}: {len(cells)} cells, {forecast([trainings[cell.name] for cell in missing], done, jobs)}")
    if dry_run:
        for cell in missing:
            print("\n".join(cell.lines()))
        return
    if not missing:
        return
    data_flags = [f"--tfds_data_dir={tfds_data_dir}"] if tfds_data_dir else []
    with locked(runs / name):
        for config in sweep.data:
            build = [*EXPLAINFT, "data", "build", "--config", config, *data_flags]
            if subprocess.run(build, stdout=subprocess.DEVNULL).returncode:
                raise UserError(f"the data {config!r} of the sweep cannot be built; mend what is said above")
        for mixture, module in {(m, cell.module) for cell in missing for m in cell.mixtures}:
            token_cache.task_names(mixture, module)  # raises for what would be unknown after hours of training
        failed = Runner(results, trainings, jobs, data_flags).run(missing)
    if failed:
        raise UserError(f"{len(failed)} cells failed: {', '.join(failed)}; why stands in {runs / name}/<cell>.log")


class Runner:
    """Runs cells, each in one of `jobs` places that have a share of the cores of their own."""

    def __init__(self, results: Path, trainings: dict[str, Training], jobs: int, data_flags: Sequence[str]):
        self._results = results
        self._trainings = trainings
        self._jobs = jobs
        self._data_flags = data_flags
        self._made_with = made_with()  # before hours in which the checkout may change
        self._running: set[int] = set()  # process numbers
        self._stopping: int | None = None  # the signal

    def run(self, cells: Sequence[Cell]) -> list[str]:
        """The names of those that failed. Told to stop, it lets the runs save and exits as a signal would end it."""
        failed = []
        before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            with (
                ThreadPoolExecutor(self._jobs, initializer=_take_cores, initargs=(_shares(self._jobs),)) as pool,
                tqdm(total=len(cells), unit=" cells", disable=None) as bar,
            ):
                for future in as_completed([pool.submit(self._cell, cell) for cell in cells]):
                    cell, line, ok = future.result()
                    if self._stopping:
                        continue
                    bar.update()
                    bar.write(f"{cell.name}: {line}", file=sys.stdout)
                    sys.stdout.flush()
                    if not ok:
                        failed.append(cell.name)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._stopping:
            print("stopped; the same command goes on", file=sys.stderr)
            sys.exit(128 + self._stopping)
        return failed

    def _stop(self, number: int, _: Any) -> None:
        self._stopping = number
        for pid in list(self._running):
            self._pass_on(pid)

    def _pass_on(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGTERM)

    def _cell(self, cell: Cell) -> tuple[Cell, str, bool]:
        """The cell, a line about it, and whether it went well."""
        training = self._trainings[cell.name]
        peak = 0
        started = time.monotonic()
        try:
            cell.claim(training.settings)
            for mixture, command in zip((None, *cell.mixtures), cell.commands(), strict=True):
                if self._stopping:
                    return cell, "", True
                if mixture and cell.is_scored(mixture, training.steps):
                    continue
                code, usage = self._process(command, cell.log)
                peak = max(peak, usage.ru_maxrss * 1024)
                if code:
                    return cell, f"{command[0]} ended with {code}; see {cell.log}", False
            result = result_of(cell, training)
            # What an earlier try had trained was not trained now.
            wall = max(time.monotonic() - started, result["seconds"])
            result |= {"wall_seconds": _rounded(wall), "peak_bytes": peak, "made_with": self._made_with}
            write_result(self._results, cell, result)
        except UserError as e:
            return cell, e.line, False
        return cell, summary(result), True

    def _process(self, command: list[str], log: Path) -> tuple[int, Any]:
        with writing(log), open(log, "a", encoding="utf-8") as file:
            file.write(shlex.join(["explainft", *command]) + "\n")
            file.flush()
            process = subprocess.Popen(
                [*EXPLAINFT, *command, *self._data_flags],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is passed on by this process, once
            )
            self._running.add(process.pid)
            if self._stopping:  # the signal may have come before the number was known
                self._pass_on(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            self._running.discard(process.pid)
            process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, usage


def _shares(jobs: int) -> "queue.SimpleQueue[set[int]]":
    """The cores dealt out to the jobs; with more jobs than cores, some share one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    shares: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    for job in range(jobs):
        shares.put(set(cores[job::jobs]) or set(cores[job % len(cores) : job % len(cores) + 1] if cores else ()))
    return shares


def _take_cores(shares: "queue.SimpleQueue[set[int]]") -> None:
    """A thread's cores are those of the processes that it starts."""
    if cores := shares.get():
        os.sched_setaffinity(0, cores)


# ---- what a cell has given


def result_of(cell: Cell, training: Training) -> dict[str, Any]:
    """What stands in a cell's file. Raises UserError where its run was cut off."""
    steps = training.steps
    run = read_run(cell.run)
    last = max(run.train, default=0)
    if last < steps:
        raise UserError(f"stopped at step {last:,} of {steps:,}; the same command goes on")
    vocabulary = checkpoint.weights(cell.run).tokenizer()
    decoded = {found.task: found.texts for found in read_predictions(run) if found.step == steps}
    evaluations = {}
    curve = []
    for task, by_step in run.evaluations.items():
        if steps in by_step and task in decoded:
            tokens = statistics.mean(len(vocabulary.encode(text)) + 1 for text in decoded[task])  # EOS counts
            metrics = {**by_step[steps], "decoded_tokens": tokens}
            evaluations[task] = {name: _rounded(value) for name, value in metrics.items() if name != "step"}
        curve += [[step, round(run.at(step, "examples") or 0), row["exact_match"], row["n"]]
                  for step, row in by_step.items() if task == training.evaluation]  # fmt: skip
    return {
        "sweep": cell.sweep,
        "labels": cell.labels,
        "identity": training.identity,
        "commands": cell.lines(),
        "parameters": training.parameters,
        "steps": steps,
        "examples": round(run.train[last]["examples"]),
        "flops": training.flops,
        "seconds": _rounded(run.train[last]["seconds"]),
        "final_loss": _rounded(run.train[last]["loss"]),
        "curve": {"columns": ["step", "examples", "exact_match", "n"], "rows": curve},
        "evaluations": evaluations,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def made_with() -> dict[str, Any]:
    """The machine and the program, for a reader of the results."""
    return {
        "explainft": __version__,
        "commit": _commit(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "cpu": _cpu(),
    }


def _commit() -> str | None:
    """The checkout that this package is part of, with a "+" where the package has been changed; None where it is not.

    An installed copy may lie inside another project's checkout.
    """
    git = functools.partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True)
    try:
        tracked = git(["git", "ls-files", "--error-unmatch", "__init__.py"])
        if tracked.returncode:
            return None
        changed = git(["git", "diff", "--quiet", "HEAD", "--", "."]).returncode
        return git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip() + ("+" if changed else "")
    except OSError:  # no git here
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def summary(result: dict[str, Any]) -> str:
    cells = []
    for task, metrics in result["evaluations"].items():
        low, high = 100 * metrics["exact_match_low"], 100 * metrics["exact_match_high"]
        variant, split = variant_and_split(task)
        name = f"{variant.removeprefix('explained_')} {split}"
        cells.append(f"{name} {metrics['exact_match']:.1%} [{low:.1f}, {high:.1f}]")
    return f"{', '.join(cells)}; {result['seconds']:,.0f} s of training"


def read_result(folder: Path, cell: Cell, training: Training) -> dict[str, Any] | None:
    """The cell's file; None where there is none, or where it is of other settings."""
    path = _path(folder, cell)
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        return result if result["identity"] == training.identity else None
    except (ValueError, KeyError) as e:
        raise UserError(f"{path} is damaged ({e}); delete it, and the cell is done again") from e


def write_result(folder: Path, cell: Cell, result: dict[str, Any]) -> None:
    path = _path(folder, cell)
    scratch = path.with_suffix(".tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        scratch.rename(path)


def _path(folder: Path, cell: Cell) -> Path:
    return folder / cell.sweep / f"{cell.name}.json"


# ---- how long it will take


def read_trainings(cells: Sequence[Cell]) -> dict[str, Training]:
    """By the cells' names; every macro is read now, not after hours of other cells. To be called in the main thread:
    gin's settings are those of the process.

    An update is traced for its FLOPs, not compiled. Seeds cost the same.
    """
    known: dict[str, tuple[int, int]] = {}
    found = {}
    mesh = sharding.make_mesh(1)
    for cell in tqdm(cells, desc="reading the recipes", unit=" cells", disable=None, leave=False):
        recipe.load([cell.gin_file], ["MODEL_DIR=run", *(f"{name}={value}" for name, value in cell.macros.items())])
        choices = recipe.choices()
        settings = recipe.bindings(train.train)
        model, dataset, steps = settings["model"], settings["dataset"], settings["train_steps"]
        updates = plan.updates(settings)
        if updates is None or settings.get("train_steps_relative") is not None:
            raise UserError(
                f"cell {cell.name} starts at a step that only its INITIAL_CHECKPOINT_PATH tells; "
                "give INITIAL_STEP, and with it TRAIN_STEPS, not TRAIN_STEPS_RELATIVE"
            )
        key = repr((model, dataset.task_feature_lengths, dataset.batch_size, updates))
        if key not in known:
            tx = settings["optimizer"](settings["schedule"](train_steps=steps))
            like = abstract_state(model, tx, mesh)
            with jax.set_mesh(mesh):
                step = train.make_step(model, tx, settings["loss"], 0, settings["microbatches"])
                traced = step.trace(like, plan.batch_shapes(mesh, dataset))
            parameters = sum(x.size for x in jax.tree.leaves(like.params))
            known[key] = parameters, updates * flops.products(traced.jaxpr.jaxpr)
        found[cell.name] = Training(
            _hash(choices),
            _hash("\n".join([choices, *cell.mixtures])),
            settings["evaluation"].mixture_or_task_name,
            steps,
            *known[key],
        )
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def forecast(missing: Sequence[Training], done: Sequence[dict[str, Any]], jobs: int) -> str:
    """How much there is to do, and how long that takes `jobs` at a time."""
    if not missing:
        return "0 to do"
    work = sum(training.flops for training in missing) / 1e15
    here = [result for result in done if result["made_with"]["cpu"] == _cpu()]
    seconds = seconds_of(missing, here) / min(jobs, len(missing))
    guessed = "" if here else ", a guess from the speed of this CPU"
    return f"{len(missing)} to do, {jobs} at a time: {plan.short(work)} PFLOP, about {duration(seconds)}{guessed}"


def seconds_of(
    trainings: Sequence[Training],
    here: Sequence[dict[str, Any]],
    peak: Callable[[str], float] = profiling.peak_flops_per_second,
) -> float:
    """Of doing all cells one after the other, from results of this machine: as long as the cells of the same size
    and FLOPs took, which differ in the seed; else at the speed of those of the same size, of all, or as a guess.
    """
    guess = SHARE_OF_PEAK * peak("float32") / available_cores() if not here else 0.0

    def seconds(training: Training) -> float:
        same_size = [result for result in here if result["parameters"] == training.parameters]
        alike = [result for result in same_size if result["flops"] == training.flops]
        known = alike or same_size or here
        flops, took = sum(result["flops"] for result in known), sum(_wall_seconds(result) for result in known)
        return training.flops * took / flops if known else training.flops / guess

    return sum(map(seconds, trainings))


def _wall_seconds(result: dict[str, Any]) -> float:
    """With evaluations, where the file tells; files of earlier versions have the updates' seconds alone."""
    return result.get("wall_seconds", result["seconds"])


def jobs_that_fit(done: Sequence[dict[str, Any]]) -> int:
    """As many runs as there are cores, and as the memory that is free has room for, where Linux tells."""
    need = max((result["peak_bytes"] for result in done), default=MEMORY_A_RUN)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return available_cores()
    free = next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), need)
    return max(1, min(available_cores(), free // need))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:,.1f} h"
