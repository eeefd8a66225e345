"""Folders of runs as the built-in engine and T5X write them, for the tests of what is read from them."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from explainft.checkpoints.integrity import with_digest
from explainft.evaluation.infer import PRETRAINED
from explainft.reporting.runs import Run

VALIDATION = "explained_tiny_medium_eval_validation_compact"
TEST = "explained_tiny_medium_eval_test_compact"


def write_lines(file: Path, rows: list[dict], end: str = "\n") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(json.dumps(row) for row in rows) + end)


def shipped(folder: Path, **changes: Any) -> Path:
    """A copy of the run that ships with the package, with other entries in its checkpoint's meta."""
    shutil.copytree(PRETRAINED, folder)
    [file] = folder.glob("checkpoints/*/meta/metadata")
    file.write_text(json.dumps(with_digest({**json.loads(file.read_text()), **changes})))
    return folder


def training_row(step: int, examples: int, seconds: float) -> dict:
    return {"step": step, "loss": 1.5, "accuracy": 0.5, "examples": examples, "seconds": seconds, "learning_rate": 1e-3}


def evaluation(step: int, exact_match: float, **more: float) -> dict:
    """An evaluation of 100 examples; the interval is made up, so that the report cannot have worked it out itself."""
    bounds = {"exact_match_low": exact_match - 0.125, "exact_match_high": exact_match + 0.0625}
    return {"step": step, "exact_match": exact_match, **bounds, "n": 100, "parseable": 1.0, **more}


def write_medium(folder: Path) -> Path:
    """1,000 examples and 30 seconds in the first 10 updates; 4,000 and 60 in the next 20."""
    run = folder / "medium"
    rows = [
        training_row(10, 1000, 30.0),
        {"step": 15, "eval/loss": 1.0, "eval/accuracy": 0.5},
        training_row(30, 5000, 90.0),
    ]
    write_lines(run / "metrics.jsonl", rows)
    scores = {"valid": 0.8125, "step_accuracy": 0.90625}
    lines = [evaluation(5, 0.25, **scores), evaluation(15, 0.5, **scores), evaluation(30, 0.875, **scores)]
    write_lines(run / f"inference_eval/{VALIDATION}-metrics.jsonl", lines)
    groups = {"operator/MAX": (0.75, 40), "operator/SUM": (0.5, 60), "depth/2": (1.0, 30), "depth/10": (0.5, 70)}
    groups |= {"length/5-9": (0.9, 10), "length/20-24": (0.6, 90)}
    shares = {f"exact_match/{name}": share for name, (share, _) in groups.items()}
    counts = {f"n/{name}": n for name, (_, n) in groups.items()}
    write_lines(run / f"inference_eval/{TEST}-metrics.jsonl", [evaluation(20, 0.625, **shares, **counts)])
    return run


def write_two_configs(folder: Path) -> Path:
    """The run of `write_medium`, scored afterwards on longer expressions too, and on what it was not trained to write.

    Its own evaluation on test is older than the others.
    """
    run = write_medium(folder)
    scored = {
        "tiny_25_96_medium_eval_larger_numbers": 0.125,
        "tiny_25_96_medium_eval_test": 0.25,
        "tiny_25_96_medium_eval_validation": 0.375,
        "tiny_medium_eval_larger_numbers": 0.75,
        "tiny_without_sum_eval_test": 0.5,
    }
    for name, exact_match in scored.items():
        shares = {"exact_match/depth/2": exact_match, "n/depth/2": 100}
        task = run / f"inference_eval/explained_{name}_compact"
        write_lines(Path(f"{task}-metrics.jsonl"), [evaluation(30, exact_match, **shares)])
        write_lines(Path(f"{task}-000030.jsonl"), [prediction("[MIN 4 7 ]", 4, "4", "none")])
    write_lines(run / f"inference_eval/{TEST}-000020.jsonl", [prediction("[MIN 4 7 ]", 4, "4", "none")])
    return run


def write_t5x(folder: Path) -> Path:
    """No metrics.jsonl, and a task without explanations; the second row of step 1000 replaces the first."""
    run = folder / "t5x"
    lines = [evaluation(2000, 0.375), evaluation(1000, 0.75), evaluation(1000, 0.125)]
    write_lines(run / "inference_eval/explained_tiny_none_eval_validation-metrics.jsonl", lines)
    write_lines(
        run / "inference_eval/explained_tiny_none_eval_validation-001000.jsonl", [{"input": {}, "prediction": "3"}]
    )
    return run


def prediction(expression: str, answer: int, text: str, style: str = "medium") -> dict:
    """A line of a predictions file."""
    target = {"expression": expression, "answer": answer, "style": style, "modulus": 10}
    return {"input": {"inputs_pretokenized": expression}, "target": target, "prediction": text}


def many_runs(run: Run, n: int) -> list[Run]:
    """Runs like this one under other names, each with four operators, depths and lengths."""
    names = {
        "operator": ("MAX", "MED", "MIN", "SUM"),
        "depth": range(2, 6),
        "length": ("5-9", "10-14", "15-19", "20-24"),
    }
    groups = {f"exact_match/{kind}/{name}": 0.75 for kind, of_kind in names.items() for name in of_kind}
    evaluations = run.evaluations | {TEST: {20: evaluation(20, 0.75, **groups)}}
    return [dataclasses.replace(run, name=f"run {i}", evaluations=evaluations) for i in range(n)]
