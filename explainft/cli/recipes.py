"""`explainft recipes`: lists the recipes of the package."""

import argparse

from explainft.cli.flags import add_command


def add_parser(subparsers) -> None:
    add_command(
        subparsers, "recipes", run, "List the recipes that --gin_file finds in any directory.", "explainft recipes"
    )


def run(args: argparse.Namespace) -> None:
    from explainft.recipes import listing

    print(listing.format_recipes())
