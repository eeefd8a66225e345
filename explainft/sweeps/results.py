"""Result files of the trials of sweeps and pipelines. Reading them needs neither JAX nor TensorFlow."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from explainft.core.atomic_files import atomic_write, refuse_unwritable
from explainft.core.errors import UserError
from explainft.evaluation.task_names import config_and_style, parse_evaluation
from explainft.reporting.looks import interval
from explainft.reporting.runs import split_order

Result = dict[str, Any]


def result_path(directory: Path, sweep: str, trial: str) -> Path:
    """Returns the file of a trial's result."""
    return directory / sweep / f"{trial}.json"


def read_result(path: Path) -> Result:
    """Returns the result in a file. Raises UserError for anything but a complete one."""
    return _read(path, FIELDS)


def read_pipeline_result(path: Path) -> Result:
    """Returns the result of a pipeline's trial. Raises UserError for anything but a complete one."""
    return _read(path, PIPELINE_FIELDS)


def _read(path: Path, fields: dict[str, Callable[[Any], bool]]) -> Result:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:
        raise _corrupt(path, str(e)) from e
    if not isinstance(result, dict):
        raise _corrupt(path, f"a JSON object is expected, not {json.dumps(result)[:40]}")
    for name, is_valid in fields.items():
        if not is_valid(result.get(name)):
            found = json.dumps(result[name])[:40] if name in result else "missing"
            raise _corrupt(path, f'"{name}" is {found}')
    return result


def _corrupt(path: Path, why: str) -> UserError:
    return UserError(f"{path} is corrupt ({why}); delete it and rerun its command")


def write_result(path: Path, result: Result) -> None:
    """Writes a result atomically. Raises UserError where it cannot be written."""
    with refuse_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as scratch:
            scratch.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


# ---- the fields of a complete result


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_machine(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("cpu"))


def _dict_of(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(is_valid, value.values()))


def _list_of(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_valid, value))


def _is_curve(value: Any) -> bool:
    """Returns whether these are rows of step, examples, exact match and n, of which the last two may be null."""

    def is_row(row: Any) -> bool:
        return isinstance(row, list) and len(row) == 4 and all(x is None or _is_number(x) for x in row)

    return isinstance(value, dict) and _list_of(is_row)(value.get("rows"))


FIELDS: dict[str, Callable[[Any], bool]] = {
    "sweep": _is_text,
    "axis_values": _dict_of(_is_text),
    "result_hash": _is_text,
    "commands": _list_of(_is_text),
    "parameters": _is_positive,
    "steps": _is_positive,
    "examples": _is_positive,
    "flops": _is_positive,
    "seconds": _is_positive,
    "curve": _is_curve,
    "evaluations": _dict_of(_dict_of(_is_number)),
    "peak_bytes": _is_positive,
    "made_with": _is_machine,
}


def _is_stage(value: Any) -> bool:
    """Returns whether this is a stage with its command, its cost and its report."""
    return (
        isinstance(value, dict)
        and _is_text(value.get("command"))
        and _is_number(value.get("seconds"))
        and isinstance(value.get("report"), dict)
    )


PIPELINE_FIELDS: dict[str, Callable[[Any], bool]] = {
    "pipeline": _is_text,
    "axis_values": _dict_of(_is_text),
    "result_hash": _is_text,
    "stages": _dict_of(_is_stage),
    "peak_bytes": _is_positive,
    "made_with": _is_machine,
}


# ---- results as text


def score(metrics: dict[str, float]) -> str:
    """Formats exact match with its interval; "scored" where the user's own metrics lack it."""
    return f"{metrics['exact_match']:.1%} {interval(metrics)}" if "exact_match_low" in metrics else "scored"


def summary(result: Result) -> str:
    """Formats a line: the score of each evaluation, and the seconds of training."""
    scores = []
    for task, metrics in result["evaluations"].items():
        variant, split = parse_evaluation(task)
        scores.append(f"{variant.removeprefix('explained_')} {split} {score(metrics)}")
    return f"{', '.join(scores)}; {result['seconds']:,.0f} s of training"


def table(results: Iterable[Result]) -> str:
    """Formats a Markdown table: a row for each trial, a column for each axis and each evaluation split."""
    rows = []
    for result in results:
        scores = {_column(task): score(metrics) for task, metrics in result["evaluations"].items()}
        rows.append((result["axis_values"], scores, f"{result['seconds']:,.0f}"))
    axes = list(dict.fromkeys(axis for values, _, _ in rows for axis in values))
    splits = sorted({split for _, scores, _ in rows for split in scores}, key=split_order)
    lines = [[*axes, *splits, "training seconds"]]
    for values, scores, seconds in rows:
        lines.append(
            [*(values.get(axis, "-") for axis in axes), *(scores.get(split, "-") for split in splits), seconds]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def _column(task: str) -> str:
    """Returns the config and split of an evaluation task, without the style, which is an axis."""
    variant, split = parse_evaluation(task)
    config, _ = config_and_style(variant)
    return f"{config} {split}".strip().replace("_", " ") if config else split
