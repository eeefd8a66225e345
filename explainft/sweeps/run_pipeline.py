"""Runs the stages of a pipeline's trials, each once, and writes a result for each trial."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from explainft.core.errors import UserError
from explainft.planning.plan_text import format_number
from explainft.recipes import recipe
from explainft.sweeps.cost_model import duration, max_parallel_jobs
from explainft.sweeps.pipeline import Pipeline, PipelineTrial
from explainft.sweeps.results import read_pipeline_result, result_path, score, write_result
from explainft.sweeps.runner import Runner, build_data
from explainft.sweeps.stage_reports import report_of
from explainft.sweeps.stages import COMPLETE, STALE, Stage, StageRecords, delete_outputs, read_record
from explainft.sweeps.sweep import require_file_name
from explainft.sweeps.trial import cpu, made_with, rounded
from explainft.training.run_directory import locked


def run(
    file: str,
    bindings: Sequence[str] = (),
    runs: Path = Path("runs"),
    results: Path = Path("results/pipelines"),
    jobs: int | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    tfds_data_dir: str | None = None,
    check_command: Callable[[Sequence[str]], object] = lambda words: None,
) -> None:
    """Runs the pending trials of a pipeline, `jobs` at a time (None: the pipeline's own number).

    Writes results/<pipeline>/<trial>.json for each and prints a line. SIGTERM and Ctrl-C let the stages save; the same
    command resumes them. Stages that other settings made are refused before anything runs, or with `overwrite` deleted.
    `check_command` raises UserError for the arguments of a stage that the command line does not accept. Raises
    UserError where a trial failed, after the others are complete.
    """
    name = Path(file).stem
    require_file_name(**{"the name of the pipeline's file": name})
    if not Path(file).is_file():
        raise UserError(
            f"no pipeline {file!r} in {Path.cwd()}; give the path of one, as experiments/pipelines/voting.gin"
        )
    pipeline: Pipeline = recipe.load([file], bindings, command="pipeline").build(Pipeline)()
    if tfds_data_dir is not None:
        os.environ["TFDS_DATA_DIR"] = tfds_data_dir  # of this process and of the commands
    jax.config.update("jax_platforms", "cpu")  # an accelerator is the stages'
    trials = {trial.name: trial for trial in pipeline.trials(name, runs)}
    records = _plan(trials, check_command)

    def read_results() -> dict[str, dict[str, Any]]:
        paths = {trial: result_path(results, name, trial) for trial in trials}
        read = {trial: read_pipeline_result(path) for trial, path in paths.items() if path.is_file()}
        return {t: result for t, result in read.items() if result["result_hash"] == records[t].result_hash}

    done = read_results()
    pending = [trial for trial in trials if trial not in done]
    jobs = jobs or pipeline.jobs or max_parallel_jobs(list(done.values()))
    print(f"{name}: {len(trials)} trials, {_describe_cost([records[t] for t in pending], list(done.values()), jobs)}")
    if dry_run:
        for trial in pending:
            print("\n".join(f"{_state_mark(records[trial], stage)}{line}" for stage, line in _lines(records[trial])))
        return
    if pending:
        with locked(runs / name):
            _refuse_stale([records[trial] for trial in pending], overwrite)
            build_data(pipeline.data)
            runner, machine = Runner(jobs), made_with()  # before hours in which the checkout may change
            functions = {t: _run_trial(trials[t], records[t], runner, results, machine) for t in pending}
            failed = runner.run(functions)
        if failed:
            raise UserError(f"{len(failed)} trials failed: {', '.join(failed)}; the lines above name stage and log")
    for trial, result in done.items():
        print(f"{trial}: {summary(result)}")


def _plan(
    trials: Mapping[str, PipelineTrial], check_command: Callable[[Sequence[str]], object]
) -> dict[str, StageRecords]:
    """Returns the stages of each trial: all macros and flags are read before the first stage runs."""
    records = {}
    for trial in tqdm(trials.values(), desc="reading the recipes", unit=" trials", disable=None, leave=False):
        try:
            records[trial.name] = StageRecords(trial.make_stages())
            for stage in records[trial.name].stages.values():
                try:
                    check_command(stage.command(records[trial.name].stages))
                except UserError as e:
                    raise UserError(f"stage {stage.name}: {e.line}") from e
        except UserError as e:
            raise UserError(f"trial {trial.name}, {e.line}") from e
    return records


def _lines(records: StageRecords) -> list[tuple[Stage, str]]:
    return [(stage, stage.line(records.stages)) for stage in records.stages.values()]


def _state_mark(records: StageRecords, stage: Stage) -> str:
    """Returns the start of a stage's line in a dry run: a comment where its command does not run as it is."""
    state = records.state(stage)
    return f"# {state}: " if state in (COMPLETE, STALE) else ""


def _refuse_stale(trials: Sequence[StageRecords], overwrite: bool) -> None:
    """Refuses outputs of other settings or inputs than the present ones, or deletes them with `overwrite`."""
    stale = []
    for records in trials:
        for stage in records.stages.values():  # in order: what reads a deleted output is stale too
            if records.state(stage) == STALE:
                stale.append(stage)
                if overwrite:
                    delete_outputs(stage)
    if stale and not overwrite:
        names = ", ".join(f"{stage.directory.name}/{stage.name}" for stage in stale)
        raise UserError(
            f"{stale[0].directory.parent} holds outputs of other settings or inputs: {names}; "
            "--overwrite deletes these and runs them again"
        )


def _run_trial(
    trial: PipelineTrial, records: StageRecords, runner: Runner, results: Path, machine: dict[str, Any]
) -> Callable[[], str]:
    """Returns the function that runs the stages of a trial, writes its result and returns a line about it."""

    def run_stages() -> str:
        for stage in records.stages.values():
            if records.state(stage) != COMPLETE:
                try:
                    _run_stage(stage, records, runner)
                except UserError as e:
                    raise UserError(f"stage {stage.name}: {e.line}") from e
        result = _result(trial, records, machine)
        write_result(result_path(results, trial.pipeline, trial.name), result)
        return summary(result)

    return run_stages


def _run_stage(stage: Stage, records: StageRecords, runner: Runner) -> None:
    command = stage.command(records.stages)
    records.start(stage)
    started = time.monotonic()
    peak = runner.run_command(command, stage.log)
    report = report_of(stage, command)
    # A resumed run was partly trained by an earlier command.
    seconds = max(time.monotonic() - started, report["seconds"] if stage.trains else 0)
    records.complete(stage, {"seconds": rounded(seconds), "peak_bytes": peak, "report": report})


def _result(trial: PipelineTrial, records: StageRecords, machine: dict[str, Any]) -> dict[str, Any]:
    stages = {}
    for stage, line in _lines(records):
        record = read_record(stage) or {}
        stages[stage.name] = {"command": line, **{name: record[name] for name in ("seconds", "peak_bytes", "report")}}
    return {
        "pipeline": trial.pipeline,
        "axis_values": trial.axis_values,
        "result_hash": records.result_hash,
        "stages": stages,
        "peak_bytes": max(stage["peak_bytes"] for stage in stages.values()),
        "made_with": machine,
    }


def summary(result: dict[str, Any]) -> str:
    """Formats a line: the exact match that each evaluation stage reported, and the seconds of all stages."""
    scores = []
    for name, stage in result["stages"].items():
        metrics = [of for of in stage["report"].values() if isinstance(of, dict) and "exact_match_low" in of]
        if metrics:
            scores.append(f"{name} {', '.join(score(of) for of in metrics)}")
    return f"{', '.join(scores) or 'complete'}; {_seconds(result):,.0f} s"


def _seconds(result: Mapping[str, Any]) -> float:
    return sum(stage["seconds"] for stage in result["stages"].values())


def _describe_cost(pending: Sequence[StageRecords], done: Sequence[Mapping[str, Any]], jobs: int) -> str:
    """Describes the pending trials in a line: the FLOPs of their training, and the time where trials are done."""
    if not pending:
        return "0 to do: all have results; --results=DIRECTORY makes new ones"
    flops = [stage.flops for records in pending for stage in records.stages.values() if stage.trains]
    unknown = f", without {flops.count(None)} runs whose data are still to be made" if None in flops else ""
    work = sum(n for n in flops if n is not None) / 1e15
    text = f"{len(pending)} to do, {jobs} at a time: {format_number(work)} PFLOP of training{unknown}"
    here = [_seconds(result) for result in done if result["made_with"]["cpu"] == cpu()]
    if not here:
        return text
    return f"{text}, about {duration(sum(here) / len(here) * len(pending) / min(jobs, len(pending)))}"
