"""`explainft plan`: compiles a recipe for hardware that is not here."""

import argparse
import os
import sys
from pathlib import Path

from explainft.cli.flags import add_command, split_list
from explainft.cli.recipe_flags import add_recipe, load_recipe
from explainft.core import jax_setup
from explainft.core.errors import UserError

EXAMPLE = "explainft plan --gin_file=gin/medium_3b.gin --topology=v5e:4x4"


def add_parser(subparsers) -> None:
    help = "Compile a recipe for hardware that is not here: does it fit, how fast is it?"
    parser = add_command(subparsers, "plan", run, help, EXAMPLE, reads_macros=True)
    add_recipe(parser)
    parser.add_argument("--topology", help="v5e:4x4, v4-8, v5e-16, ..., cpu:8, or local: this machine's own devices")
    parser.add_argument("--quick", action="store_true", help="with XLA's least effort: a third of the time, less exact")
    parser.add_argument(
        "--all", action="store_true", help="a table of every recipe, or of each --gin_file, on five topologies"
    )
    parser.add_argument(
        "--output",
        default="plan.md",
        help="the table's file, whose rows are kept, - for standard output; default: plan.md",
    )


def run(args: argparse.Namespace) -> None:
    if args.topology != "local":
        os.environ["JAX_PLATFORMS"] = "cpu"  # with the TPU's compiler installed, JAX would look for a TPU
    args.gin_bindings = ["MODEL_DIR=plan", *args.gin_bindings]
    if args.all:
        _plan_all(args)
        return
    if args.topology is None:
        raise UserError("no hardware; give --topology=v5e-16 or another topology, or --all")
    recipe = load_recipe(args, "plan")
    from explainft.planning.plan import make_plan
    from explainft.planning.plan_text import format_plan
    from explainft.training import train

    print(format_plan(make_plan(recipe.bindings(train.train)["config"], args.topology, args.quick)))


def _plan_all(args: argparse.Namespace) -> None:
    jax_setup.configure()
    from explainft.planning import plan_table
    from explainft.recipes import recipe

    if args.gin_file:
        recipe.find_files(args.gin_file)  # a missing file is the user's error, not a row of the table
    topologies, search_paths = args.topology and [args.topology], split_list(args.gin_search_paths)
    command = " ".join(["explainft", *sys.argv[1:]])
    plan_table.write(args.gin_file, topologies, args.gin_bindings, search_paths, args.quick, command, Path(args.output))
