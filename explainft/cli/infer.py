"""`explainft infer`: answers questions with a run, or with a recipe the examples of a task."""

import argparse
from pathlib import Path

from explainft.cli.expressions import read_lines
from explainft.cli.flags import DECODE_BATCH_SIZE, add_command, add_data_dir, add_decoding, add_step
from explainft.cli.host_flags import add_hosts, connect_hosts
from explainft.cli.recipe_flags import add_recipe, load_recipe, refuse_beside_recipe
from explainft.core import jax_setup
from explainft.core.atomic_files import check_writable
from explainft.core.errors import UserError
from explainft.data.questions.layouts import LAYOUTS

EXAMPLE = "explainft infer runs/medium --input questions.jsonl --output answers.jsonl"


def add_parser(subparsers) -> None:
    help = "Answer questions with a run, or with a recipe the examples of a task."
    parser = add_command(subparsers, "infer", run, help, EXAMPLE)
    parser.add_argument("run", nargs="?", help="the MODEL_DIR of a run")
    add_recipe(parser)
    add_hosts(parser)
    parser.add_argument(
        "question",
        nargs="*",
        help="an expression like '[MAX 2 9 [MIN 4 7 ] 0 ]', or a question as the run was trained on them; "
        "default: one a line of standard input",
    )
    parser.add_argument(
        "--input",
        help="a file: text with a question a line; for imported questions also .jsonl, .json or .csv, with the columns "
        "question and choices (joined by | or a JSON list); for ListOps a released .tsv",
    )
    parser.add_argument("--format", choices=tuple(LAYOUTS), help="the layout of --input's JSON rows; default: jsonl")
    parser.add_argument("--choice", action="append", help="of the question, in order; to be repeated")
    parser.add_argument(
        "--output",
        help="a JSONL file of the questions, answers and checks (steps count from 1), - for standard output; "
        "default: text",
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
    flags = "run", "question", "input", "format", "choice", "output", "step", "batch_size", "decode_dtype"
    refuse_beside_recipe(args, *flags)
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

    questions = list(args.question)
    if args.choice:
        if len(questions) != 1:
            raise UserError(f"--choice belongs to one question, and there are {len(questions)}; give them in --input")
        questions = [{"question": questions[0], "choices": args.choice}]
    if not questions and not args.input:
        infer.check_run(Path(args.run))  # before the terminal is read
        questions = read_lines([], "questions")
    if args.output:
        check_writable(Path(args.output))
    predictions = infer.infer(
        Path(args.run),
        questions,
        args.step,
        args.batch_size or DECODE_BATCH_SIZE,
        args.decode_dtype or "float32",
        Path(args.input) if args.input else None,
        args.format or "jsonl",
    )
    if args.output:
        infer.write_jsonl(predictions, Path(args.output))
    else:
        print("\n\n".join(prediction.text() for prediction in predictions))
