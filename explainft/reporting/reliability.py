"""The calibration of scored samples as a reliability diagram and as JSON."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import altair as alt

from explainft.core.atomic_files import open_output, refuse_unwritable
from explainft.reporting import vega
from explainft.samples.examples import is_correct
from explainft.samples.files import SampledProblem
from explainft.voting.calibration import Calibration, calibrate


def calibrate_problems(problems: Sequence[SampledProblem]) -> Calibration | None:
    """Returns the calibration of the scores of samples whose label is known; None where there are none.

    The label is what the verifier was trained on, see sample_datasets.LABELED_BY.
    """
    rows = [
        (sample.score, label, len(sample.text), problem.id, sample.correct, sample.valid)
        for problem in problems
        for sample in problem.samples
        if sample.score is not None
        and (label := is_correct(sample, problem.row.get("scoring", {}).get("labeled_by", "answer"))) is not None
    ]
    if not rows:
        return None
    scores, labels, lengths, ids, answers, checks = zip(*rows, strict=True)
    known = None not in answers and None not in checks
    return calibrate(scores, labels, lengths, ids, answers=answers if known else None, checks=checks if known else None)


def write_report(calibration: Calibration, directory: Path) -> Path:
    """Writes calibration.json, reliability.svg and reliability.png, and returns the path of the last."""
    with refuse_unwritable(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with open_output(directory / "calibration.json") as file:
            json.dump(_without_nan(dataclasses.asdict(calibration)), file, indent=1)
            file.write("\n")
        chart = reliability_chart(calibration)
        (directory / "reliability.svg").write_text(vega.svg(chart), encoding="utf-8")
        picture = directory / "reliability.png"
        picture.write_bytes(vega.png(chart))
    return picture


def reliability_chart(calibration: Calibration) -> alt.LayerChart:
    """Returns accuracy against mean score, a dot for each bin in the size of its samples, beside the diagonal."""
    dots = [dataclasses.asdict(found) for found in calibration.bins if found.n]
    x = alt.X("mean_score:Q", title="mean score of the bin", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("accuracy:Q", title="fraction of correct samples", scale=alt.Scale(domain=[0, 1]))
    ideal = [{"mean_score": 0, "accuracy": 0}, {"mean_score": 1, "accuracy": 1}]
    diagonal = alt.Chart(alt.InlineData(ideal)).mark_line(strokeDash=[4, 4], color=vega.SOFT).encode(x, y)
    base = alt.Chart(alt.InlineData(dots)).encode(x, y)
    size = alt.Size("n:Q", title="samples", scale=alt.Scale(range=[30, 400]))
    chart = alt.LayerChart(layer=[diagonal, base.mark_line(), base.mark_circle(opacity=1).encode(size)])
    return chart.properties(width=320, height=320, title=vega.note(calibration.lines()))


def _without_nan(value: object) -> object:
    """Returns JSON values with null in place of NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
