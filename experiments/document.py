"""Tables and figures of docs/results.md and README.md, made from results/ alone.

    python -m experiments.document            # writes them
    python -m experiments.document --check    # exit code 1 where one of them differs

A table stands between `<!-- table NAME -->` and `<!-- end -->`; what is between them is made anew. A cell that has no
result yet is a dash: the sweep's command fills it.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from explainft.figures import COLOURS
from explainft.metrics import wilson

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "docs" / "results.md", ROOT / "README.md")
FIGURES = ROOT / "docs" / "figures"
STYLES = ("none", "short", "medium", "long", "shuffled")
COLOUR = dict(zip(STYLES, ("#000000", COLOURS[5], COLOURS[0], COLOURS[2], COLOURS[3]), strict=True)) | {
    "steps": COLOURS[4],
    "local_steps": COLOURS[1],
}
SIZES = ("60k", "240k", "0.9M", "3.7M")
EXAMPLES = ("1000", "3000", "10000", "30000", "98000")
DASH = "-"
# Lengths of the test split of tiny (8-24) and of tiny_25_96, as multiples of the longest that was trained on; 45-49
# once more by itself, as twice that.
LENGTHS = {
    "8-24": range(8, 25), "25-49": range(25, 50), "45-49": range(45, 50), "50-69": range(50, 70), "70-96": range(70, 97)
}  # fmt: skip

# What a sweep without an axis has on it, and what a table shows that does not speak of it.
DEFAULTS = {
    "style": "medium", "size": "240k", "examples": "98000", "percent": "100", "task": "tiny", "without": "", "data": "",
    "pieces": "all", "precision": "float32",
}  # fmt: skip

Result = dict[str, Any]


class Share(NamedTuple):
    """A share of all examples of some runs: the runs' mean, their least and greatest, Wilson's interval of all."""

    mean: float
    least: float
    greatest: float
    low: float
    high: float
    n: int
    runs: int

    def text(self) -> str:
        return f"**{self.mean:.1%}** [{100 * self.low:.1f}, {100 * self.high:.1f}]" + (
            f" ({100 * self.least:.1f} to {100 * self.greatest:.1f})" if self.runs > 1 else " (1 seed)"
        )


def results(folder: Path = ROOT / "results") -> list[Result]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/*.json"))]


def pick(found: Iterable[Result], **labels: str) -> list[Result]:
    """The results, of any seed, with these values on the axes; on the others with those of DEFAULTS, and on no more."""
    wanted = DEFAULTS | labels
    return [
        r
        for r in found
        if r["labels"].keys() <= DEFAULTS.keys() | {"seed"}
        and all(r["labels"].get(axis, DEFAULTS[axis]) == value for axis, value in wanted.items())
    ]


def share(found: Sequence[Result], split: str, metric: str = "exact_match") -> Share | None:
    """`split`: the end of an evaluation task's name, "tiny_25_96_test", with the config before the split."""
    cells = [metrics for result in found if (metrics := _metrics(result, split)) and metric in metrics]
    return _pooled([(cell[metric] * cell["n"], cell["n"]) for cell in cells])


def _pooled(counts: Sequence[tuple[float, float]]) -> Share | None:
    counts = [(right, n) for right, n in counts if n]
    if not counts:
        return None
    right, n = (round(sum(column)) for column in zip(*counts, strict=True))
    shares = [r / n for r, n in counts]
    return Share(statistics.mean(shares), min(shares), max(shares), *wilson(right, n), n, len(shares))


def _metrics(result: Result, split: str) -> dict[str, float] | None:
    for task, metrics in result["evaluations"].items():
        config, _, of_config = re.sub("_compact$", "", task).partition("_eval_")
        config = config.removeprefix("explained_").rpartition("_")[0]
        if split in (of_config if config in ("tiny", "modsum_tiny") else None, f"{config}_{of_config}"):
            return metrics
    return None


def by_length(found: Sequence[Result], lengths: range) -> Share | None:
    counts = []
    for result in found:
        right = n = 0.0
        for split in ("test", "tiny_25_96_test"):
            for name, of_group in (_metrics(result, split) or {}).items():
                if name.startswith("n/length/") and _overlap(name.removeprefix("n/length/"), lengths):
                    right += of_group * (_metrics(result, split) or {})[name.replace("n/", "exact_match/", 1)]
                    n += of_group
        counts.append((right, n))
    return _pooled(counts)


def _overlap(bucket: str, lengths: range) -> bool:
    """Whether the metrics' bucket, "5-9" or "90-99", holds lengths of the range. No data lie between the two tasks."""
    first, last = map(int, bucket.split("-"))
    return first < lengths.stop and lengths.start <= last


# ---- tables


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(found: Share | None) -> str:
    return DASH if found is None else found.text()


def sizes(found: list[Result]) -> str:
    rows = [(style, *(cell(share(pick(found, style=style, size=size), "test")) for size in SIZES)) for style in STYLES]
    return table(("style", *(f"{size} parameters" for size in SIZES)), rows)


def valid(found: list[Result]) -> str:
    rows = []
    for style in ("short", "medium", "long"):
        runs = pick(found, style=style)
        rows.append((style, cell(share(runs, "test", "valid")), _mean(runs, "test", "step_accuracy", ".1%")))
    return table(("style", "every step and the answer right", "steps right"), rows)


def splits(found: list[Result]) -> str:
    names = {"test": "test", "longer": "longer (25-60)", "larger_numbers": "larger numbers (10-29)"}
    rows = [(style, *(cell(share(pick(found, style=style), split)) for split in names)) for style in STYLES]
    return table(("style", *names.values()), rows)


def lengths(found: list[Result]) -> str:
    styles = (*STYLES, "marked", "steps", "local_steps")
    rows = [(style, *(cell(by_length(pick(found, style=style), r)) for r in LENGTHS.values())) for style in styles]
    return table(("style", *(f"length {name}" for name in LENGTHS)), rows)


def examples(found: list[Result]) -> str:
    rows = [
        (f"{int(n):,}", *(cell(share(pick(found, style=style, examples=n), "test")) for style in ("none", "medium")))
        for n in EXAMPLES
    ]
    return table(("training examples", "none", "medium"), rows)


def modsum(found: list[Result]) -> str:
    rows = [
        (style, *(cell(share(pick(found, style=style, task="modsum"), split)) for split in ("test", "longer")))
        for style in ("none", "medium")
    ]
    return table(("style", "test", "longer (25-60)"), rows)


def explained(found: list[Result]) -> str:
    rows = [("0 (style none, its own recipe)", cell(share(pick(found, style="none", percent="100"), "test")), DASH)]
    for percent in ("2", "10", "50", "100"):
        runs = pick(found, style="medium", percent=percent)
        rows.append((percent, cell(share(runs, "test")), cell(share(runs, "test", "valid"))))
    return table(("explained training examples, percent", "answer right", "every step right"), rows)


def ablations(found: list[Result]) -> str:
    parts = {"": "nothing", "lists": "the lists of MIN, MAX and SUM", "sorting": "MED's sorted list", "sum": "the sum"}
    rows = []
    for part, words in parts.items():
        runs = pick(found, without=part)
        split = "tiny_without_test" if part else "test"
        rows.append((words, cell(share(runs, split)), _mean(runs, split, "decoded_tokens", ".1f")))
    return table(("left out of medium", "test", "tokens an answer"), rows)


def unseen(found: list[Result]) -> str:
    rows = []
    for style, size in (("none", "240k"), ("medium", "240k"), ("long", "240k"), ("long", "0.9M"), ("digits", "240k")):
        runs = pick(found, style=style, size=size, data="gaps")
        shares = [cell(share(runs, f"tiny_gaps_{split}")) for split in ("test", "larger_numbers")]
        rows.append((f"{style}, {size} parameters", *shares))
    return table(("style", "numbers trained on", "numbers that were no argument in training"), rows)


def faster(found: list[Result]) -> str:
    rows = []
    for words, labels in (
        ("neither", {}),
        ("`OUTPUT_PIECES=task`", {"pieces": "task"}),
        ("`MATMUL_PRECISION=bfloat16`", {"precision": "bfloat16"}),
    ):
        runs = pick(found, **labels)
        rows.append((words, *(cell(share(runs, split)) for split in ("test", "longer", "larger_numbers"))))
    return table(("in training", "test", "longer (25-60)", "larger numbers (10-29)"), rows)


def cost(found: list[Result]) -> str:
    rows = []
    for style in STYLES:
        runs = pick(found, style=style)
        rows.append(
            (
                style,
                cell(share(runs, "test")),
                f"{runs[0]['flops'] / 1e12:.1f}" if runs else DASH,
                f"{statistics.mean(r['examples'] for r in runs):,.0f}" if runs else DASH,
                f"{statistics.mean(r['seconds'] for r in runs):,.0f}" if runs else DASH,
                _mean(runs, "test", "decoded_tokens", ".1f"),
            )
        )
    head = ("style", "test", "training TFLOP", "examples seen", "seconds of training", "tokens an answer")
    return table(head, rows)


def _mean(runs: Sequence[Result], split: str, metric: str, form: str) -> str:
    values = [metrics[metric] for result in runs if (metrics := _metrics(result, split)) and metric in metrics]
    return format(statistics.mean(values), form) if values else DASH


def budget(found: list[Result]) -> str:
    """What has been run, and how much of the machine it took."""
    rows = []
    for name in sorted({result["sweep"] for result in found}):
        of = [result for result in found if result["sweep"] == name]
        hours = sum(result["seconds"] for result in of) / 3600
        rows.append((f"`explainft sweep experiments/{name}.gin`", f"{len(of)}", f"{hours:.1f}"))
    machines = sorted({f"{r['made_with']['cpu']}, jax {r['made_with']['jax']}" for r in found})
    return (
        table(("sweep", "cells done", "hours of training"), rows)
        + f"\n\nMade on: {'; '.join(machines)}; one core a run, beside other work, evaluation not counted."
    )


TABLES: dict[str, Callable[[list[Result]], str]] = {
    function.__name__: function
    for function in (
        sizes,
        valid,
        splits,
        lengths,
        examples,
        modsum,
        explained,
        ablations,
        unseen,
        faster,
        cost,
        budget,
    )
}


# ---- figures


def panel(width: float = 6.4, height: float = 3.6) -> tuple[Figure, Axes]:
    fig = Figure(figsize=(width, height), layout="constrained")
    ax = fig.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e6e6e6")
    ax.set_axisbelow(True)
    ax.set(ylim=(0, 1), ylabel="final answers right")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return fig, ax


def with_legend(fig: Figure) -> Figure:
    [ax] = fig.axes
    if ax.get_legend_handles_labels()[0]:
        fig.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=4)  # no curve runs there
    return fig


def points(ax: Axes, xs: Sequence[float], shares: Sequence[Share | None], label: str, colour: str) -> None:
    kept = [(x, found) for x, found in zip(xs, shares, strict=True) if found is not None]
    if not kept:
        return
    at = [x for x, _ in kept]
    ax.fill_between(at, [f.low for _, f in kept], [f.high for _, f in kept], color=colour, alpha=0.15, lw=0)
    ax.plot(at, [f.mean for _, f in kept], "-o", color=colour, lw=2, ms=4, label=label, clip_on=False)
    for x, f in kept:
        ax.vlines(x, f.least, f.greatest, color=colour, lw=1)


def styles_figure(found: list[Result]) -> Figure:
    fig, ax = panel()
    for i, style in enumerate(STYLES):
        for j, size in enumerate(SIZES[:2]):
            runs = pick(found, style=style, size=size)
            if (f := share(runs, "test")) is None:
                continue
            x = i + (j - 0.5) * 0.36
            ax.bar(x, f.mean, 0.34, color=COLOUR[style], alpha=(0.55, 1.0)[j])
            ax.vlines(x, f.least, f.greatest, color="#777777", lw=2)
            ax.annotate(
                f"{f.mean:.0%}\n{size}", (x, f.greatest), (0, 3), textcoords="offset points", ha="center", fontsize=7
            )
    ax.set_xticks(range(len(STYLES)), STYLES)
    ax.set(ylim=(0, 1.12), title="test split of tiny, by style of explanation and size")
    return fig


def lengths_figure(found: list[Result]) -> Figure:
    fig, ax = panel()
    groups = {9: range(8, 10), 12: range(10, 15), 17: range(15, 20), 22: range(20, 25), 27: range(25, 30),
              32: range(30, 35), 37: range(35, 40), 42: range(40, 45), 47: range(45, 50),
              55: range(50, 60), 65: range(60, 70), 75: range(70, 80), 85: range(80, 90),
              95: range(90, 97)}  # fmt: skip
    for style in (*STYLES, "steps", "local_steps"):
        shares = [by_length(pick(found, style=style), lengths) for lengths in groups.values()]
        points(ax, list(groups), shares, style, COLOUR[style])
    ax.axvspan(8, 24.5, color="#f0f0f0", zorder=0)
    ax.annotate("trained on", (9, 0.02), fontsize=8, color="#555555")
    ax.set(xlabel="length of the expression", xlim=(8, 96))
    return with_legend(fig)


def examples_figure(found: list[Result]) -> Figure:
    fig, ax = panel()
    for style in ("none", "medium"):
        shares = [share(pick(found, style=style, examples=n), "test") for n in EXAMPLES]
        points(ax, [int(n) for n in EXAMPLES], shares, style, COLOUR[style])
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set(xlabel="training examples")
    return with_legend(fig)


def training_figure(found: list[Result]) -> Figure:
    """Validation during training against examples seen: claim (d)'s epochs."""
    fig, ax = panel()
    for style in STYLES:
        runs = pick(found, style=style)
        by_step: dict[int, list[tuple[float, float, float]]] = {}
        for result in runs:
            for step, seen, right, n in result["curve"]["rows"]:
                by_step.setdefault(step, []).append((seen, right * n, n))
        steps = sorted(by_step)
        seen = [statistics.mean(row[0] for row in by_step[step]) for step in steps]
        points(ax, seen, [_pooled([row[1:] for row in by_step[step]]) for step in steps], style, COLOUR[style])
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set(xlabel="training examples seen (98,000 an epoch)", xlim=(0, None))
    return with_legend(fig)


PICTURES: dict[str, Callable[[list[Result]], Figure]] = {
    "styles.svg": styles_figure,
    "lengths.svg": lengths_figure,
    "examples.svg": examples_figure,
    "training.svg": training_figure,
}


def svg(figure: Figure) -> bytes:
    """The same bytes for the same figure."""
    buffer = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "explainft", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


# ---- documents


def filled(text: str, found: list[Result]) -> str:
    """A document with its tables made anew."""

    def fill(match: re.Match[str]) -> str:
        return f"<!-- table {match[1]} -->\n\n{TABLES[match[1]](found)}\n\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a document differs")
    check = parser.parse_args().check
    found = results()
    made = {path: filled(path.read_text(encoding="utf-8"), found).encode() for path in DOCUMENTS}
    made |= {FIGURES / name: svg(picture(found)) for name, picture in PICTURES.items()}
    differing = [path for path, content in made.items() if not path.is_file() or path.read_bytes() != content]
    if check:
        for path in differing:
            print(f"{path.relative_to(ROOT)} is not what results/ says; run: python -m experiments.document")
        sys.exit(1 if differing else 0)
    FIGURES.mkdir(parents=True, exist_ok=True)
    for path in differing:
        path.write_bytes(made[path])
        print(f"{path.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
