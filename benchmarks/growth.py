"""How the cost of training and greedy decoding scales with length, batch size and model size, next to Hugging Face;
and how the cost of data scales with the number of examples (benchmarks.data_at_size).

    python -m benchmarks.growth             # about an hour on two cores
    python -m benchmarks.growth --plot      # the figure alone, from benchmarks/results/growth.json

Each point is a run of benchmarks.train_step or benchmarks.decode, which compare the contenders' results. Points that
are already measured are skipped.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.side_by_side import BASELINE, RESULTS
from explainft.reporting.looks import COLOURS

LENGTHS = (64, 128, 256, 512, 1024, 2048)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIZES = ("tiny", "small", "base", "large")
REPETITION_TOKENS = 8192  # maximum per repetition of training
FIGURE = Path(__file__).parent.parent / "docs" / "figures" / "growth.svg"
# Per axis: the row, its flags with the axis value in braces, and the values.
AXES: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "training: tokens per sequence (batch size 2)": ("train_step", "--batch 2 --inputs {0} --targets {0}", LENGTHS),
    "training: batch size (128 + 128 tokens)": ("train_step", "--batch {0}", BATCHES),
    "training: model size (batch size 8, 128 + 128 tokens)": ("train_step", "--size {0}", SIZES),
    "decoding: generated tokens (batch size 4)": ("decode", "--batch 4 --inputs 128 --length {0}", LENGTHS[:-1]),
    "decoding: batch size (128 input, 64 generated tokens)": ("decode", "--batch {0}", BATCHES),
    "decoding: model size (batch size 16, 128 + 64 tokens)": ("decode", "--size {0}", SIZES),
}


def measure(row: str, flags: str, repetitions: int, baseline: str) -> dict[str, Any]:
    """Returns the tokens/s of each contender: inputs and targets in training, generated ones in decoding."""
    words = flags.split()
    of = {name: int(words[words.index(name) + 1]) if name in words else 128 for name in ("--inputs", "--targets")}
    batch = int(words[words.index("--batch") + 1]) if "--batch" in words else 8
    tokens = 1  # the rate of decoding already counts tokens
    if row == "train_step":
        tokens = batch * (of["--inputs"] + of["--targets"])
        words += ["--steps", str(min(4, max(1, REPETITION_TOKENS // tokens)))]
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "point.json"
        command = [sys.executable, "-m", f"benchmarks.{row}", *words, "--only", baseline, "--warm_ups", "1",
                   "--repetitions", str(repetitions), "--output", str(output)]  # fmt: skip
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            return {"failed": " ".join(command)}
        report = json.loads(output.read_text())
    return {
        "command": f"python -m benchmarks.{row} {' '.join(words)}",
        "tokens_per_second": {name: tokens * s["rate"]["median"] for name, s in report["contenders"].items()},
        "peak_memory": {name: s["peak_memory"] for name, s in report["contenders"].items()},
        "repetitions": repetitions,
        "machine": report["machine"],
        "versions": report["versions"],
    }


def figure(points: dict[str, dict[str, Any]], rows: list[dict[str, Any]]) -> Figure:
    """`rows`: those of benchmarks.data_at_size."""
    fig = Figure(figsize=(14.5, 6.4))
    axes = fig.subplots(2, 4)
    for ax, (axis, (_, _, values)) in zip(axes[:, :3].flat, AXES.items(), strict=True):
        found = {value: points[axis][str(value)] for value in values if str(value) in points.get(axis, {})}
        found = {value: point for value, point in found.items() if "failed" not in point}
        for contender, colour in (("explainft", "#0072B2"), (BASELINE, "#D55E00")):
            rates = [found.get(value, {}).get("tokens_per_second", {}).get(contender) for value in values]
            xs = [i for i, rate in enumerate(rates) if rate]
            ys = [rate for rate in rates if rate]
            ax.plot(xs, ys, "-o", color=colour, lw=2, ms=4, label=contender)
        ax.set_xticks(range(len(values)), [str(value) for value in values])
        _logarithmic(ax, axis)
    for ax, title in ((axes[0, 3], "data, examples/s of their number"), (axes[1, 3], "data, peak MiB of their number")):
        for work, colour in zip(dict.fromkeys(row["work"] for row in rows), COLOURS, strict=False):
            of_work = [row for row in rows if row["work"] == work]
            rates = [row["examples"] / row["seconds"] for row in of_work]
            ys = rates if ax is axes[0, 3] else [row["peak_mib"] for row in of_work]
            ax.plot([row["examples"] for row in of_work], ys, "-o", color=colour, lw=2, ms=4, label=work)
        ax.set_xscale("log")
        _logarithmic(ax, title)
    for ax in axes[:, 0]:
        ax.set_ylabel("tokens/s")
    axes[0, 0].legend(frameon=False)
    axes[1, 3].legend(frameon=False, fontsize=8, loc="lower right")
    fig.tight_layout()
    return fig


def _logarithmic(ax: Axes, title: str) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_title(title, fontsize=10)
    ax.grid(color="#e6e6e6")
    ax.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--plot", action="store_true")
    args = parser.parse_args()
    output = RESULTS / "growth.json"
    points: dict[str, dict[str, Any]] = json.loads(output.read_text()) if output.is_file() else {}
    for axis, (row, flags, values) in () if args.plot else AXES.items():
        for value in values:
            if "tokens_per_second" in points.setdefault(axis, {}).get(str(value), {}):
                continue
            # Hugging Face's AdamW does not fit into 24 GiB next to explainft.
            baseline = "explainft" if (row, value) == ("train_step", "large") else BASELINE
            point = points[axis][str(value)] = measure(row, flags.format(value), args.repetitions, baseline)
            print(axis, value, point.get("tokens_per_second", point), flush=True)
            output.parent.mkdir(exist_ok=True)
            output.write_text(json.dumps(points, indent=1) + "\n")
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    data = RESULTS / "data_at_size.json"
    figure(points, json.loads(data.read_text())["rows"] if data.is_file() else []).savefig(FIGURE, bbox_inches="tight")


if __name__ == "__main__":
    main()
