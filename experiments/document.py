"""Tables and figures of docs/results*.md and README.md, made from results/ alone.

    python -m experiments.document            # writes them
    python -m experiments.document --check    # exit code 1 where one of them differs

A table is between `<!-- table NAME -->` and `<!-- end -->`; what is between them is rebuilt.
"""

import argparse
import re
import sys

from experiments import few_shot_tables, pipeline_tables, student_tables
from experiments.accuracy import ROOT, Result, results
from experiments.pictures import PICTURES
from experiments.tables import render
from explainft.core.errors import UserError
from explainft.reporting import vega

DOCUMENTS = (
    ROOT / "docs" / "results.md",
    ROOT / "docs" / "results-voting.md",
    ROOT / "docs" / "results-teaching.md",
    ROOT / "docs" / "results-transfer.md",
    ROOT / "README.md",
)
FIGURES = ROOT / "docs" / "figures"


def fill_tables(
    text: str,
    found: list[Result],
    of_pipelines: list[Result] | None = None,
    matrices: dict[str, few_shot_tables.Matrix] | None = None,
) -> str:
    """Returns a document with its tables rebuilt."""

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name in student_tables.TABLES:
            rendered = student_tables.render(name, found, of_pipelines or [])
        elif name in few_shot_tables.TABLES:
            rendered = few_shot_tables.render(name, matrices or {})
        elif name in pipeline_tables.TABLES:
            rendered = pipeline_tables.render(name, of_pipelines or [])
        else:
            rendered = render(name, found)
        return f"<!-- table {name} -->\n\n{rendered}\n\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a document differs")
    check = parser.parse_args().check
    try:
        found, of_pipelines, matrices = results(), pipeline_tables.results(), few_shot_tables.matrices()
    except UserError as e:
        parser.error(e.line)
    made = {
        path: fill_tables(path.read_text(encoding="utf-8"), found, of_pipelines, matrices).encode()
        for path in DOCUMENTS
    }
    made |= {FIGURES / name: vega.svg(picture(found)).encode() for name, picture in PICTURES.items()}
    differing = [path for path, content in made.items() if not path.is_file() or path.read_bytes() != content]
    if check:
        for path in differing:
            print(f"{path.relative_to(ROOT)} differs from results/; run: python -m experiments.document")
        sys.exit(1 if differing else 0)
    FIGURES.mkdir(parents=True, exist_ok=True)
    for path in differing:
        path.write_bytes(made[path])
        print(f"{path.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
