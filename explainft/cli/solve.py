"""`explainft solve`: answers expressions with the model that ships with the package."""

import argparse

from explainft.cli.expressions import add_expressions, read_lines
from explainft.cli.flags import add_command
from explainft.core import jax_setup

EXAMPLE = "explainft solve '[MAX 2 9 [MIN 4 7 ] 0 ]'"


def add_parser(subparsers) -> None:
    parser = add_command(
        subparsers, "solve", run, "Answer expressions with the model that ships with the package.", EXAMPLE
    )
    add_expressions(parser)


def run(args: argparse.Namespace) -> None:
    jax_setup.configure()
    from explainft.evaluation import infer

    for prediction in infer.infer(infer.PRETRAINED, read_lines(args.expression)):
        print(prediction.text())
