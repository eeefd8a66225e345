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

import altair as alt

from benchmarks.side_by_side import BASELINE, RESULTS
from explainft.reporting import looks, vega

COLOURS = {"explainft": looks.COLOURS[0], BASELINE: looks.COLOURS[1]}
DATA_COLOURS = looks.COLOURS[2:5]
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


def draw(points: dict[str, dict[str, Any]], rows: list[dict[str, Any]]) -> Any:
    """Returns the chart of the points and of the `rows` of benchmarks.data_at_size."""
    rates = [
        _panel(
            [
                {"x": str(value), "y": rate, "line": contender}
                for value in values
                for contender, rate in points.get(axis, {}).get(str(value), {}).get("tokens_per_second", {}).items()
                if contender in COLOURS
            ],
            title=axis,
            y="tokens/s",
            x=alt.X("x:O", title=None, sort=[str(value) for value in values], axis=alt.Axis(labelAngle=0)),
            colour=_colour(list(COLOURS), list(COLOURS.values())),
        )
        for axis, (_, _, values) in AXES.items()
    ]
    data = [
        _panel(
            [{"x": row["examples"], "y": value(row), "line": row["work"]} for row in rows],
            title=title,
            y=y,
            x=alt.X("x:Q", title=None, scale=alt.Scale(type="log"), axis=alt.Axis(format="~s", tickCount=3)),
            colour=_colour(list(dict.fromkeys(row["work"] for row in rows)), list(DATA_COLOURS)),
        )
        for title, y, value in (
            ("data: examples", "examples/s", lambda row: row["examples"] / row["seconds"]),
            ("data: examples", "peak MiB", lambda row: row["peak_mib"]),
        )
    ]
    grid = alt.vconcat(alt.hconcat(*rates[:3]), alt.hconcat(*rates[3:]))
    return alt.hconcat(grid, alt.vconcat(*data)).resolve_scale(color="independent")


def _colour(lines: list[str], colours: list[str]) -> alt.Color:
    scale = alt.Scale(domain=lines, range=colours)
    return alt.Color("line:N", title=None, scale=scale, legend=alt.Legend(orient="bottom"))


def _panel(rows: list[dict[str, Any]], title: str, y: str, x: alt.X, colour: alt.Color) -> alt.Chart:
    axis = alt.Axis(format="~s", tickCount=5)
    return (
        alt.Chart(alt.InlineData(rows), width=230, height=190, title=alt.TitleParams(title, fontSize=12))
        .mark_line(point=True)
        .encode(x, alt.Y("y:Q", title=y, axis=axis, scale=alt.Scale(type="log", nice=False)), colour)
    )


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
    chart = draw(points, json.loads(data.read_text())["rows"] if data.is_file() else [])
    FIGURE.write_text(vega.svg(chart), encoding="utf-8")


if __name__ == "__main__":
    main()
