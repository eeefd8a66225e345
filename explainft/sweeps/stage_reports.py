"""What a stage reports when it ends: a run its training, an evaluation its metrics, another command its JSON files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explainft.checkpoints import run_checkpoint
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.reporting.runs import read_run
from explainft.sweeps.stages import Stage, flag_value
from explainft.sweeps.trial import rounded


def report_of(stage: Stage, command: Sequence[str]) -> dict[str, Any]:
    """Returns the report of a stage whose command has ended. Raises UserError where what it wrote cannot be read."""
    if stage.trains:
        return _training_report(stage)
    if command[0] == "eval":
        return _evaluation_report(command)
    return {file.name: _read_json(file) for path in stage.paths for file in _json_files(path)}


def _training_report(stage: Stage) -> dict[str, Any]:
    """Returns the steps of a run, its cost, and what it was scored on while it trained, by task and step."""
    directory = stage.paths[0]
    run, progress = read_run(directory), run_checkpoint.open_run(directory).meta["progress"]
    last = max(run.train)
    row, steps = run.train[last], last - progress["first_step"]
    curves = {
        task: [[step, rounded(metrics["exact_match"])] for step, metrics in by_step.items() if "exact_match" in metrics]
        for task, by_step in run.evaluations.items()
    }
    return {
        "parameters": stage.parameters,
        "steps": steps,
        "examples": round(row["examples"]),
        "flops": None if stage.flops is None or stage.steps is None else round(stage.flops * steps / stage.steps),
        "seconds": rounded(row["seconds"]),
        "final_loss": rounded(row["loss"]),
        "best_step": progress["best_step"],
        "best_score": progress["best_score"],
        "curves": curves,
    }


def _evaluation_report(command: Sequence[str]) -> dict[str, Any]:
    """Returns the metrics of each task of the mixture that `eval RUN` scored."""
    run, mixture, step = Path(command[1]), flag_value(command, "--mixture"), flag_value(command, "--step")
    weights = run_checkpoint.open_run(run, int(step) if step is not None and step.isdecimal() else step)
    module = flag_value(command, "--module") or str(weights.meta["module"])
    assert mixture is not None and weights.step is not None
    evaluations = read_run(run).evaluations
    report = {}
    for task in token_cache.task_names(mixture, module):
        metrics = evaluations.get(task, {}).get(weights.step)
        if metrics is None:
            raise UserError(f"{run} has no scores of step {weights.step} on {task}; rerun the same command")
        report[task] = {name: rounded(value) for name, value in metrics.items()}
    return report


def _json_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.json"))
    return [path] if path.suffix == ".json" else []


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{file} is not JSON ({e}); delete it and rerun") from e
