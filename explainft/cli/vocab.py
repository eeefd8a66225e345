"""`explainft vocab`: trains a vocabulary of one's own on imported questions."""

import argparse
from pathlib import Path

from explainft.cli.flags import add_command, add_data_dir, positive_integer, summary
from explainft.core import tensorflow_setup

EXAMPLE = "explainft vocab build my_questions --size 4000 --output vocabulary.model"


def add_parser(subparsers) -> None:
    help = "Train a SentencePiece vocabulary on imported questions."
    vocab = subparsers.add_parser("vocab", help=summary(help), description=help)
    commands = vocab.add_subparsers(title="commands", metavar="COMMAND", required=True)
    help = "Train a vocabulary on the inputs and targets of imported datasets, in which every text can be written."
    parser = add_command(commands, "build", build, help, EXAMPLE)
    parser.add_argument("names", nargs="+", metavar="NAME", help="of datasets that `explainft data import` made")
    parser.add_argument("--size", type=positive_integer, required=True, help="number of tokens, fewer for a small text")
    parser.add_argument("--output", type=Path, required=True, help="the SentencePiece model file to write")
    add_data_dir(parser)


def build(args: argparse.Namespace) -> None:
    tensorflow_setup.import_tensorflow()
    from explainft.data.questions import vocabulary_build
    from explainft.data.questions.importing import data_directory

    print("\n".join(vocabulary_build.build(args.names, data_directory(args.tfds_data_dir), args.size, args.output)))
