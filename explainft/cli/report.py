"""`explainft report`: makes a table, figures and a page from runs."""

import argparse
from pathlib import Path

from explainft.cli.flags import add_command

EXAMPLE = "explainft report runs/none runs/medium --output report"


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "report", run, "Make a table, figures and a page from runs.", EXAMPLE)
    parser.add_argument("runs", nargs="+", help="MODEL_DIRs, or a sweep's directory, for all its complete trials")
    parser.add_argument(
        "--samples", nargs="+", type=Path, default=[], metavar="FILE", help="sample files, to draw accuracy by samples"
    )
    parser.add_argument("--output", default="report", help="the directory to write; default: report")


def run(args: argparse.Namespace) -> None:
    from explainft.reporting import report

    report.write_report([Path(run) for run in args.runs], Path(args.output), args.samples)
