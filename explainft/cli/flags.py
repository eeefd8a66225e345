"""Flags that several commands share, and the types of their values."""

import argparse
from collections.abc import Callable

from explainft.core.errors import UserError

DECODE_BATCH_SIZE = 256  # where no recipe specifies it


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as a UserError of one line. A command's flags may stand between its arguments."""

    _intermixed = False

    def error(self, message: str):
        raise UserError(f"{message}; see {self.prog} --help")

    def parse_known_args(self, args=None, namespace=None):
        """Parses a command line such as `RUN --output FILE EXPRESSION`; after `--`, all are arguments."""
        # argparse calls this method again. It does not intermix flags with subcommands, and up to Python 3.11 loses --.
        if self._intermixed or self._subparsers is not None or "--" in (args or ()):
            return super().parse_known_args(args, namespace)
        self._intermixed = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False


def add_command(
    subparsers,
    name: str,
    run: Callable[[argparse.Namespace], None],
    help: str,
    example: str,
    *,
    reads_macros: bool = False,
) -> argparse.ArgumentParser:
    """Adds a command that calls `run` with its flags. Its help ends with the example.

    `reads_macros`: it accepts --gin.NAME=VALUE even without --gin_file.
    """
    parser = subparsers.add_parser(
        name,
        help=summary(help),
        description=help,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(function=run, reads_macros=reads_macros)
    return parser


def summary(help: str) -> str:
    """Turns a sentence into an entry of the list of commands."""
    return help[0].lower() + help[1:].removesuffix(".")


def add_style(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--style", default="medium", help="none, short, medium or long; default: medium")
    parser.add_argument("--modulus", type=positive_integer, default=10, help="of SUM; default: 10")


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tfds_data_dir", help="the directory of datasets; default: that of TensorFlow Datasets")


def add_step(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--step", type=step, help="a checkpoint's step, or best; default: the latest")


def add_decoding(parser: argparse.ArgumentParser, batch_size: int = DECODE_BATCH_SIZE) -> None:
    parser.add_argument("--batch_size", type=positive_integer, help=f"inputs at a time; default: {batch_size}")
    parser.add_argument("--decode_dtype", choices=("float32", "bfloat16", "int8"), help="int8 is the fastest on a CPU")


def step(text: str) -> int | str:
    """Parses --step: a positive integer or "best"."""
    return text if text == "best" else positive_integer(text)


def positive_integer(text: str) -> int:
    """Parses an integer of at least 1. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive integer")
    return int(text)


def split_list(text: str | None) -> list[str]:
    """Splits a value at its commas."""
    return [part for part in (text or "").split(",") if part]
