"""`explainft data`: builds the dataset and prints examples of it."""

import argparse

from explainft.cli.flags import add_command, add_data_dir, positive_integer, summary
from explainft.core import tensorflow_setup


def add_parser(subparsers) -> None:
    help = "Build the dataset, or print examples of it."
    data = subparsers.add_parser("data", help=summary(help), description=help)
    commands = data.add_subparsers(title="commands", metavar="COMMAND", required=True)

    parser = add_command(commands, "build", build, "Build configs of the dataset explained_listops.")
    parser.add_argument(
        "--config",
        action="append",
        required=True,
        help="listops10, listops30, ..., tiny, or listops30-1000000: with that many training examples; may be repeated",
    )
    parser.add_argument("--processes", type=positive_integer, help="default: one a core")
    parser.add_argument("--shards", type=positive_integer, help="files a split, with the same content for any number")
    parser.add_argument("--beam", action="store_true", help="build the same files on Apache Beam")
    parser.add_argument("--beam_pipeline_options", help="NAME=VALUE,NAME=VALUE of Beam, such as runner=DirectRunner")
    add_data_dir(parser)

    parser = add_command(commands, "show", show, "Print a few examples with their explanations and trees.")
    parser.add_argument("--config", default="tiny", help="default: tiny")
    parser.add_argument("--split", default="train", help="default: train")
    parser.add_argument("-n", type=positive_integer, default=3, help="number of examples; default: 3")
    add_data_dir(parser)


def build(args: argparse.Namespace) -> None:
    tensorflow_setup.import_tensorflow()
    from explainft.data import dataset_build

    beam = "" if args.beam and args.beam_pipeline_options is None else args.beam_pipeline_options
    for config in args.config:
        print(dataset_build.build(config, args.tfds_data_dir, args.processes, args.shards, beam))


def show(args: argparse.Namespace) -> None:
    tensorflow_setup.import_tensorflow()
    from explainft.data import dataset_read

    print(dataset_read.show(args.config, args.split, args.n, args.tfds_data_dir))
