"""`explainft convert`: writes a checkpoint of any format in another one."""

import argparse
from pathlib import Path

from explainft.cli.flags import add_command, add_step
from explainft.core import jax_setup
from explainft.core.errors import require_local

EXAMPLE = "explainft convert runs/medium converted --to hf"


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "convert", run, "Write a checkpoint of any format in another one.", EXAMPLE)
    parser.add_argument("source", help="a run, a Hugging Face directory, or a T5X checkpoint, local or in gs://")
    parser.add_argument("destination", help="a new directory")
    parser.add_argument("--to", required=True, choices=("hf", "t5x"))
    add_step(parser)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: as it is stored")
    parser.add_argument("--vocabulary", help="a SentencePiece model for the tokenizer of a Hugging Face directory")


def run(args: argparse.Namespace) -> None:
    jax_setup.configure()
    from explainft.checkpoints import convert

    require_local(DESTINATION=args.destination)
    vocabulary = Path(args.vocabulary) if args.vocabulary else None
    print(convert.convert(args.source, Path(args.destination), args.to, args.step, args.dtype, vocabulary))
