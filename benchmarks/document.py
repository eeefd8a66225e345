"""The tables of docs/speed.md and docs/scale.md, from the files of benchmarks/results.

    python -m benchmarks.document            # writes them
    python -m benchmarks.document --check    # exit code 1 where a page differs

A table stands between `<!-- bench NAME -->` and `<!-- end -->`; a row that was not measured is a dash and its command.
`<!-- goals -->` and `<!-- limits -->` begin the tables of what was aimed at, beside peers and by itself.
"""

import argparse
import functools
import json
import operator
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import accelerator, data_at_size, products, side_by_side
from benchmarks.side_by_side import RESULTS

# What ours was to be of a peer's rate: the row's file, the work, and the goal beside each peer.
GOALS: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("train_step", "a training step", {"Hugging Face": 1.1}),
    ("train_step_dropout", "the same with dropout", {"Hugging Face": 1.35, "T5X": 3.0, "T5X, synchronous": 1.5}),
    ("fine_tune", "fine-tuning", {"Hugging Face": 2.0, "Hugging Face, grouped by length": 1.5}),
    ("decode", "greedy decoding", {"T5X": 3.0, "Hugging Face": 2.8, "CTranslate2 int8": 1.1}),
    ("evaluate", "evaluating", {"Hugging Face": 3.0}),
    ("sample", "sampling", {"Hugging Face": 5.0}),
)
PIECES = ("explainft, OUTPUT_VOCABULARY=task", "explainft, task's pieces")  # in float32
SHARE = ("facts", "explainft's share of matrix products, JAX")
# Goals that name no peer: the work, its file, where what was found stands there, the goal, and whether more is better.
LIMITS: tuple[tuple[str, str, tuple[str, ...], float, bool], ...] = (
    ("a training step's share of JAX's products", "train_step", SHARE, 0.85, True),
    ("the same with dropout", "train_step_dropout", SHARE, 0.85, True),
    ("padding share in fine-tuning", "fine_tune", ("facts", "our padding share"), 0.05, False),
    ("greedy decoding, tokens/s", "decode", ("systems", "explainft", "rate", "median"), 1000.0, True),
    ("greedy decoding in int8, tokens/s", "decode", ("systems", "explainft int8", "rate", "median"), 1000.0, True),
    ("making data, examples/s of a process", "dataset", ("systems", "explainft", "rate", "median"), 5000.0, True),
    ("two processes' rate, of one's", "dataset", ("facts", "rate of two processes for each of one's"), 2.0, True),
    ("`explainft --help`, s", "start", ("systems", "explainft --help", "seconds", "median"), 0.5, False),
    ("first update, s", "start", ("systems", "explainft train, first update", "seconds", "median"), 8.0, False),
)
DOCS = Path(__file__).parent.parent / "docs"
PAGES = (DOCS / "speed.md", DOCS / "scale.md")


def table(report: dict[str, Any]) -> str:
    if "sizes" in report:
        return accelerator.table(report)
    return data_at_size.table(report) if "rows" in report else side_by_side.table(report)


def goals(folder: Path) -> str:
    """Each goal beside what float32 could reach, what ours reached in it, there with the task's pieces alone in the
    output layer, and with the fastest of all options.

    Ratios of medians.
    """
    head = ["work", "beside", "goal", "float32 at most", "float32", "with the task's pieces", "fastest of ours"]
    lines = [f"| {' | '.join(head)} |", "|---|---|--:|--:|--:|--:|:--|"]
    for name, work, of_peers in GOALS:
        path = folder / f"{name}.json"
        report = json.loads(path.read_text()) if path.is_file() else {"systems": {}, "facts": {}}
        systems, least = report["systems"], report["facts"].get(products.LEAST)
        rates = {system: found["rate"]["median"] for system, found in systems.items()}
        for peer, goal in of_peers.items():
            if peer not in rates:
                lines.append(f"| {work} | {peer} | {goal:g}x | - | - | - | - |")
                continue
            ours = {system: rate / rates[peer] for system, rate in rates.items() if system.startswith("explainft")}
            fastest = max(ours, key=lambda system: ours[system])
            options = fastest.removeprefix("explainft").strip(", ")
            reached = f"{ours[fastest]:.3g}x" + (f": {options}" if options else "")
            of_pieces = next((f"{ours[name]:.3g}x" for name in PIECES if name in ours), "-")
            most = f"{systems['explainft']['work'] / least / rates[peer]:.3g}x" if least else "-"
            lines.append(
                f"| {work} | {peer} | {goal:g}x | {most} | {ours['explainft']:.3g}x | {of_pieces} | {reached} |"
            )
    return "\n".join(lines)


def limits(folder: Path) -> str:
    """The goals that name no peer, and whether they are reached."""
    lines = ["| what | goal | found | reached |", "|---|--:|--:|:--|"]
    for what, name, place, goal, more in LIMITS:
        path = folder / f"{name}.json"
        bound = f"{'at least' if more else 'below'} {goal:,g}"
        if not path.is_file():
            lines.append(f"| {what} | {bound} | - | - |")
            continue
        found = functools.reduce(operator.getitem, place, json.loads(path.read_text()))
        reached = "yes" if (found >= goal if more else found < goal) else "no"
        lines.append(f"| {what} | {bound} | {f'{found:,.0f}' if found >= 1000 else f'{found:.3g}'} | {reached} |")
    return "\n".join(lines)


def not_measured(name: str) -> str:
    command = f"`python -m benchmarks.{name}`"
    return f"{accelerator.table({'sizes': {}})}\n\n({command})" if name == "accelerator" else f"- ({command})"


def filled(text: str, folder: Path = RESULTS) -> str:
    def fill(match: re.Match[str]) -> str:
        path = folder / f"{match[1]}.json"
        made = table(json.loads(path.read_text())) if path.is_file() else not_measured(match[1])
        return f"<!-- bench {match[1]} -->\n\n{made.strip()}\n\n<!-- end -->"

    text = re.sub(r"<!-- bench (\w+) -->.*?<!-- end -->", fill, text, flags=re.DOTALL)
    for mark, made_of in (("goals", goals), ("limits", limits)):
        made = f"<!-- {mark} -->\n\n{made_of(folder)}\n\n<!-- end -->"
        text = re.sub(rf"<!-- {mark} -->.*?<!-- end -->", lambda _, made=made: made, text, flags=re.DOTALL)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        if before != after and check:
            sys.exit(f"docs/{page.name} is not what benchmarks/results says; run: python -m benchmarks.document")
        if not check:
            page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
