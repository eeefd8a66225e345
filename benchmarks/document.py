"""The tables of docs/speed.md and docs/scale.md, from the files of benchmarks/results.

    python -m benchmarks.document            # writes them
    python -m benchmarks.document --check    # exit code 1 where a page differs

A table stands between `<!-- bench NAME -->` and `<!-- end -->`; a row that was not measured is a dash and its command.
`<!-- goals -->` begins the table of what was aimed at.
"""

import argparse
import json
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
DOCS = Path(__file__).parent.parent / "docs"
PAGES = (DOCS / "speed.md", DOCS / "scale.md")


def table(report: dict[str, Any]) -> str:
    if "sizes" in report:
        return accelerator.table(report)
    return data_at_size.table(report) if "rows" in report else side_by_side.table(report)


def goals(folder: Path) -> str:
    """Each goal beside what float32 could reach, what ours reached in it, and with the fastest of its options.

    Ratios of medians.
    """
    lines = ["| work | beside | goal | float32 at most | float32 | fastest of ours |", "|---|---|--:|--:|--:|:--|"]
    for name, work, of_peers in GOALS:
        path = folder / f"{name}.json"
        report = json.loads(path.read_text()) if path.is_file() else {"systems": {}, "facts": {}}
        systems, least = report["systems"], report["facts"].get(products.LEAST)
        rates = {system: found["rate"]["median"] for system, found in systems.items()}
        for peer, goal in of_peers.items():
            if peer not in rates:
                lines.append(f"| {work} | {peer} | {goal:g}x | - | - | - |")
                continue
            ours = {system: rate / rates[peer] for system, rate in rates.items() if system.startswith("explainft")}
            fastest = max(ours, key=lambda system: ours[system])
            options = fastest.removeprefix("explainft").strip(", ")
            reached = f"{ours[fastest]:.3g}x" + (f": {options}" if options else "")
            most = f"{systems['explainft']['work'] / least / rates[peer]:.3g}x" if least else "-"
            lines.append(f"| {work} | {peer} | {goal:g}x | {most} | {ours['explainft']:.3g}x | {reached} |")
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
    table_of_goals = f"<!-- goals -->\n\n{goals(folder)}\n\n<!-- end -->"
    return re.sub(r"<!-- goals -->.*?<!-- end -->", lambda _: table_of_goals, text, flags=re.DOTALL)


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
