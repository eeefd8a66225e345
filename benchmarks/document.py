"""Fills the tables of docs/speed.md and of guides from the files of benchmarks/results.

    python -m benchmarks.document            # writes them
    python -m benchmarks.document --check    # exit code 1 where a page differs

A table stands between `<!-- bench NAME -->` and `<!-- end -->`; a row without a result is a dash and its command.
`<!-- relative targets -->`, `<!-- absolute targets -->` and `<!-- amx -->` mark the tables that summarize several rows.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import accelerator, data_at_size, tables
from benchmarks.side_by_side import RESULTS

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = ("data", "serve", "verifiers", "voting")
PAGES = (DOCS / "speed.md", *(DOCS / "guides" / f"{name}.md" for name in GUIDES))
SUMMARIES = {
    "relative targets": tables.relative_target_table,
    "absolute targets": tables.absolute_target_table,
    "amx": tables.amx_table,
}


def table(report: dict[str, Any]) -> str:
    if "sizes" in report:
        return accelerator.table(report)
    return data_at_size.table(report) if "rows" in report else tables.contender_table(report)


def dashes(name: str) -> str:
    """Returns the table of a row that has not been measured."""
    command = f"`python -m benchmarks.{name}`"
    return f"{accelerator.table({'sizes': {}})}\n\n({command})" if name == "accelerator" else f"- ({command})"


def fill(text: str, directory: Path = RESULTS) -> str:
    """Returns the page with its tables rebuilt from the results in `directory`."""

    def fill_row(match: re.Match[str]) -> str:
        path = directory / f"{match[1]}.json"
        content = table(json.loads(path.read_text())) if path.is_file() else dashes(match[1])
        return f"<!-- bench {match[1]} -->\n\n{content.strip()}\n\n<!-- end -->"

    text = re.sub(r"<!-- bench (\w+) -->.*?<!-- end -->", fill_row, text, flags=re.DOTALL)
    for mark, summary in SUMMARIES.items():
        filled = f"<!-- {mark} -->\n\n{summary(directory)}\n\n<!-- end -->"
        text = re.sub(rf"<!-- {mark} -->.*?<!-- end -->", lambda _, filled=filled: filled, text, flags=re.DOTALL)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = fill(before)
        if before != after and check:
            sys.exit(
                f"{page.relative_to(DOCS.parent)} differs from benchmarks/results; run: python -m benchmarks.document"
            )
        if not check:
            page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
