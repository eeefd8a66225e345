"""The report of runs: a table, charts and a page, from the files in their directories alone.

A dash in the table marks what T5X does not write.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from explainft.core.errors import UserError
from explainft.reporting import charts, page
from explainft.reporting.markdown import markdown_table
from explainft.reporting.predictions import read_predictions
from explainft.reporting.runs import Run, find_runs, read_run
from explainft.reporting.sample_votes import read_votes

HEADER = (
    "Run", "Task", "Step", "Exact match [95% interval]", "n", "Chance",
    "Parseable", "Cut", "Valid", "Step accuracy", "Examples", "Training seconds",
)  # fmt: skip
TEXT_COLUMNS = 2  # the others are numbers, flush right
MISSING = "-"


def table(runs: Sequence[Run]) -> str:
    """A Markdown table: a row for each run and task, of the task's last step. A dash marks what is unknown."""
    return markdown_table(HEADER, rows(runs), TEXT_COLUMNS)


def rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The cells below HEADER."""
    return [cells for run in runs for cells in _rows(run)]


def _rows(run: Run) -> Iterator[tuple[str, ...]]:
    last = {task: run.last(task) for task in run.evaluations}
    for task, (step, metrics) in (last or {MISSING: (max(run.train, default=0), {})}).items():
        exact_match = _percent(metrics.get("exact_match"))
        if {"exact_match_low", "exact_match_high"} <= metrics.keys():
            exact_match += f" [{100 * metrics['exact_match_low']:.1f}, {100 * metrics['exact_match_high']:.1f}]"
        yield (
            run.name,
            task,
            f"{step:,}",
            exact_match,
            _count(metrics.get("n")),
            *(_percent(metrics.get(name)) for name in ("chance", "parseable", "cut", "valid", "step_accuracy")),
            *(_count(run.at(step, column)) for column in ("examples", "seconds")),
        )


def _percent(fraction: float | None) -> str:
    return MISSING if fraction is None else f"{fraction:.1%}"


def _count(number: float | None) -> str:
    return MISSING if number is None else f"{number:,.0f}"


def write_report(paths: Sequence[Path], output: Path, samples: Sequence[Path] = ()) -> None:
    """Prints the table of the runs in `paths`, and writes it, the charts and the page into the directory `output`.

    A path is that of a run or of a directory of runs, as a sweep makes them; `samples` are files whose votes are drawn.
    """
    paths = list(dict.fromkeys(run for path in paths for run in find_runs(path)))
    if not paths:
        raise UserError("only the files beside a sweep's runs were given; give the sweep's directory or a run's")
    runs = [read_run(path) for path in paths]
    if len({run.name for run in runs}) < len(runs):  # two directories of one name: the paths distinguish them
        runs = [dataclasses.replace(run, name=str(path)) for run, path in zip(runs, paths, strict=True)]
    predictions = [read_predictions(run) for run in runs]
    text = table(runs)
    lines = read_votes(samples)
    document = page.document(runs, predictions, HEADER, rows(runs), lines)
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "table.md").write_text(text, encoding="utf-8")
        (output / "report.html").write_text(document, encoding="utf-8")
        written = [output / "report.html", output / "table.md", *charts.write(runs, predictions, output, lines)]
    except OSError as e:
        raise UserError(f"cannot write --output={str(output)!r} ({e.strerror}); choose a writable directory") from e
    print(text, end="")
    print(*written, sep="\n", file=sys.stderr)
