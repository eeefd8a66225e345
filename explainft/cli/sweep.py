"""`explainft sweep`: trains and scores a grid of runs."""

import argparse
from pathlib import Path

from explainft.cli.flags import add_command, add_data_dir, positive_integer
from explainft.core import jax_setup

EXAMPLE = "explainft sweep experiments/sizes.gin --dry_run"


def add_parser(subparsers) -> None:
    help = "Train and score a grid of runs; the same command resumes it."
    parser = add_command(subparsers, "sweep", run, help, EXAMPLE, reads_macros=True)
    parser.add_argument("sweep", help="a gin file of experiments/")
    parser.add_argument("--runs", default="runs", help="the directory of the runs; default: runs")
    parser.add_argument("--results", default="results", help="the directory of a file for each trial; default: results")
    parser.add_argument(
        "--jobs",
        type=positive_integer,
        help="runs at once; default: the sweep's, else what cores and memory allow; 1 with a GPU or TPU",
    )
    parser.add_argument("--dry_run", action="store_true", help="print what is pending and how long it takes, and stop")
    add_data_dir(parser)


def run(args: argparse.Namespace) -> None:
    jax_setup.configure()
    from explainft.sweeps import sweep

    sweep.run(
        args.sweep,
        args.gin_bindings,
        Path(args.runs),
        Path(args.results),
        args.jobs,
        args.dry_run,
        args.tfds_data_dir,
    )
