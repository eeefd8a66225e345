"""`explainft solve`: answers questions with an exported model, by default the one that ships with the package."""

import argparse
from pathlib import Path

from explainft.cli.expressions import add_expressions, read_lines
from explainft.cli.flags import add_command
from explainft.core import jax_setup

EXAMPLE = "explainft solve '[MAX 2 9 [MIN 4 7 ] 0 ]'"


def add_parser(subparsers) -> None:
    help = "Answer expressions with the model that ships with the package, or questions with another exported model."
    parser = add_command(subparsers, "solve", run, help, EXAMPLE)
    add_expressions(parser)
    parser.add_argument("--model", help="a directory that `explainft export` wrote; its questions replace expressions")


def run(args: argparse.Namespace) -> None:
    jax_setup.configure()
    from explainft.evaluation import infer

    model = Path(args.model) if args.model else infer.PRETRAINED
    if args.model:
        infer.check_run(model)  # before the terminal is read
    for prediction in infer.infer(model, read_lines(args.expression)):
        print(prediction.text())
