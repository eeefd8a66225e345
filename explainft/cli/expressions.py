"""Expressions and questions as arguments or on standard input."""

import argparse
import sys

from explainft.core.errors import UserError


def add_expressions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "expression", nargs="*", help="like '[MAX 2 9 [MIN 4 7 ] 0 ]'; default: one a line of standard input"
    )


def read_lines(arguments: list[str], what: str = "expressions") -> list[str]:
    """Returns the arguments, or without any the lines of standard input. Raises UserError where both are empty."""
    lines = arguments or [line.strip() for line in read_standard_input().split("\n") if line.strip()]
    if not lines:
        raise UserError(f"no {what}; give some as arguments or on standard input")
    return lines


def read_standard_input() -> str:
    """Returns all of standard input, without a UTF-8 byte-order mark. Raises UserError where it is not text."""
    if sys.stdin is None:
        return ""
    try:
        return sys.stdin.read().removeprefix("\ufeff")
    except UnicodeDecodeError as e:
        raise UserError(f"standard input must be UTF-8 text; byte {e.start} is not") from e
