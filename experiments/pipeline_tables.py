"""The tables of docs/results-voting.md, from results/pipelines; a cell without a result is a dash."""

import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.accuracy import ROOT, Accuracy, Result
from experiments.tables import DASH, cell, table
from explainft.sweeps.results import read_pipeline_result
from explainft.voting.vote import MAJORITY, PASS

STYLES = ("short", "medium", "long")
VERIFIERS = {  # by the names of their stages
    "small": "63k",
    "large": "372k",
    "steps": "63k, by steps",
    "each_step": "372k, each step",
}
SAMPLES = (1, 2, 4, 8, 16, 32, 64)
TEST = "explained_tiny_{style}_eval_test_compact"
# The paper's claim: RR.Top-K is above RR.All, and W.RR.MajK above both and above majority.
COMPARED = (
    ("RR.Top-K", "RR.All"),
    ("W.RR.MajK", "RR.All"),
    ("W.RR.MajK", "RR.Top-K"),
    ("W.RR.MajK", "majority"),
)
METHODS = ("majority", "RR.All", "RR.Top-K", "W.RR", "W.RR.MajK")
CONTROL = "control"
FURTHER = {"sequential": ("verifier", "sequential")}  # the stages of a row, where they are more than one
STARTS = {
    "generator": "the generator itself",
    "sequential": "verifier, then generator",
    CONTROL: "more generator: the control",
    "joint": "verifier and generator at once",
    "rejection": "its own correct samples",
}


def results(directory: Path = ROOT / "results" / "pipelines") -> list[Result]:
    return [read_pipeline_result(path) for path in sorted(directory.glob("*/*.json"))]


def pick(found: Iterable[Result], pipeline: str, **axis_values: str) -> list[Result]:
    """The results of a pipeline, of any seed, with these values on its axes."""
    return [r for r in found if r["pipeline"] == pipeline and axis_values.items() <= r["axis_values"].items()]


def reports(found: Iterable[Result], stage: str, file: str) -> list[Any]:
    """What a stage of each trial reported: a JSON file that it wrote, or the metrics of a task."""
    return [r["stages"][stage]["report"][file] for r in found if stage in r["stages"]]


def pooled(rows: Sequence[dict[str, Any]], value: str, n: int) -> Accuracy | None:
    """The mean over seeds of values with intervals of their own, and the mean of these intervals.

    It is at least as wide as an interval of the mean over problems: all seeds have the same problems, and the standard
    deviation of a mean is at most the mean of the standard deviations. Seeds are not among what it covers.
    """
    if not rows:
        return None
    values = [row[value] for row in rows]
    low, high = (statistics.mean(row[bound] for row in rows) for bound in ("low", "high"))
    return Accuracy(statistics.mean(values), min(values), max(values), low, high, n, len(rows))


def exact_match(found: Sequence[Result], stage: str, style: str = "medium") -> Accuracy | None:
    return exact_match_of(reports(found, stage, TEST.format(style=style)))


def exact_match_of(evaluations: Sequence[dict[str, float]]) -> Accuracy | None:
    """The exact match of some runs, from the metrics of a task."""
    rows = [
        {"value": of["exact_match"], "low": of["exact_match_low"], "high": of["exact_match_high"], "n": of["n"]}
        for of in evaluations
    ]
    return pooled(rows, "value", round(rows[0]["n"])) if rows else None


def votes(found: Sequence[Result], method: str, k: int) -> Accuracy | None:
    """The accuracy of a method of `explainft vote` with k samples."""
    files = reports(found, "votes", "vote.json")
    rows = [e for of in files for c in of["curves"] if c["method"] == method for e in c["estimates"] if e["k"] == k]
    return pooled(rows, "value", files[0]["problems"]) if rows else None


def styles(found: list[Result]) -> str:
    rows = []
    for style in STYLES:
        runs = pick(found, "voting", style=style)
        single, many = votes(runs, PASS, 1), votes(runs, MAJORITY, 64)
        gain = f"{100 * (many.mean - single.mean):+.1f}" if single and many else DASH
        tokens = [of["tokens"] for of in reports(runs, "votes", "vote.json")]
        cells = (cell(exact_match(runs, "greedy", style)), cell(single), cell(many), gain)
        ceiling, cost = cell(votes(runs, PASS, 64)), f"{statistics.mean(tokens):.1f}" if tokens else DASH
        rows.append((style, *cells, ceiling, cost))
    head = ("style", "greedy", "pass@1", "majority@64", "gain in points", "pass@64", "tokens a sample")
    return table(head, rows)


def samples(found: list[Result]) -> str:
    rows = []
    for k in SAMPLES:
        cells = [cell(votes(pick(found, "voting", style=style), MAJORITY, k)) for style in STYLES]
        rows.append((str(k), *cells, cell(votes(pick(found, "voting", style="medium"), PASS, k))))
    return table(("samples", *(f"majority, {style}" for style in STYLES), "pass@k, medium"), rows)


def reranking(found: list[Result]) -> str:
    runs = pick(found, "verifiers")
    by_size = {size: reports(runs, f"rerank_{size}", "rerank.json") for size in VERIFIERS}
    ceilings = [row["method"] for of in by_size["small"][:1] for row in of["methods"] if row["ceiling"]]

    def accuracy(size: str, method: str) -> Accuracy | None:
        named = [row for of in by_size[size] for row in of["methods"] if _without_k(row) == method]
        return pooled(named, "accuracy", by_size[size][0]["problems"]) if named else None

    rows = [(method, *(cell(accuracy(size, method)) for size in VERIFIERS)) for method in METHODS]
    rows += [(f"{method}: a ceiling", *(cell(accuracy(size, method)) for size in VERIFIERS)) for method in ceilings]
    return table(("answer", *(f"verifier of {words}" for words in VERIFIERS.values())), rows)


def _without_k(row: dict[str, Any]) -> str:
    """The name of a method without the K that its validation file chose."""
    return row["method"] if row["ceiling"] else _general(row["method"])


def _general(method: str) -> str:
    return re.sub(r"(Top-|Maj)\d+$", r"\1K", method)


def differences(found: list[Result]) -> str:
    """Paired differences in points, on the same problems."""
    runs, rows = pick(found, "verifiers"), []
    for method, baseline in COMPARED:
        cells = []
        for size in VERIFIERS:
            reranked = reports(runs, f"rerank_{size}", "rerank.json")
            pairs = [d for of in reranked for d in of["differences"]]
            cells.append(_points([d for d in pairs if _names(d) == (method, baseline)]))
        rows.append((f"{method} over {baseline}", *cells))
    return table(("difference in points", *(f"verifier of {words}" for words in VERIFIERS.values())), rows)


def _names(difference: dict[str, Any]) -> tuple[str, str]:
    return _general(difference["method"]), _general(difference["baseline"])


def _points(rows: Sequence[dict[str, Any]]) -> str:
    """The mean over seeds, the mean of their intervals, and the range."""
    if not rows:
        return DASH
    value, low, high = (100 * statistics.mean(row[name] for row in rows) for name in ("value", "low", "high"))
    points = [100 * row["value"] for row in rows]
    seeds = f"{min(points):+.1f} to {max(points):+.1f}" if len(points) > 1 else "1 seed"
    return f"**{value:+.1f}** [{low:+.1f}, {high:+.1f}] ({seeds})"


def verifiers(found: list[Result]) -> str:
    runs, rows = pick(found, "verifiers"), []
    for size, words in VERIFIERS.items():
        calibrations = reports(runs, f"test_{size}", "calibration.json")
        names = ("auroc", "answer_auroc", "checker_auroc", "auroc_within", "length_auroc", "ece", "brier")
        cells = [_measure(calibrations, name) for name in names]
        flops = reports(runs, f"verifier_{size}", "flops")
        rows.append((words, *cells, f"{statistics.mean(flops) / 1e12:.1f}" if flops else DASH))
    head = (
        "verifier",
        "AUROC of its label",
        "AUROC of the answer",
        "step checker's AUROC of the answer",
        "AUROC within problems",
        "AUROC of the length alone",
        "ECE",
        "Brier score",
        "training TFLOP",
    )
    return table(head, rows)


def _measure(calibrations: Sequence[dict[str, Any]], name: str) -> str:
    """The mean over seeds, and their range. A measure is a number with its interval, undefined for one class."""
    values = [of[name]["value"] for of in calibrations if of[name] is not None and of[name]["value"] is not None]
    if not values:
        return DASH
    return f"**{statistics.mean(values):.3f}** ({min(values):.3f} to {max(values):.3f})"


def sequential(found: list[Result]) -> str:
    regimes, rows = ("98000", "3000"), []
    for stage, words in STARTS.items():
        runs = {examples: pick(found, "sequential", examples=examples) for examples in regimes}
        tested = (cell(exact_match(of, f"test_{stage}")) for of in runs.values())
        over = [DASH] * len(regimes) if stage == CONTROL else [_over_control(of, stage) for of in runs.values()]
        peaks = [step for of in runs.values() for step in reports(of, stage, "best_step") if step is not None]
        flops = [_further_flops(r, stage) for of in runs.values() for r in of if stage in r["stages"]]
        cost = f"{statistics.mean(flops) / 1e12:.2f}" if flops and stage != "generator" else DASH
        rows.append((words, *tested, *over, f"{statistics.mean(peaks):,.0f}" if peaks else DASH, cost))
    head = [f"{int(n):,} examples" for n in regimes]
    over = [f"over the control, {n}" for n in head]
    return table(("further training", *head, *over, "step of the peak", "further TFLOP"), rows)


def _over_control(runs: Sequence[Result], stage: str) -> str:
    """The difference to the control of the same seed, with Newcombe's interval for independent proportions.

    `eval` reports no correctness by problem to pair. Where a problem that is easy for one is easy for the other, the
    paired interval would be narrower.
    """
    task, rows = TEST.format(style="medium"), []
    for run in runs:
        if {f"test_{stage}", f"test_{CONTROL}"} <= run["stages"].keys():
            [of], [control] = reports([run], f"test_{stage}", task), reports([run], f"test_{CONTROL}", task)
            value = of["exact_match"] - control["exact_match"]
            down = of["exact_match"] - of["exact_match_low"], control["exact_match_high"] - control["exact_match"]
            up = of["exact_match_high"] - of["exact_match"], control["exact_match"] - control["exact_match_low"]
            rows.append({"value": value, "low": value - math.hypot(*down), "high": value + math.hypot(*up)})
    return _points(rows)


def _further_flops(run: Result, stage: str) -> float:
    """The FLOPs that a trial took after the generator, up to where its stages stopped."""
    return sum(run["stages"][name]["report"]["flops"] for name in FURTHER.get(stage, (stage,)) if name in run["stages"])


def cost(found: list[Result]) -> str:
    """What has been run, and how much of the machine it took."""
    rows, total = [], 0.0
    for name in ("voting", "verifiers", "sequential"):
        runs = pick(found, name)
        hours = sum(stage["seconds"] for r in runs for stage in r["stages"].values()) / 3600
        total += hours
        rows.append((f"`explainft pipeline experiments/pipelines/{name}.gin`", f"{len(runs)}", f"{hours:.1f}"))
    return table(("pipeline", "trials done", "core-hours"), [*rows, ("all", f"{len(found)}", f"{total:.1f}")])


# Each with the pipeline that fills it.
TABLES: dict[str, tuple[Callable[[list[Result]], str], str | None]] = {
    "voting_styles": (styles, "voting"),
    "voting_samples": (samples, "voting"),
    "reranking": (reranking, "verifiers"),
    "differences": (differences, "verifiers"),
    "verifiers": (verifiers, "verifiers"),
    "sequential": (sequential, "sequential"),
    "pipelines": (cost, None),
}


def render(name: str, found: list[Result]) -> str:
    """Returns a table in Markdown, and below it the command that fills it."""
    function, pipeline = TABLES[name]
    command = f"\n\nFrom `explainft pipeline experiments/pipelines/{pipeline}.gin`." if pipeline else ""
    return f"{function(found)}{command}"
