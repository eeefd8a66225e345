"""Accuracy against the number of samples, as the page shows it."""

from collections.abc import Sequence
from typing import Any

from explainft.reporting.looks import MARKERS, look
from explainft.reporting.vega import page_spec
from explainft.reporting.vote_charts import AXES, Line, axes_of, samples_panel

HEIGHT = 260  # pixels
LABELS = {"k": "samples", "tokens": "tokens"}  # of the page's switch


def samples_data(lines: Sequence[Line]) -> dict[str, Any]:
    """Returns by axis the chart, its key and its numbers; nothing where there are no curves."""
    return {axis: _chart(lines, axis) for axis in (axes_of(lines) if lines else ())}


def _chart(lines: Sequence[Line], axis: str) -> dict[str, Any]:
    looks = [look(i) for i in range(len(lines))]
    return {
        "label": LABELS[axis],
        "key": [
            {"colour": colour, "marker": MARKERS[turn][1], "label": line.label}
            for line, (colour, turn) in zip(lines, looks, strict=True)
        ],
        "spec": page_spec(samples_panel(lines, axis, "container", HEIGHT)),
        "columns": ["votes", AXES[axis], "accuracy", "95% interval"],
        "rows": [
            [line.label, f"{x:,.4g}", f"{e.value:.1%}", f"{e.low:.1%} – {e.high:.1%}"]
            for line in lines
            for x, e in line.points(axis)
        ],
    }
