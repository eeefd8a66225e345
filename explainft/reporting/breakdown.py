"""Exact match by the groups of a problem, such as operators, subjects or numbers of choices, as Vega-Lite."""

from collections.abc import Sequence
from typing import NamedTuple

import altair as alt

from explainft.evaluation.task_names import parse_evaluation
from explainft.reporting.runs import (
    Metrics,
    Run,
    group_kinds,
    group_order,
    group_title,
    groups,
    own_variant,
    row_and_split,
    sort_group_kinds,
)
from explainft.reporting.vega import LINE_HEIGHT, Y_TITLE, Chart, Series, percent, placeholder, run_names


class Evaluation(NamedTuple):
    """An evaluation of a run that has metrics by group."""

    index: int  # of the run
    label: str
    metrics: Metrics


def group_panel(
    evaluations: Sequence[Evaluation], kind: str, width: int | str, height: int, y_title: str | None = None
) -> alt.LayerChart:
    """Draws exact match with Wilson intervals by the groups of a kind, the evaluations that have them side by side."""
    evaluations = [evaluation for evaluation in evaluations if groups(evaluation.metrics, kind)]
    title = group_title(kind)
    rows = [
        {"series": i, "run": evaluation.label, **group._asdict()}
        for i, evaluation in enumerate(evaluations)
        for group in groups(evaluation.metrics, kind)
    ]
    names = sorted({row["name"] for row in rows}, key=group_order)
    series = Series([evaluation.index for evaluation in evaluations])
    # The dots of a group are 12 pixels apart, or nearer where they must: empty slots on both sides take the rest.
    room = int((width if isinstance(width, int) else 300) / max(len(names), 1) / 12)
    empty = [f"empty {i}" for i in range(max(0, room - len(evaluations)) // 2)]
    slots = [*empty, *series.ids, *(f"{name} on the right" for name in empty)]
    angle = -45 if len("".join(names)) > 34 else 0
    base = alt.Chart(alt.InlineData(rows)).encode(
        alt.X("name:N", sort=names, title=title, axis=alt.Axis(labelAngle=angle, grid=False)),
        alt.XOffset("series:N", scale=alt.Scale(type="point", domain=slots, padding=0.5)),
        series.colour(),
    )
    tooltip = [
        alt.Tooltip("run:N"),
        alt.Tooltip("name:N", title=title),
        alt.Tooltip("accuracy:Q", title="exact match", format=".1%"),
        alt.Tooltip("low:Q", format=".1%"),
        alt.Tooltip("high:Q", format=".1%"),
        alt.Tooltip("n:Q"),
    ]
    return alt.LayerChart(
        layer=[
            base.mark_rule(strokeWidth=2).encode(percent("low", y_title), alt.Y2("high")),
            base.mark_point(filled=True, opacity=1, size=45).encode(
                percent("accuracy", y_title), series.shape(), tooltip=tooltip
            ),
        ]
    ).properties(width=width, height=height, description=f"Exact match by {title}")


def kinds_of(evaluations: Sequence[Evaluation]) -> list[str]:
    """The kinds of groups that any of the evaluations has."""
    return sort_group_kinds(kind for evaluation in evaluations for kind in group_kinds(evaluation.metrics))


def breakdown(runs: Sequence[Run]) -> Chart:
    """Draws exact match of each run's last evaluation by the groups of its problem, a panel for each kind of them.

    On the test split, else on any, of what the run was trained on before others; the key names it.
    """
    picked, keys = [], []
    for i, run in enumerate(runs):
        task, step, metrics = last_evaluation(run) if run.evaluations else ("", 0, {})
        if group_kinds(metrics):
            label, split = row_and_split(run, task)
            n = f"{metrics['n']:,.0f}" if "n" in metrics else "-"
            picked.append(Evaluation(i, label, metrics))
            keys.append((i, f"{label}: {split}, step {step:,}, n = {n}"))
    kinds, height = kinds_of(picked), 250
    if not kinds:
        return placeholder("no metrics by group")
    widths = [
        min(700, max(200, 6 * (len(picked) + 1) * len({g.name for e in picked for g in groups(e.metrics, kind)})))
        for kind in kinds
    ]
    panels = [
        group_panel(picked, kind, width, height, Y_TITLE if kind == kinds[0] else None)
        for kind, width in zip(kinds, widths, strict=True)
    ]
    heights = [1 + (len(keys) - i) * LINE_HEIGHT / height for i in range(len(keys))]
    panels[0] += run_names(keys, heights).mark_text(align="left", fontSize=13).encode(x=alt.value(0))
    # Each panel has the runs that have its kind of groups.
    return alt.hconcat(*panels).resolve_scale(color="independent", shape="independent", xOffset="independent")


def last_evaluation(run: Run) -> tuple[str, int, Metrics]:
    """Returns (task, step, metrics) of what `breakdown` shows of a run that has evaluations."""
    own = own_variant(run)

    def rank(task: str) -> tuple[bool, bool, int]:
        variant, split = parse_evaluation(task)
        return variant == own, split == "test", max(run.evaluations[task])

    task = max(run.evaluations, key=rank)
    return task, *run.last(task)
