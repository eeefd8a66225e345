"""The tables of docs/speed.md, from the files of benchmarks/results.

    python -m benchmarks.document            # writes them
    python -m benchmarks.document --check    # exit code 1 where the page differs

A table stands between `<!-- bench NAME -->` and `<!-- end -->`; a row that was not measured is a dash and its command.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from benchmarks.side_by_side import RESULTS, table

PAGE = Path(__file__).parent.parent / "docs" / "speed.md"


def filled(text: str, folder: Path = RESULTS) -> str:
    def fill(match: re.Match[str]) -> str:
        path = folder / f"{match[1]}.json"
        made = table(json.loads(path.read_text())) if path.is_file() else f"- (`python -m benchmarks.{match[1]}`)"
        return f"<!-- bench {match[1]} -->\n\n{made.strip()}\n\n<!-- end -->"

    return re.sub(r"<!-- bench (\w+) -->.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    before = PAGE.read_text(encoding="utf-8")
    after = filled(before)
    if parser.parse_args().check:
        if before != after:
            sys.exit("docs/speed.md is not what benchmarks/results says; run: python -m benchmarks.document")
        return
    PAGE.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
