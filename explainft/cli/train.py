"""`explainft train`: trains from a recipe."""

import argparse
import sys

from explainft.cli.flags import add_command, add_data_dir, split_list
from explainft.cli.host_flags import add_hosts, connect_hosts
from explainft.cli.recipe_flags import add_recipe, load_recipe

EXAMPLE = "explainft train --gin_file=gin/medium_tiny.gin --gin.MODEL_DIR=runs/medium"


def add_parser(subparsers) -> None:
    help = "Train from a recipe; --gin.NAME=VALUE sets any macro, and the same command resumes a run."
    parser = add_command(subparsers, "train", run, help, EXAMPLE, reads_macros=True)
    add_recipe(parser)
    add_hosts(parser)
    parser.add_argument("--profile", action="store_true", help="write a trace of a few steps to MODEL_DIR/profile")
    parser.add_argument(
        "--seqio_additional_cache_dirs", help="directories that seqio_cache_tasks wrote, separated by commas"
    )
    add_data_dir(parser)


def run(args: argparse.Namespace) -> None:
    recipe = load_recipe(args, "train")
    with connect_hosts(args, preemptible=True):
        from explainft.recipes.machine_memory import check_training
        from explainft.training import train

        check_training(recipe.bindings(train.train)["config"])
        stopped_by = recipe.build(train.train)(
            config_text=recipe.config_text,
            tfds_data_dir=args.tfds_data_dir,
            seqio_additional_cache_dirs=split_list(args.seqio_additional_cache_dirs),
            profile=args.profile,
        )
    if stopped_by:  # the run is saved and not complete: `train && eval` must not go on
        sys.exit(128 + stopped_by)
