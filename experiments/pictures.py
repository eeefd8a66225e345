"""The figures of docs/results.md and README.md."""

import statistics
from collections.abc import Callable, Sequence
from io import BytesIO

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from experiments.shares import EXAMPLES, SIZES, STYLES, Result, Share, by_length, mean_of, pick, pooled, share
from experiments.tables import FEWER_UPDATES
from explainft.reporting.looks import COLOURS

COLOUR = dict(zip(STYLES, ("#000000", COLOURS[5], COLOURS[0], COLOURS[2], COLOURS[3]), strict=True)) | {
    "steps": COLOURS[4],
    "local_steps": COLOURS[1],
    "marked": "#777777",
}
MARKER = dict(zip(COLOUR, "osD^vPX*", strict=True))


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


def points(ax: Axes, xs: Sequence[float], shares: Sequence[Share | None], style: str) -> None:
    colour = COLOUR[style]
    kept = [(x, found) for x, found in zip(xs, shares, strict=True) if found is not None]
    if not kept:
        return
    at = [x for x, _ in kept]
    ax.fill_between(at, [f.low for _, f in kept], [f.high for _, f in kept], color=colour, alpha=0.15, lw=0)
    ax.plot(
        at, [f.mean for _, f in kept], "-", marker=MARKER[style], color=colour, lw=2, ms=5, label=style, clip_on=False
    )
    for x, f in kept:
        ax.vlines(x, f.least, f.greatest, color=colour, lw=1)


def styles_figure(found: list[Result]) -> Figure:
    fig, ax = panel(9.0, 4.0)
    for i, style in enumerate(STYLES):
        shares = {size: share(pick(found, style=style, size=size), "test") for size in SIZES}
        run = {size: f for size, f in shares.items() if f is not None}
        for j, (size, f) in enumerate(run.items()):
            x = i + (j - (len(run) - 1) / 2) * 0.22
            hatch = "////" if size in FEWER_UPDATES else None
            shade = 0.4 + 0.2 * SIZES.index(size)
            ax.bar(x, f.mean, 0.2, color=COLOUR[style], alpha=shade, hatch=hatch, edgecolor="white", lw=0)
            ax.vlines(x, f.least, f.greatest, color="#999999", lw=4)
            interval = [[f.mean - f.low], [f.high - f.mean]]
            ax.errorbar(x, f.mean, interval, color="#333333", elinewidth=1, capsize=2)
            seeds = "\n1 seed" if f.runs == 1 else ""
            ax.annotate(
                f"{f.mean:.0%}\n{size}{seeds}",
                (x, max(f.greatest, f.high)),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
    ax.set_xticks(range(len(STYLES)), STYLES)
    ax.set(ylim=(0, 1.12), title="test split of tiny, by style of explanation and size (3.7M: 2,000 updates)")
    return fig


def lengths_figure(found: list[Result]) -> Figure:
    fig, ax = panel()
    groups = {9: range(8, 10), 12: range(10, 15), 17: range(15, 20), 22: range(20, 25), 27: range(25, 30),
              32: range(30, 35), 37: range(35, 40), 42: range(40, 45), 47: range(45, 50),
              55: range(50, 60), 65: range(60, 70), 75: range(70, 80), 85: range(80, 90),
              95: range(90, 97)}  # fmt: skip
    for style in (*STYLES, "marked", "steps", "local_steps"):
        shares = [by_length(pick(found, style=style), lengths) for lengths in groups.values()]
        points(ax, list(groups), shares, style)
    ax.axvspan(8, 24.5, color="#f0f0f0", zorder=0)
    ax.annotate("trained on", (9, 0.02), fontsize=8, color="#555555")
    ax.set(xlabel="length of the expression", xlim=(8, 96))
    return with_legend(fig)


def examples_figure(found: list[Result]) -> Figure:
    fig, ax = panel()
    for style in ("none", "medium"):
        shares = [share(pick(found, style=style, examples=n), "test") for n in EXAMPLES]
        points(ax, [int(n) for n in EXAMPLES], shares, style)
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
        points(ax, seen, [pooled([row[1:] for row in by_step[step]]) for step in steps], style)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set(xlabel="training examples seen (98,000 an epoch)", xlim=(0, None))
    return with_legend(fig)


def cost_figure(found: list[Result]) -> Figure:
    """What an answer costs: accuracy during training against its FLOPs, and at its end against tokens written."""
    fig = Figure(figsize=(9.6, 3.8))
    training, decoding = fig.subplots(1, 2, sharey=True)
    fig.subplots_adjust(left=0.08, right=0.99, bottom=0.13, top=0.88, wspace=0.06)
    for style in STYLES:
        runs = pick(found, style=style)
        by_step: dict[int, list[tuple[float, float]]] = {}
        for step, _, right, n in (row for result in runs for row in result["curve"]["rows"]):
            by_step.setdefault(step, []).append((right * n, n))
        steps = sorted(by_step)
        spent = [step / runs[0]["steps"] * runs[0]["flops"] / 1e12 for step in steps]
        points(training, spent, [pooled(by_step[step]) for step in steps], style)
    answers = {style: (pick(found, style=style), "test") for style in STYLES}
    for part in ("lists", "sorting", "sum"):
        answers[f"without {part}"] = (pick(found, without=part), "tiny_without_test")
    for label, (runs, split) in answers.items():
        right, tokens = share(runs, split), mean_of(runs, split, "decoded_tokens")
        if right is None or tokens is None:
            continue
        looks = {"color": COLOUR.get(label, COLOUR["medium"]), "fmt": MARKER.get(label, MARKER["medium"])}
        if label not in STYLES:
            looks["mfc"] = "white"
        seeds = [[right.mean - right.least], [right.greatest - right.mean]]
        decoding.errorbar(tokens, right.mean, seeds, ms=5, lw=1, **looks)
        left = label not in STYLES
        place = (-6 if left else 6, -3)
        decoding.annotate(label, (tokens, right.mean), place, textcoords="offset points", fontsize=7,
                          ha="right" if left else "left")  # fmt: skip
    training.set(ylim=(0, 1.04), xlim=(0, None), ylabel="final answers right", xlabel="training TFLOP (validation)")
    decoding.set(xlim=(0, 55), xlabel="tokens of an answer (test; open: medium less a part)")
    for ax in (training, decoding):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#e6e6e6")
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    fig.legend(*training.get_legend_handles_labels(), frameon=False, fontsize=8, loc="upper center", ncols=5)
    return fig


PICTURES: dict[str, Callable[[list[Result]], Figure]] = {
    "styles.svg": styles_figure,
    "lengths.svg": lengths_figure,
    "examples.svg": examples_figure,
    "training.svg": training_figure,
    "cost.svg": cost_figure,
}


def svg(figure: Figure) -> bytes:
    """The same bytes for the same figure."""
    buffer = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "explainft", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()
