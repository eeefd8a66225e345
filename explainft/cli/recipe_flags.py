"""The flags of commands that read a recipe, and loading it."""

import argparse
from typing import TYPE_CHECKING

from explainft.cli.flags import split_list
from explainft.core import jax_setup
from explainft.core.errors import UserError

if TYPE_CHECKING:
    from explainft.recipes.recipe import Recipe


def add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gin_file", action="append", help="a recipe, whose macros --gin.NAME=VALUE sets; may be repeated"
    )
    parser.add_argument("--gin_search_paths", help="directories with included files, separated by commas")


def load_recipe(args: argparse.Namespace, command: str) -> "Recipe":
    """Returns the recipe for a command. Raises UserError without one."""
    if not args.gin_file:
        raise UserError("no recipe; give --gin_file=gin/medium_tiny.gin, or another that `explainft recipes` lists")
    jax_setup.configure()
    from explainft.recipes import recipe

    return recipe.load(args.gin_file, args.gin_bindings, split_list(args.gin_search_paths), command)


def refuse_beside_recipe(args: argparse.Namespace, *flags: str) -> None:
    """Refuses flags that a recipe's macros replace. An unset flag is None or empty."""
    for name in flags:
        if getattr(args, name) not in (None, []):
            raise UserError(f"{name} and --gin_file exclude each other; set the recipe's macros with --gin.NAME=VALUE")
