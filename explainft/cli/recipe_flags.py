"""The flags of commands that read a recipe, and loading it."""

import argparse

from explainft.cli.flags import split_list
from explainft.core import jax_setup
from explainft.core.errors import UserError


def add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gin_file", action="append", help="a recipe; may be repeated")
    parser.add_argument("--gin_search_paths", help="directories with included files, separated by commas")


def load_recipe(args: argparse.Namespace, command: str):
    """Loads the recipe for a command and returns the module `recipe`. Raises UserError without one."""
    if not args.gin_file:
        raise UserError("no recipe; give --gin_file=gin/medium_tiny.gin or another file of gin/")
    jax_setup.configure()
    from explainft.recipes import recipe

    recipe.load(args.gin_file, args.gin_bindings, split_list(args.gin_search_paths), command)
    return recipe


def refuse_beside_recipe(args: argparse.Namespace, *flags: str) -> None:
    """Refuses flags that a recipe's macros replace. An unset flag is None or empty."""
    for name in flags:
        if getattr(args, name) not in (None, []):
            raise UserError(f"{name} and --gin_file exclude each other; set the recipe's macros with --gin.NAME=VALUE")
