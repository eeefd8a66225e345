"""`explainft infer`: answers expressions with a run, or with a recipe the examples of a task."""

import argparse
from pathlib import Path

from explainft.cli.expressions import add_expressions, read_expressions
from explainft.cli.flags import DECODE_BATCH_SIZE, add_command, add_data_dir, add_decoding, add_step
from explainft.cli.host_flags import add_hosts, connect_hosts
from explainft.cli.recipe_flags import add_recipe, load_recipe, refuse_beside_recipe
from explainft.core import jax_setup
from explainft.core.atomic_files import check_writable
from explainft.core.errors import UserError

EXAMPLE = "explainft infer runs/medium --input expressions.txt --output answers.jsonl"


def add_parser(subparsers) -> None:
    help = "Answer expressions with a run, or with a recipe the examples of a task."
    parser = add_command(subparsers, "infer", run, help, EXAMPLE)
    parser.add_argument("run", nargs="?", help="the MODEL_DIR of a run")
    add_recipe(parser)
    add_hosts(parser)
    add_expressions(parser)
    parser.add_argument("--input", help="a file with one expression a line, or a released .tsv file")
    parser.add_argument(
        "--output",
        help="a JSONL file of answers and checks (steps count from 1), - for standard output; default: text",
    )
    add_step(parser)
    add_decoding(parser)
    add_data_dir(parser)


def run(args: argparse.Namespace) -> None:
    if args.gin_file:
        _infer_recipe(args)
        return
    if args.run is None:
        raise UserError("give the MODEL_DIR of a run, or a recipe with --gin_file=gin/infer_small.gin")
    if args.multihost:
        raise UserError("--multihost answers a task's examples; give a recipe with --gin_file=gin/infer_small.gin")
    _infer_run(args)


def _infer_recipe(args: argparse.Namespace) -> None:
    refuse_beside_recipe(args, "run", "expression", "input", "output", "step", "batch_size", "decode_dtype")
    recipe = load_recipe(args, "infer")
    with connect_hosts(args):
        from explainft.evaluation import infer
        from explainft.recipes.machine_memory import check_inference

        bound = recipe.bindings(infer.write_inferences)
        check_inference(bound["model"], bound["model_parallelism"])
        recipe.build(infer.write_inferences)(tfds_data_dir=args.tfds_data_dir)


def _infer_run(args: argparse.Namespace) -> None:
    jax_setup.configure()
    from explainft.evaluation import infer

    expressions = list(args.expression)
    if args.input:
        expressions += infer.read_expressions(Path(args.input))
    elif not expressions:
        infer.check_run(Path(args.run))  # before the terminal is read
        expressions = read_expressions([])
    if args.output:
        check_writable(Path(args.output))
    predictions = infer.infer(
        Path(args.run), expressions, args.step, args.batch_size or DECODE_BATCH_SIZE, args.decode_dtype or "float32"
    )
    if args.output:
        infer.write_jsonl(predictions, Path(args.output))
    else:
        print("\n\n".join(prediction.text() for prediction in predictions))
