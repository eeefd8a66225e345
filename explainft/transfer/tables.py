"""The matrix as JSON and as Markdown; the same matrix gives the same bytes."""

from typing import Any

from explainft.reporting.markdown import markdown_table
from explainft.transfer.differences import NEGATIVE, POSITIVE, Difference
from explainft.transfer.distances import PARTS, as_json
from explainft.transfer.matrix import Cell, Matrix, Row, summarize

DASH = "-"
FORMAT = 1  # of transfer.json; raise it when a field changes its meaning
SIGNS = {POSITIVE: "+", NEGATIVE: "\u2212"}
CELL_HEADER = (
    "Run", "Evaluation", "Metric", "Value [95% interval]", "n", "Parseable", "Asked format", "Trained format", "Cut",
    "Difference [95% interval]", "Transfer",
)  # fmt: skip
CELL_TEXT_COLUMNS = 3
SUMMARY_HEADER = (
    "Run", "Baseline", "Own tasks", "Other evaluations", "Positive", "Negative", "Unclear", "Forgetting",
    "Largest loss", "L2 / norm", *(f"of {part}" for part in PARTS),
)  # fmt: skip
SUMMARY_TEXT_COLUMNS = 2


# ---- text


def percent(fraction: float | None) -> str:
    return DASH if fraction is None else f"{fraction:.1%}"


def points(value: float | None) -> str:
    """Formats a difference of fractions in percentage points, with its sign."""
    return DASH if value is None else f"{100 * value:+.1f}".replace("-", "\u2212")


def bounds(interval: tuple[float, float] | None) -> str:
    """Formats an interval in percent: [12.3, 45.6]."""
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def change_bounds(difference: Difference) -> str:
    """Formats the interval of a difference in percentage points."""
    if difference.low is None or difference.high is None:
        return ""
    return f"[{points(difference.low)}, {points(difference.high)}]"


def format_names(row: Row) -> str:
    """Returns the formats that a checkpoint was trained to write."""
    return ", ".join(found.name for found in row.source.formats) or DASH


def cell_rows(matrix: Matrix) -> list[tuple[str, ...]]:
    """Returns the cells below CELL_HEADER."""
    changes = {row.source.label: differences for row, differences in matrix.compared}
    found = []
    for row in matrix.rows:
        differences = changes.get(row.source.label, [None] * len(row.cells))
        for cell, difference in zip(row.cells, differences, strict=True):
            found.append(_cell_row(row, cell, difference))
    return found


def _cell_row(row: Row, cell: Cell, difference: Difference | None) -> tuple[str, ...]:
    change, verdict = DASH, DASH
    if difference is not None:
        change = f"{points(difference.value)} {change_bounds(difference)}".rstrip()
        verdict = difference.transfer
    return (
        row.source.label,
        cell.predictions.split + (" (own)" if cell.own else ""),
        cell.metric.replace("_", " "),
        f"{percent(cell.value)} {bounds(cell.interval)}".rstrip(),
        f"{cell.n:,}",
        percent(cell.metrics.get("parseable")),
        percent(cell.formats.asked),
        percent(cell.formats.trained),
        percent(cell.metrics.get("cut")),
        change,
        verdict,
    )


def summary_rows(matrix: Matrix) -> list[tuple[str, ...]]:
    """Returns the cells below SUMMARY_HEADER, a row for each run that has a baseline."""
    found = []
    for row, differences in matrix.compared:
        of = summarize(row, differences)
        loss = DASH if of.largest_loss is None else f"{points(of.largest_loss)} ({of.lost_on})"
        distances = row.distances or {}
        moved = [distances[part].relative if part in distances else None for part in ("all", *PARTS)]
        found.append(
            (
                row.source.label,
                str(row.source.baseline),
                points(of.own),
                points(of.mean),
                *map(str, (of.positive, of.negative, of.unclear)),
                DASH if of.forgetting is None else f"{100 * of.forgetting:.1f}",
                loss,
                *(DASH if relative is None else f"{relative:.3g}" for relative in moved),
            )
        )
    return found


def markdown(matrix: Matrix) -> str:
    """Returns transfer.md: the matrix, the summary where runs have baselines, and all cells."""
    header = ["Run", *(cell.predictions.split for cell in matrix.rows[0].cells)]
    rows = [
        [row.source.label, *(f"{percent(c.value)} {bounds(c.interval)}".rstrip() for c in row.cells)]
        for row in matrix.rows
    ]
    parts = [markdown_table(header, rows, 1)]
    if matrix.compared:
        about = (
            "Differences from the baseline in percentage points; means over the evaluations, the run's own apart:\n\n"
        )
        parts.append(about + markdown_table(SUMMARY_HEADER, summary_rows(matrix), SUMMARY_TEXT_COLUMNS))
    parts.append(markdown_table(CELL_HEADER, cell_rows(matrix), CELL_TEXT_COLUMNS))
    return "\n".join(parts)


# ---- JSON


def as_data(matrix: Matrix) -> dict[str, Any]:
    """Returns transfer.json."""
    return {
        "format": FORMAT,
        "runs": [_run_data(row) for row in matrix.rows],
        "evaluations": [
            {"label": c.label, "group": c.group, "shots": c.shots, "task": c.task, "module": c.module}
            for c in matrix.columns
        ],
        "cells": [_cell_data(row, cell) for row in matrix.rows for cell in row.cells],
        "differences": [
            {
                "run": row.source.label,
                "baseline": row.source.baseline,
                "task": cell.plan.column.task,
                **_change_data(change),
            }
            for row, differences in matrix.compared
            for cell, change in zip(row.cells, differences, strict=True)
        ],
        "summaries": {row.source.label: summarize(row, of)._asdict() for row, of in matrix.compared},
    }


def _run_data(row: Row) -> dict[str, Any]:
    source = row.source
    return {
        "label": source.label,
        "path": source.path,
        "step": source.weights.step,
        "checkpoint": source.digest,
        "baseline": source.baseline,
        "added": source.added,
        "formats": [found.name for found in source.formats],
        "distances": None if row.distances is None else as_json(row.distances),
    }


def _cell_data(row: Row, cell: Cell) -> dict[str, Any]:
    low, high = cell.interval or (None, None)
    return {
        "run": row.source.label,
        "task": cell.plan.column.task,
        "metric": cell.metric,
        "value": cell.value,
        "low": low,
        "high": high,
        "n": cell.n,
        "own": cell.own,
        "parseable": cell.metrics.get("parseable"),
        "asked_format": cell.formats.asked,
        "trained_format": cell.formats.trained,
        "max_length": cell.plan.max_length,
        "metrics": dict(cell.metrics),
        "predictions": f"{cell.plan.predictions.parent.name}/{cell.plan.predictions.name}",
    }


def _change_data(difference: Difference) -> dict[str, Any]:
    return {**difference._asdict(), "transfer": difference.transfer}
