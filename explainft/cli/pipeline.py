"""`explainft pipeline`: runs stages in sequence, such as a generator, its samples and a verifier."""

import argparse
from pathlib import Path

from explainft.cli.flags import add_command, add_data_dir, positive_integer
from explainft.core import jax_setup

EXAMPLE = "explainft pipeline experiments/pipelines/sequential.gin --dry_run"


def add_parser(subparsers) -> None:
    help = "Run stages in sequence, each a command that reads what earlier ones wrote; the same command resumes it."
    parser = add_command(subparsers, "pipeline", run, help, EXAMPLE, reads_macros=True)
    parser.add_argument("pipeline", help="a gin file of experiments/pipelines/")
    parser.add_argument("--runs", default="runs", help="the directory of what the stages write; default: runs")
    parser.add_argument(
        "--results",
        default="results/pipelines",
        help="the directory of a file for each trial; default: results/pipelines",
    )
    parser.add_argument(
        "--jobs",
        type=positive_integer,
        help="trials at once; default: the pipeline's, else what cores and memory allow; 1 with a GPU or TPU",
    )
    parser.add_argument("--dry_run", action="store_true", help="print the commands of pending trials, and stop")
    parser.add_argument("--overwrite", action="store_true", help="delete outputs that other settings made, and rerun")
    add_data_dir(parser)


def run(args: argparse.Namespace) -> None:
    jax_setup.configure()
    from explainft.cli.main import parse
    from explainft.sweeps import run_pipeline

    run_pipeline.run(
        args.pipeline,
        args.gin_bindings,
        Path(args.runs),
        Path(args.results),
        args.jobs,
        args.dry_run,
        args.overwrite,
        args.tfds_data_dir,
        check_command=lambda words: parse(list(words)),
    )
