"""The tables and files of `vote` and `rerank`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from explainft.core.errors import UserError
from explainft.reporting.markdown import markdown_table
from explainft.reporting.vega import png, svg
from explainft.reporting.vote_charts import accuracy_by_samples, lines_of
from explainft.voting import rerank
from explainft.voting.vote import MAJORITY, Curve, Estimate, Vote

DIGITS = 6  # of numbers in JSON
MISSING = "-"


def check_directory(output: Path | None) -> None:
    """Makes the directory of results. Raises UserError where that fails, before the work and not after."""
    if output is None:
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"cannot write --output={str(output)!r} ({e.strerror}); choose a writable directory") from e


def vote_text(vote: Vote) -> str:
    """Returns what `vote` prints: a line about the samples, the table, and a line about entropy."""
    header = ["k", "tokens", *(column for curve in vote.curves for column in _columns(curve))]
    rows = [
        [str(k), _number(vote.tokens and k * vote.tokens), *(c for curve in vote.curves for c in _cells(curve, k))]
        for k in vote.ks
    ]
    about = (
        f"{vote.problems:,} problems, {vote.samples:,} samples, {vote.unparsed:,} of them without an answer. "
        "Accuracy in percent [95% interval]:\n\n"
    )
    return about + markdown_table(header, rows, 0) + _entropy_line(vote)


def _columns(curve: Curve) -> list[str]:
    return [curve.label, *(["tied"] if curve.method == MAJORITY else [])]


def _cells(curve: Curve, k: int) -> list[str]:
    estimate = curve.at(k)
    error = f" ±{100 * estimate.standard_error:.2f}" if estimate.standard_error is not None else ""
    accuracy = f"{100 * estimate.value:.1f}{error} {_interval(estimate)}"
    return [accuracy, _number(estimate.tied)] if curve.method == MAJORITY else [accuracy]


def _interval(estimate: Estimate | rerank.Ranking) -> str:
    return f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{round(value, 1):,g}"


def _entropy_line(vote: Vote) -> str:
    if vote.entropy is None:
        return ""
    auroc = "" if vote.entropy_auroc is None else f"; its AUROC for a correct vote: {vote.entropy_auroc:.3f}"
    return f"\nself-consistency entropy: {vote.entropy:.3f} nats{auroc}\n"


def rerank_text(found: rerank.Reranking) -> str:
    """Returns what `rerank` prints: accuracy beside cost, ceilings last."""
    header = ["method", "accuracy [95% interval]", "over majority", "tied", "verifier calls", "tokens"]
    rows = [
        [
            f"{ranking.method} (ceiling)" if ranking.ceiling else ranking.method,
            f"{100 * ranking.accuracy:.1f} {_interval(ranking)}",
            _gain(found.over(ranking.method, rerank.MAJORITY)),
            f"{ranking.tied:,}",
            _number(ranking.calls),
            _number(ranking.tokens),
        ]
        for ranking in found.methods
    ]
    return f"{found.problems:,} problems\n\n" + markdown_table(header, rows, 1)


def _gain(difference: rerank.Difference | None) -> str:
    if difference is None:
        return MISSING
    return f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def write_vote(vote: Vote, directory: Path) -> list[Path]:
    """Writes vote.json, vote.md and the chart as vote.svg and vote.png; returns their paths."""
    chart = accuracy_by_samples(lines_of("", vote))
    files = _write(directory, "vote", dataclasses.asdict(vote), vote_text(vote))
    image = directory / "vote.png"
    image.write_bytes(png(chart))
    drawing = directory / "vote.svg"
    drawing.write_text(svg(chart), encoding="utf-8")
    return [*files, drawing, image]


def write_rerank(found: rerank.Reranking, chosen: str, directory: Path) -> list[Path]:
    """Writes rerank.json and rerank.md; returns their paths. `chosen` says what chose K."""
    numbers = {"k": chosen, **dataclasses.asdict(found)}
    return _write(directory, "rerank", numbers, f"{rerank_text(found)}\n{chosen}\n")


def _write(directory: Path, name: str, numbers: dict[str, Any], text: str) -> list[Path]:
    data, table = directory / f"{name}.json", directory / f"{name}.md"
    data.write_text(json.dumps(_rounded(numbers), indent=1) + "\n", encoding="utf-8")
    table.write_text(text, encoding="utf-8")
    return [data, table]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, DIGITS) if isinstance(value, float) else value
