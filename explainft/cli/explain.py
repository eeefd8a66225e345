"""`explainft explain`: writes the gold explanation of expressions."""

import argparse

from explainft.cli.expressions import add_expressions, read_lines
from explainft.cli.flags import add_command, add_style

EXAMPLE = "explainft explain '[MAX 2 9 [MIN 4 7 ] 0 ]' --style long"


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "explain", run, "Write the gold explanation of expressions.", EXAMPLE)
    add_expressions(parser)
    add_style(parser)


def run(args: argparse.Namespace) -> None:
    from explainft import listops

    for expression in read_lines(args.expression):
        print(listops.explain(listops.parse(expression), args.style, args.modulus))
