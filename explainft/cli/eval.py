"""`explainft eval`: scores a run, or with a recipe any checkpoint, on evaluation tasks."""

import argparse
from pathlib import Path

from explainft.cli.flags import DECODE_BATCH_SIZE, add_command, add_data_dir, add_decoding, add_step, positive_integer
from explainft.cli.host_flags import add_hosts, connect_hosts
from explainft.cli.recipe_flags import add_recipe, load_recipe, refuse_beside_recipe
from explainft.core import jax_setup
from explainft.core.errors import UserError

EXAMPLE = "explainft eval runs/medium --num_examples=500"


def add_parser(subparsers) -> None:
    help = "Score a run, or with a recipe any checkpoint, on evaluation tasks."
    parser = add_command(subparsers, "eval", run, help, EXAMPLE)
    parser.add_argument("run", nargs="?", help="the MODEL_DIR of a run")
    add_recipe(parser)
    add_hosts(parser)
    parser.add_argument("--mixture", help="task or mixture; default: the evaluation mixture of the run's own task")
    parser.add_argument("--num_examples", type=positive_integer, help="of each task; default: all")
    parser.add_argument("--module", help="the module that registers the tasks; default: the run's own")
    parser.add_argument(
        "--overwrite", action="store_true", default=None, help="replace scores of the same step on more examples"
    )
    parser.add_argument("--output_vocabulary", choices=("all", "task"), help="task: only tokens of its gold targets")
    add_step(parser)
    add_decoding(parser)
    add_data_dir(parser)


def run(args: argparse.Namespace) -> None:
    if args.gin_file:
        _evaluate_recipe(args)
    elif args.run is None:
        raise UserError("give the MODEL_DIR of a run, or a recipe with --gin_file=gin/eval_small.gin")
    else:
        _evaluate_run(args)


def _evaluate_recipe(args: argparse.Namespace) -> None:
    flags = (
        "run",
        "mixture",
        "num_examples",
        "module",
        "step",
        "batch_size",
        "decode_dtype",
        "output_vocabulary",
        "overwrite",
    )
    refuse_beside_recipe(args, *flags)
    recipe = load_recipe(args, "eval")
    with connect_hosts(args):
        from explainft.evaluation import evaluate
        from explainft.recipes.machine_memory import check_inference

        bound = recipe.bindings(evaluate.evaluate)
        check_inference(bound["model"], bound["model_parallelism"])
        recipe.build(evaluate.evaluate)(tfds_data_dir=args.tfds_data_dir)


def _evaluate_run(args: argparse.Namespace) -> None:
    jax_setup.configure()
    with connect_hosts(args):
        from explainft.evaluation import evaluate
        from explainft.generation.quantization import DecodeConfig

        evaluate.evaluate_run(
            Path(args.run),
            args.mixture,
            args.step,
            args.batch_size or DECODE_BATCH_SIZE,
            args.num_examples,
            args.module,
            DecodeConfig(args.decode_dtype or "float32", args.output_vocabulary or "all"),
            args.tfds_data_dir,
            bool(args.overwrite),
        )
