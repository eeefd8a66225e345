"""`explainft export`: copies a run's parameters without the optimizer."""

import argparse
from pathlib import Path

from explainft.cli.flags import add_command, add_step
from explainft.core import jax_setup
from explainft.core.errors import require_local

EXAMPLE = "explainft export runs/medium exported --dtype bfloat16"


def add_parser(subparsers) -> None:
    help = "Copy a run's parameters without the optimizer into a directory of their own."
    parser = add_command(subparsers, "export", run, help, EXAMPLE)
    parser.add_argument("run", help="the MODEL_DIR of a run")
    parser.add_argument("destination", help="a new directory")
    add_step(parser)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="default: float32")


def run(args: argparse.Namespace) -> None:
    jax_setup.configure()
    from explainft.checkpoints import export

    require_local(DESTINATION=args.destination)
    export.export_run(Path(args.run), Path(args.destination), args.step, args.dtype)
    print(args.destination)
