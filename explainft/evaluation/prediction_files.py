"""The files of evaluation and inference, named and filled as SeqIO and T5X do it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explainft.core.atomic_files import file_lock, open_output, refuse_unwritable
from explainft.core.errors import UserError, require_local
from explainft.core.jsonl import read_jsonl
from explainft.data.token_cache import Record
from explainft.evaluation.evaluator import Scores
from explainft.evaluation.metrics import METRICS_SUFFIX
from explainft.generation.generator import Output
from explainft.parallel import hosts


def make_directory(**named: str) -> None:
    """Makes the directory of a setting, where results go: before hours of decoding, not after."""
    for name, directory in named.items():
        require_local(**{name: directory})
        try:
            Path(directory).mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(f"cannot write {name}={directory!r} ({e.strerror}); name a writable directory") from e


def check_scores_file(output_dir: Path, task: str, step: int, n: int, overwrite: bool) -> None:
    """Raises UserError for a corrupt metrics file, and where scores of more than n examples would be replaced."""
    rows = read_jsonl(_metrics_file(output_dir, task), {"step": int})
    if overwrite or step not in {row["step"] for row in rows}:
        return
    earlier = len(read_jsonl(_predictions_file(output_dir, task, step), {"input": dict}))
    if earlier > n:
        raise UserError(
            f"{output_dir} has scores of {task} at step {step:,} on {earlier:,} examples, and this evaluation of {n:,} "
            f"would replace them; evaluate {earlier:,} examples or more, or give --overwrite"
        )


def write_scores(output_dir: Path, task: str, step: int, records: Sequence[Record], scores: Scores) -> None:
    """Writes the metrics and the predictions of a step, which replace earlier ones of the same step.

    Of several processes one writes.
    """
    if not hosts.writes():
        return
    with refuse_unwritable(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    metrics_file = _metrics_file(output_dir, task)
    with refuse_unwritable(metrics_file), file_lock(metrics_file):
        kept = [row for row in read_jsonl(metrics_file, {"step": int}) if row["step"] != step]
        write_json_lines(metrics_file, [*kept, {"step": step, **scores.metrics}])
    write_json_lines(_predictions_file(output_dir, task, step), prediction_rows(records, scores))


def prediction_rows(records: Sequence[Record], scores: Scores) -> list[dict[str, Any]]:
    """Returns the lines of a predictions file: SeqIO's three fields, and those of `_output_fields`."""
    rows = zip(records, scores.targets, scores.predictions, scores.outputs, strict=True)
    return [
        {"input": record, "target": target, "prediction": prediction, **_output_fields(output)}
        for record, target, prediction, output in rows
    ]


def _output_fields(output: Output) -> dict[str, Any]:
    """Returns what a line has beside SeqIO's three fields: whether the output was cut, and the labels it was among."""
    fields: dict[str, Any] = {"cut": True} if output.cut else {}
    if output.ranking is not None:
        fields["labels"] = [
            {"label": label, "log_likelihood": log_p, "tokens": n}
            for label, log_p, n in zip(*output.ranking, strict=True)
        ]
    return fields


def write_predictions(output_dir: Path, task: str, records: Sequence[Record], predictions: Sequence[str]) -> None:
    """Writes <task>-predict.jsonl-00000-of-00001, as T5X's infer.py does, and prints its path."""
    if not hosts.writes():
        return
    rows = zip(records, predictions, strict=True)
    file = output_dir / f"{task}-predict.jsonl-00000-of-00001"
    write_json_lines(
        file,
        [
            {"inputs": {k: v for k, v in record.items() if k.endswith("_pretokenized")}, "prediction": prediction}
            for record, prediction in rows
        ],
    )
    print(file)


def write_json_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes one JSON object a line, atomically; `-` is standard output."""
    with refuse_unwritable(path), open_output(path) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _metrics_file(output_dir: Path, task: str) -> Path:
    return output_dir / f"{task}{METRICS_SUFFIX}"


def _predictions_file(output_dir: Path, task: str, step: int) -> Path:
    return output_dir / f"{task}-{step:06d}.jsonl"
