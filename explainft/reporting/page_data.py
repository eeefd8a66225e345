"""The data of a report's page: charts as Vega-Lite with their numbers, and the predictions, packed."""

import base64
import gzip
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from explainft.evaluation.targets import Target
from explainft.reporting.breakdown import Evaluation, group_panel, kinds_of
from explainft.reporting.curves import AXES, curves_of, training_panel
from explainft.reporting.looks import MARKERS, look
from explainft.reporting.page_listops import listops_row
from explainft.reporting.page_questions import question_row
from explainft.reporting.page_samples import samples_data
from explainft.reporting.predictions import Predictions
from explainft.reporting.runs import Metrics, Row, Run, group_title, groups, sort_group_kinds
from explainft.reporting.vega import page_spec
from explainft.reporting.verdicts import KINDS, Kind, Verdict, is_listops, occurring
from explainft.reporting.vote_charts import Line

MAX_ROWS = 2_000  # of a task's predictions in the page
WIDE = 8  # evaluations; more of them have a row of the page for each panel
CURVES_HEIGHT, GROUPS_HEIGHT = 260, 190  # pixels
Sets = list[tuple[dict[str, Any], str]]


def page_data(
    runs: Sequence[Run], splits: Sequence[str], rows: Sequence[Row], sets: Sets, lines: Sequence[Line]
) -> dict[str, Any]:
    """Returns what the page's scripts read, as JSON has it."""
    return {
        "kinds": {name: {"label": kind.label, "meaning": kind.meaning} for name, kind in kinds_of_sets(sets).items()},
        "training": _training(runs),
        "groups": _groups(splits, rows),
        "samples": samples_data(lines),
        "sets": [about for about, _ in sets],
    }


def kinds_of_sets(sets: Sets) -> dict[str, Kind]:
    """Returns the kinds of verdicts that occur in any set of predictions."""
    return occurring(kind for about, _ in sets for kind in about["kinds"])


# ---- charts


def _training(runs: Sequence[Run]) -> dict[str, Any]:
    """By axis: the curves that have a place on it, their key, and their numbers."""
    found = {}
    for column, axis in AXES.items():
        curves = [curve for curve in curves_of(runs) if curve.points(column)]
        if curves:
            drawn = {curve.index for curve in curves}
            found[column] = {
                "label": axis.label,
                "key": [_key(curve.index, curve.label) for curve in curves],
                "spec": page_spec(training_panel(curves, column, "container", CURVES_HEIGHT)),
                "missing": [run.name for i, run in enumerate(runs) if i not in drawn],
                "columns": ["run", axis.title, "exact match", "95% interval", "chance"],
                "rows": [
                    [curve.label, f"{x:,.4g}", *_accuracy(metrics), _percent(metrics.get("chance"))]
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
        evaluations = [e for e in of_split if kinds_of([e])]
        if evaluations:
            found[split] = {
                "key": [_key(evaluation.index, evaluation.label) for evaluation in evaluations],
                "wide": len(evaluations) > WIDE,
                "panels": [_group_panel(evaluations, kind) for kind in kinds_of(evaluations)],
            }
    return found


def _group_panel(evaluations: Sequence[Evaluation], kind: str) -> dict[str, Any]:
    numbers = [(e.label, group) for e in evaluations for group in groups(e.metrics, kind)]
    return {
        "spec": page_spec(group_panel(evaluations, kind, "container", GROUPS_HEIGHT)),
        "columns": ["run", group_title(kind), "exact match", "95% interval", "n"],
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


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{fraction:.1%}"


def _key(run: int, label: str) -> dict[str, str]:
    colour, turn = look(run)
    return {"colour": colour, "marker": MARKERS[turn][1], "label": label}


# ---- predictions


def pack_sets(predictions: Sequence[Sequence[Predictions]], max_rows: int = MAX_ROWS) -> Sets:
    """Returns of each task's predictions a summary, and the first `max_rows` of them: gzipped JSON in base64."""
    return [_set(run, found, max_rows) for run, of_run in enumerate(predictions) for found in of_run]


def _set(run: int, found: Predictions, max_rows: int) -> tuple[dict[str, Any], str]:
    # The verdicts are of all, and only what is shown is made into rows.
    counts = Counter(verdict.kind for verdict in found.verdicts)
    shown = list(zip(found.targets, found.texts, found.verdicts, found.cut, strict=True))[:max_rows]
    rows = [_row(*prediction) for prediction in shown]
    about = {
        "run": run,
        "task": found.task,
        "label": found.label,
        "split": found.split,
        "step": found.step,
        "explains": any(map(_explains, found.targets)),
        "listops": all(map(is_listops, found.targets)),
        "total": len(found.texts),
        "shown": len(rows),
        "kinds": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "groups": {
            kind: group_title(kind) for kind in sort_group_kinds(kind for row in rows for kind in row["groups"])
        },
    }
    packed = gzip.compress(json.dumps(rows, separators=(",", ":")).encode(), mtime=0)
    return about, base64.b64encode(packed).decode()


def _row(target: Target, output: str, verdict: Verdict, cut: bool) -> dict[str, Any]:
    row = (listops_row if is_listops(target) else question_row)(target, output, verdict)
    return {**row, "cut": True} if cut else row


def _explains(target: Target) -> bool:
    return target.example["style"] != "none" if is_listops(target) else target.form != "answer"
