"""`explainft transfer`: every run on every evaluation, and what fine-tuning did to other tasks."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from explainft.cli.flags import (
    DECODE_BATCH_SIZE,
    add_command,
    add_data_dir,
    add_decoding,
    add_step,
    positive_integer,
    split_list,
)
from explainft.cli.recipe_flags import add_recipe, load_recipe, refuse_beside_recipe
from explainft.core import jax_setup
from explainft.core.errors import UserError

if TYPE_CHECKING:
    from explainft.transfer.settings import Transfer

EXAMPLE = "explainft transfer runs/medium runs/none --evaluations explained_tiny_medium_eval_test --output transfer"
OF_RECIPE = ("runs", "evaluations", "shots", "module", "baseline", "metric", "num_examples", "step")


def add_parser(subparsers) -> None:
    help = "Evaluate every run on every task, and compare with the starting checkpoint; the same command resumes it."
    parser = add_command(subparsers, "transfer", run, help, EXAMPLE)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="MODEL_DIRs, or checkpoints of any format")
    add_recipe(parser)
    parser.add_argument(
        "--evaluations",
        type=split_list,
        metavar="TASK,TASK",
        help="tasks or mixtures, or MODULE:TASK; {shots} in a name stands for each of --shots",
    )
    parser.add_argument("--shots", type=_shots, metavar="K,K", help="numbers of demonstrations")
    parser.add_argument("--module", help="the module that registers the tasks; default: tasks")
    parser.add_argument("--baseline", help="a run or checkpoint to compare with; default: what each run started from")
    parser.add_argument("--metric", help="what is compared; default: exact_match, or a task's first metric")
    parser.add_argument("--num_examples", type=positive_integer, help="of each task; default: all")
    parser.add_argument(
        "--output", type=Path, default=Path("transfer"), help="the directory to write; default: transfer"
    )
    parser.add_argument("--jobs", type=positive_integer, help="processes at once; default: what cores and memory allow")
    parser.add_argument("--dry_run", action="store_true", help="print the cells that are missing, and stop")
    parser.add_argument("--overwrite", action="store_true", help="replace the matrix of other runs")
    # The command starts itself with its own process number, to compute cells of one run.
    parser.add_argument("--only_cells", type=positive_integer, metavar="PID", help=argparse.SUPPRESS)
    add_step(parser)
    add_decoding(parser)
    add_data_dir(parser)


def run(args: argparse.Namespace) -> None:
    jax_setup.configure()
    transfer = None if args.only_cells else _definition(args)
    from explainft.transfer import run_transfer
    from explainft.transfer.cells import CellSettings, compute_cells

    settings = CellSettings(
        args.num_examples if transfer is None else transfer.num_examples,
        args.batch_size or DECODE_BATCH_SIZE,
        args.decode_dtype or "float32",
        args.tfds_data_dir,
    )
    if transfer is not None:
        run_transfer.run(transfer, settings, args.output, args.jobs, args.dry_run, args.overwrite)
        return
    from explainft.transfer.sources import open_source

    columns = run_transfer.columns_of(args.evaluations, args.module or "tasks")
    [path] = args.runs
    compute_cells(open_source(path, path, args.step), columns, settings, args.output, args.only_cells)


def _definition(args: argparse.Namespace) -> "Transfer":
    """Returns what a gin file defines, or the flags."""
    if args.gin_file:
        refuse_beside_recipe(args, *OF_RECIPE)
        recipe = load_recipe(args, "transfer")
        from explainft.transfer.settings import Transfer

        return recipe.build(Transfer)()
    if not args.runs or not args.evaluations:
        raise UserError(
            "give runs and --evaluations=TASK,TASK, or a file with both: --gin_file=experiments/transfer/shipped.gin"
        )
    from explainft.transfer import settings, sources

    runs = {
        label: {"path": path, "step": args.step if sources.takes_step(path) else None}
        for label, path in sources.label_runs(args.runs).items()
    }
    return settings.Transfer(
        runs=runs,
        evaluations={"": settings.default_labels(args.evaluations)},
        shots=args.shots or (),
        module=args.module or "tasks",
        baseline=args.baseline,
        num_examples=args.num_examples,
        metric=args.metric,
    )


def _shots(text: str) -> list[int]:
    numbers = split_list(text)
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers of demonstrations, as 0,2,4")
    return [int(number) for number in numbers]
