"""`explainft score`: a verifier's scores of samples, or the likelihood of given labels."""

import argparse
from pathlib import Path

from explainft.cli.flags import add_command, add_data_dir, add_decoding, add_step, split_list
from explainft.core import jax_setup
from explainft.core.atomic_files import check_writable
from explainft.core.errors import UserError

EXAMPLE = "explainft score runs/verifier samples.jsonl --output scored.jsonl"
BATCH_SIZE = 64  # the attention scores of whole solutions exist at once


def add_parser(subparsers) -> None:
    help = "Add a verifier's score to each sample of a file, or score given labels for each question."
    parser = add_command(subparsers, "score", run, help, EXAMPLE)
    parser.add_argument("run", help="the MODEL_DIR of a verifier, or a checkpoint of any format")
    parser.add_argument("file", nargs="?", help="samples as `explainft sample` writes them; with labels, questions")
    parser.add_argument("--output", required=True, help="a JSONL file, or - for standard output")
    parser.add_argument("--prompt", help="of a checkpoint that does not contain it: paper, short, decoder, or a file")
    parser.add_argument("--report", help="a directory for calibration.json and a reliability diagram")
    parser.add_argument("--labels", help="score these texts, separated by commas, for each question")
    parser.add_argument("--labels_file", help="score the texts of this file, one a line, for each question")
    parser.add_argument("--task", help="an evaluation task or mixture in place of a file of questions")
    add_step(parser)
    add_decoding(parser, BATCH_SIZE)
    add_data_dir(parser)


def run(args: argparse.Namespace) -> None:
    labels = args.labels is not None or args.labels_file is not None
    if args.labels is not None and args.labels_file is not None:
        raise UserError("--labels and --labels_file both give labels; leave out one")
    if args.task is not None and not labels:
        raise UserError("--task has questions, for which labels are scored; give them with --labels or --labels_file")
    if (args.file is None) == (args.task is None):
        raise UserError("give a file of samples, or with labels a file of questions or --task")
    if labels and (args.report or args.prompt):
        raise UserError("--report and --prompt are for samples; leave them out beside labels")
    check_writable(Path(args.output))
    jax_setup.configure()
    if labels:
        _score_labels(args)
    else:
        _score_samples(args)


def _score_samples(args: argparse.Namespace) -> None:
    from explainft.reporting import reliability
    from explainft.samples import scoring

    settings = args.step, args.batch_size or BATCH_SIZE, args.decode_dtype or "float32", args.prompt
    problems = scoring.score_file(args.run, Path(args.file), Path(args.output), *settings)
    calibration = reliability.calibrate_problems(problems)
    quiet = args.output == "-"
    if calibration is None:
        if args.report:
            raise UserError("--report needs samples whose answer is known; sample a dataset with answers")
    elif not quiet:
        print("\n".join(calibration.lines()))
    if args.report and calibration is not None:
        print(reliability.write_report(calibration, Path(args.report)))
    if not quiet:
        print(args.output)


def _score_labels(args: argparse.Namespace) -> None:
    from explainft.evaluation import label_scores
    from explainft.evaluation.prediction_files import write_json_lines

    given = split_list(args.labels) if args.labels_file is None else label_scores.read_labels(Path(args.labels_file))
    if not given:
        raise UserError(f"--labels={args.labels!r} has no label; give texts, such as --labels yes,no")
    found = label_scores.score_labels(
        args.run,
        given,
        Path(args.file) if args.file else None,
        args.task,
        args.step,
        args.batch_size or BATCH_SIZE,
        args.decode_dtype or "float32",
        args.tfds_data_dir,
    )
    write_json_lines(Path(args.output), list(found.json()))
