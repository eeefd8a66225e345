"""The tables of docs/results.md and README.md; a cell without a result is a dash, which its sweep's command fills."""

import statistics
from collections.abc import Callable, Iterable, Sequence

from experiments.accuracy import (
    EXAMPLES,
    LENGTHS,
    SIZES,
    STYLES,
    T5_SIZES,
    Accuracy,
    Result,
    accuracy,
    by_length,
    mean_of,
    pick,
)

DASH = "-"
FEWER_UPDATES = {"3.7M": ", 2,000 updates"}  # than the recipes: experiments/larger.gin


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(found: Accuracy | None) -> str:
    return DASH if found is None else found.text()


def sizes(found: list[Result]) -> str:
    rows = [
        (style, *(cell(accuracy(pick(found, style=style, size=size), "test")) for size in SIZES)) for style in STYLES
    ]
    return table(("style", *(f"{size} parameters{FEWER_UPDATES.get(size, '')}" for size in SIZES)), rows)


def t5(found: list[Result]) -> str:
    """As the paper has it: the public checkpoints, fine-tuned."""
    rows = [
        (style, *(cell(accuracy(pick(found, style=style, size=size), "listops30_test")) for size in T5_SIZES))
        for style in STYLES
    ]
    return table(("style", *(f"T5-{size.upper() if size == '3b' else size}" for size in T5_SIZES)), rows)


def t5_claims(found: list[Result]) -> str:
    rows = []
    for words, split, axis_values in (
        ("(c) modular sum, T5-small", "modsum30_test", {"task": "modsum", "size": "small"}),
        ("(c) modular sum, T5-3B", "modsum30_test", {"task": "modsum", "size": "3b"}),
        (
            "(e) T5-large, trained on 51-99 tokens, tested on 101-199",
            "listops30_50_100_longer",
            {"data": "50-100", "size": "large"},
        ),
    ):
        accuracies = [cell(accuracy(pick(found, style=style, **axis_values), split)) for style in ("none", "medium")]
        rows.append((words, *accuracies))
    return table(("claim", "none", "medium"), rows)


def valid(found: list[Result]) -> str:
    rows = []
    for style in ("short", "medium", "long"):
        runs = pick(found, style=style)
        rows.append(
            (style, cell(accuracy(runs, "test", "valid")), _number(mean_of(runs, "test", "step_accuracy"), ".1%"))
        )
    return table(("style", "every step and the answer correct", "steps correct"), rows)


def splits(found: list[Result]) -> str:
    names = {"test": "test", "longer": "longer (25-60)", "larger_numbers": "larger numbers (10-29)"}
    rows = [(style, *(cell(accuracy(pick(found, style=style), split)) for split in names)) for style in STYLES]
    return table(("style", *names.values()), rows)


def lengths(found: list[Result]) -> str:
    styles = (*STYLES, "marked", "steps", "local_steps")
    rows = [(style, *(cell(by_length(pick(found, style=style), r)) for r in LENGTHS.values())) for style in styles]
    n_of = {name: by_length(pick(found, style="medium"), r) for name, r in LENGTHS.items()}
    return table(
        ("style", *(f"length {name}, n = {n.n:,}" if n else f"length {name}" for name, n in n_of.items())), rows
    )


def twice(found: list[Result]) -> str:
    splits = {"as in the table above": "tiny_25_96_twice", "rejected lines resampled": "tiny_25_96_again_twice"}
    styles = ("steps", "local_steps")
    accuracies = {style: [accuracy(pick(found, style=style), split) for split in splits.values()] for style in styles}
    n = max(of.n if of else 0 for row in accuracies.values() for of in row)
    head = (f"length 45-49, n = {n:,}", *splits)
    return table(head, [(style, *map(cell, row)) for style, row in accuracies.items()])


def examples(found: list[Result]) -> str:
    rows = [
        (f"{int(n):,}", *(cell(accuracy(pick(found, style=style, examples=n), "test")) for style in ("none", "medium")))
        for n in EXAMPLES
    ]
    return table(("training examples", "none", "medium"), rows)


def modsum(found: list[Result]) -> str:
    rows = [
        (style, *(cell(accuracy(pick(found, style=style, task="modsum"), split)) for split in ("test", "longer")))
        for style in ("none", "medium")
    ]
    return table(("style", "test", "longer (25-60)"), rows)


def explained(found: list[Result]) -> str:
    rows = [("0 (style none, its own recipe)", cell(accuracy(pick(found, style="none", percent="100"), "test")), DASH)]
    for percent in ("2", "10", "50", "100"):
        runs = pick(found, style="medium", percent=percent)
        rows.append((percent, cell(accuracy(runs, "test")), cell(accuracy(runs, "test", "valid"))))
    return table(("explained training examples, percent", "answer correct", "every step correct"), rows)


def ablations(found: list[Result]) -> str:
    parts = {"": "nothing", "lists": "the lists of MIN, MAX and SUM", "sorting": "MED's sorted list", "sum": "the sum"}
    rows = []
    for part, words in parts.items():
        runs = pick(found, without=part)
        split = "tiny_without_test" if part else "test"
        rows.append((words, cell(accuracy(runs, split)), _number(mean_of(runs, split, "decoded_tokens"), ".1f")))
    return table(("left out of medium", "test", "tokens an answer"), rows)


def unseen(found: list[Result]) -> str:
    rows = []
    cells = [("none", "240k"), ("medium", "240k"), ("long", "240k"), ("long", "0.9M"), ("digits", "240k")]
    for style, size in (*cells, ("unmet_digits", "240k")):
        runs = pick(found, style=style, size=size, data="gaps")
        config = "tiny_gaps_unmet" if style == "unmet_digits" else "tiny_gaps"  # that of its tasks' names
        accuracies = [cell(accuracy(runs, f"{config}_{split}")) for split in ("test", "larger_numbers")]
        rows.append((f"{style}, {size} parameters", *accuracies))
    return table(("style", "numbers trained on", "numbers in no input of training"), rows)


def faster(found: list[Result]) -> str:
    rows = []
    for words, axis_values in (
        ("neither", {}),
        ("`OUTPUT_VOCABULARY=task`", {"output_vocabulary": "task"}),
        ("`MATMUL_PRECISION=bfloat16`", {"precision": "bfloat16"}),
    ):
        runs = pick(found, **axis_values)
        rows.append((words, *(cell(accuracy(runs, split)) for split in ("test", "longer", "larger_numbers"))))
    return table(("in training", "test", "longer (25-60)", "larger numbers (10-29)"), rows)


def cost(found: list[Result]) -> str:
    rows = []
    for style in (*STYLES, "marked", "steps", "local_steps"):
        runs = pick(found, style=style)
        rows.append(
            (
                style,
                cell(accuracy(runs, "test")),
                f"{runs[0]['flops'] / 1e12:.1f}" if runs else DASH,
                f"{statistics.mean(r['examples'] for r in runs):,.0f}" if runs else DASH,
                _number(mean_of(runs, "test", "decoded_tokens"), ".1f"),
            )
        )
    head = ("style", "test", "training TFLOP", "examples seen", "tokens an answer")
    return table(head, rows)


def _number(value: float | None, form: str) -> str:
    return DASH if value is None else format(value, form)


def budget(found: list[Result]) -> str:
    """What has been run, and how much of the machine it took."""
    rows, total = [], 0.0
    for name in sorted({result["sweep"] for result in found}):
        of = [result for result in found if result["sweep"] == name]
        hours = sum(result["seconds"] for result in of) / 3600
        total += hours
        rows.append((f"`explainft sweep experiments/{name}.gin`", f"{len(of)}", f"{hours:.1f}"))
    rows.append(("all", f"{len(found)}", f"{total:.1f}"))
    machines = sorted({f"{r['made_with']['cpu']}, jax {r['made_with']['jax']}" for r in found})
    timed = [result for result in found if "wall_seconds" in result]
    more = sum(r["wall_seconds"] for r in timed) / sum(r["seconds"] for r in timed) if timed else 1.0
    return (
        table(("sweep", "cells done", "hours of training"), rows)
        + f"\n\nMade on: {'; '.join(machines)}; one core a run, beside other work. A whole cell, evaluations and "
        f"start included, took {more:.2f} times its training, on average of the {len(timed)} that tell."
    )


# Each with the sweeps that fill it.
TABLES: dict[str, tuple[Callable[[list[Result]], str], tuple[str, ...]]] = {
    "sizes": (sizes, ("sizes", "larger")),
    "t5": (t5, ("t5",)),
    "t5_claims": (t5_claims, ("t5_modsum", "t5_longer")),
    "valid": (valid, ("sizes",)),
    "splits": (splits, ("sizes",)),
    "lengths": (lengths, ("sizes", "marked", "steps")),
    "twice": (twice, ("steps",)),
    "examples": (examples, ("examples", "sizes")),
    "modsum": (modsum, ("modsum",)),
    "explained": (explained, ("explained", "sizes")),
    "ablations": (ablations, ("ablations", "sizes")),
    "unseen": (unseen, ("unseen", "unseen_larger")),
    "faster": (faster, ("sizes", "output_vocabulary", "precision")),
    "cost": (cost, ("sizes", "marked", "steps")),
    "budget": (budget, ()),
}


def render(name: str, found: list[Result]) -> str:
    """Returns a table in Markdown, and below it the commands that fill it."""
    function, sweeps = TABLES[name]
    if not sweeps:
        return function(found)
    commands = ", ".join(f"`explainft sweep experiments/{sweep}.gin`" for sweep in sweeps)
    return f"{function(found)}\n\nFrom {commands}."
