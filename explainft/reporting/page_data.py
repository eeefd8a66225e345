"""The data of a report's page: charts as Vega-Lite with their numbers, and the predictions, packed."""

import base64
import gzip
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from explainft import listops
from explainft.reporting import charts
from explainft.reporting.charts import AXES, GROUPS, Evaluation
from explainft.reporting.looks import KINDS, MARKERS, VALID, look
from explainft.reporting.runs import Metrics, Predictions, Row, Run, checked_style, groups
from explainft.reporting.vega import finished

MAX_ROWS = 2_000  # of a task's predictions in the page
MEANINGS = {
    VALID: "every step and the final answer are correct; where a task has no steps to check (style none, and styles of "
    "one's own), the final answer alone is checked",
    **listops.ERROR_KINDS,
}
WIDE = 8  # evaluations; more of them have a row of the page for each panel
CURVES_HEIGHT, GROUPS_HEIGHT = 260, 190  # pixels
Sets = list[tuple[dict[str, Any], str]]


def page_data(runs: Sequence[Run], splits: Sequence[str], rows: Sequence[Row], sets: Sets) -> dict[str, Any]:
    """Returns what the page's scripts read, as JSON has it."""
    return {
        "kinds": {kind: {"label": label, "meaning": MEANINGS[kind]} for kind, (label, _) in KINDS.items()},
        "training": _training(runs),
        "groups": _groups(splits, rows),
        "sets": [about for about, _ in sets],
    }


# ---- charts


def _training(runs: Sequence[Run]) -> dict[str, Any]:
    """By axis: the curves that have a place on it, their key, and their numbers."""
    found = {}
    for column, axis in AXES.items():
        curves = [curve for curve in charts.curves_of(runs) if curve.points(column)]
        if curves:
            drawn = {curve.index for curve in curves}
            found[column] = {
                "label": axis.label,
                "key": [_key(curve.index, curve.label) for curve in curves],
                "spec": _spec(charts.training_panel(curves, column, "container", CURVES_HEIGHT)),
                "missing": [run.name for i, run in enumerate(runs) if i not in drawn],
                "columns": ["run", axis.title, "exact match", "95% interval"],
                "rows": [
                    [curve.label, f"{x:,.4g}", *_accuracy(metrics)]
                    for curve in curves
                    for x, metrics in curve.points(column)
                ],
            }
    return found


def _groups(splits: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
    """By split: a panel for each kind of group, the key, and the numbers."""
    found = {}
    for split in splits:
        of_split = [Evaluation(row.run, row.label, row.cells[split][2]) for row in rows if split in row.cells]
        evaluations = [e for e in of_split if any(groups(e.metrics, kind) for kind in GROUPS)]
        if evaluations:
            found[split] = {
                "key": [_key(evaluation.index, evaluation.label) for evaluation in evaluations],
                "wide": len(evaluations) > WIDE,
                "panels": [_group_panel(evaluations, kind) for kind in GROUPS],
            }
    return found


def _group_panel(evaluations: Sequence[Evaluation], kind: str) -> dict[str, Any]:
    numbers = [(e.label, group) for e in evaluations for group in groups(e.metrics, kind)]
    return {
        "spec": _spec(charts.group_panel(evaluations, kind, "container", GROUPS_HEIGHT)),
        "columns": ["run", GROUPS[kind], "exact match", "95% interval", "n"],
        "rows": [
            [label, group.name, f"{group.accuracy:.1%}", f"{group.low:.1%} – {group.high:.1%}", f"{group.n:,}"]
            for label, group in numbers
        ],
    }


def _accuracy(metrics: Metrics) -> tuple[str, str]:
    """Exact match and its interval in percent."""
    low, high = metrics.get("exact_match_low"), metrics.get("exact_match_high")
    known = low is not None and high is not None
    return f"{metrics['exact_match']:.1%}", f"{low:.1%} – {high:.1%}" if known else "–"


def _key(run: int, label: str) -> dict[str, str]:
    colour, turn = look(run)
    return {"colour": colour, "marker": MARKERS[turn][1], "label": label}


def _spec(chart: charts.Chart) -> dict[str, Any]:
    """A description that fits the width of its place; the page names Vega-Lite itself, and needs no address of it."""
    spec = finished(chart, font="system-ui, sans-serif", background="transparent")
    del spec["$schema"]
    return spec | {"autosize": {"type": "fit-x", "contains": "padding"}}


# ---- predictions


def pack_sets(predictions: Sequence[Sequence[Predictions]]) -> Sets:
    """Returns of each task's predictions a summary, and the first MAX_ROWS of them: gzipped JSON in base64."""
    return [_set(run, found) for run, of_run in enumerate(predictions) for found in of_run]


def _set(run: int, found: Predictions) -> tuple[dict[str, Any], str]:
    outputs = zip(found.targets, found.texts, found.first_errors, strict=True)
    rows = [_prediction(target, text, error) for target, text, error in outputs]
    counts = Counter(row["kind"] for row in rows)
    about = {
        "run": run,
        "task": found.task,
        "label": found.label,
        "split": found.split,
        "step": found.step,
        "style": found.targets[0]["style"],
        "total": len(rows),
        "shown": min(len(rows), MAX_ROWS),
        "kinds": {kind: counts[kind] for kind in KINDS},
    }
    packed = gzip.compress(json.dumps(rows[:MAX_ROWS], separators=(",", ":")).encode(), mtime=0)
    return about, base64.b64encode(packed).decode()


def _prediction(target: dict[str, Any], text: str, error: listops.FirstError | None) -> dict[str, Any]:
    tree = listops.parse(target["expression"])
    style = checked_style(target)
    modulus = target["modulus"]
    gold_steps, gold_final = _parts(listops.explain(tree, style, modulus), style)
    steps, final = _parts(text, style)
    operators = listops.operators(tree)
    answer = listops.final_answer(text)
    # Numbers as text: they may be larger than JavaScript's are exact.
    return {
        "expression": listops.format(tree),
        "values": [str(step.answer) for step in listops.steps(tree, "long", modulus)],
        "operator": operators[-1] if operators else "",
        "depth": listops.depth(tree),
        "gold": gold_steps,
        "goldFinal": gold_final,
        "steps": steps,
        "final": final,
        "answer": None if answer is None else str(answer),
        "goldAnswer": str(target["answer"]),
        "kind": error.kind if error else VALID,
        "step": error.step if error else None,
    }


def _parts(text: str, style: str) -> tuple[list[str], str]:
    """The lines that stand for steps, and the rest: the final answer."""
    lines = listops.lines(text)
    steps = len(listops.read(text, style).steps)
    return lines[:steps], "\n".join(lines[steps:])
