"""`explainft check`: checks an explanation step by step."""

import argparse
import sys

from explainft.cli.expressions import read_standard_input
from explainft.cli.flags import add_command, add_style

EXAMPLE = "explainft check '[MAX 2 9 ]' --text 'Max, largest number of [2, 9] is 9; Final answer: 9'"


def add_parser(subparsers) -> None:
    help = "Check an explanation step by step; exit code 1 where it is not valid."
    parser = add_command(subparsers, "check", run, help, EXAMPLE)
    parser.add_argument("expression")
    parser.add_argument("--text", help="the explanation; default: standard input")
    add_style(parser)


def run(args: argparse.Namespace) -> None:
    from explainft import listops

    tree = listops.parse(args.expression)
    text = args.text if args.text is not None else read_standard_input()
    result = listops.check(text, tree, args.style, args.modulus)
    answer = "none found" if result.final_answer is None else result.final_answer
    verdict = "correct" if result.answer_correct else f"wrong, expected {listops.evaluate(tree, args.modulus)}"
    print(f"final answer: {answer} ({verdict})")
    print(f"steps: {result.steps_correct} of {result.steps_total} correct")
    if result.first_wrong_step is not None:
        expected, found = listops.lines_of_step(text, tree, args.style, result.first_wrong_step, args.modulus)
        print(f"first wrong step: {result.first_wrong_step + 1}")
        print(f"  expected: {expected or 'no further step'}")
        print(f"  found: {found or 'no step'}")
    if not result.valid:
        sys.exit(1)
