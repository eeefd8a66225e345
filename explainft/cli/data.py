"""`explainft data`: builds the ListOps dataset, prints examples of it, and makes datasets of files."""

import argparse
import gc

from explainft.cli.flags import add_command, add_data_dir, positive_integer, summary
from explainft.core import tensorflow_setup
from explainft.core.errors import UserError
from explainft.data.questions.layouts import LAYOUTS
from explainft.data.sample_datasets import BALANCES, LABELED_BY
from explainft.problems.registry import PROBLEMS

BUILD_EXAMPLE = "explainft data build --config tiny"
SHOW_EXAMPLE = "explainft data show --config tiny --split longer -n 2"
IMPORT_EXAMPLE = "explainft data import train=train.jsonl test=test.jsonl --name my_questions --problem math"

SAMPLES_EXAMPLE = "explainft data samples train=t.jsonl validation=v.jsonl --name quiz --rows verifier"


def add_parser(subparsers) -> None:
    help = "Build the dataset, print examples of it, or make datasets of questions or samples in files."
    data = subparsers.add_parser("data", help=summary(help), description=help)
    commands = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_build(commands)
    _add_show(commands)
    _add_import(commands)
    _add_samples(commands)


def _add_build(commands) -> None:
    parser = add_command(commands, "build", build, "Build configs of the dataset explained_listops.", BUILD_EXAMPLE)
    parser.add_argument(
        "--config",
        action="append",
        required=True,
        help="listops10, listops30, ..., tiny, or listops30-1000000: with that many training examples; may be repeated",
    )
    parser.add_argument("--processes", type=positive_integer, help="default: one a core")
    parser.add_argument("--shards", type=positive_integer, help="files a split, with the same content for any number")
    parser.add_argument("--beam", action="store_true", help="build the same files on Apache Beam")
    parser.add_argument("--beam_pipeline_options", help="NAME=VALUE,NAME=VALUE of Beam, such as runner=DirectRunner")
    add_data_dir(parser)


def _add_show(commands) -> None:
    help = "Print a few examples with their explanations and trees."
    parser = add_command(commands, "show", show, help, SHOW_EXAMPLE)
    parser.add_argument("--config", default="tiny", help="default: tiny")
    parser.add_argument("--split", default="train", help="default: train")
    parser.add_argument("-n", type=positive_integer, default=3, help="number of examples; default: 3")
    add_data_dir(parser)


def _add_import(commands) -> None:
    help = "Make a dataset of questions, answers and explanations, from files or from a dataset of TFDS."
    parser = add_command(commands, "import", import_, help, IMPORT_EXAMPLE)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="SPLIT=FILE",
        help="train=FILE validation=FILE test=FILE; demonstrations=FILE of few-shot prompts",
    )
    parser.add_argument("--name", required=True, help="of the dataset: lower-case letters, digits and underscores")
    parser.add_argument("--problem", required=True, choices=tuple(PROBLEMS))
    parser.add_argument(
        "--format",
        default="jsonl",
        choices=tuple(LAYOUTS),
        help="layout of the rows; default: jsonl, with id, question, choices, answer, explanation",
    )
    parser.add_argument(
        "--tfds",
        metavar="NAME",
        help="a built dataset of TFDS, as NAME or NAME/CONFIG, in place of files: train=SPLIT names a split of it",
    )
    parser.add_argument(
        "--fields",
        nargs="+",
        default=[],
        metavar="FIELD=FEATURE",
        help="the features of --tfds, or the columns of files, that are the fields of a question: question=FEATURE "
        "answer=FEATURE choices=FEATURE,FEATURE explanation=FEATURE id=FEATURE; several of a question are lines of it; "
        "an integer answer is the place of the choice, from 0",
    )
    parser.add_argument(
        "--labels",
        type=lambda text: [label.strip() for label in text.split(",")],
        default=[],
        help="the choices of every row, separated by commas; a row with another answer is refused",
    )
    parser.add_argument(
        "--explanations",
        nargs="+",
        default=[],
        metavar="SPLIT=FILE",
        help="JSON lists of texts in the order of the questions, or JSON lines with id and explanation",
    )
    parser.add_argument("--stop", help="explanations end before this text; \\n is a newline")
    parser.add_argument("--strict", action="store_true", help="end at the first row that cannot be used")
    parser.add_argument("--unanswered", action="store_true", help="rows need no answer: a dataset for infer alone")
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset of that name")
    add_data_dir(parser)


def _add_samples(commands) -> None:
    help = "Make a dataset for a verifier, or for the generator itself, of the files that `explainft sample` wrote."
    parser = add_command(commands, "samples", samples, help, SAMPLES_EXAMPLE)
    parser.add_argument("files", nargs="+", metavar="SPLIT=FILE,...", help="train=FILE,FILE validation=FILE test=FILE")
    parser.add_argument("--name", required=True, help="of the dataset: lower-case letters, digits and underscores")
    parser.add_argument(
        "--rows",
        required=True,
        help="verifier: solutions and whether they are correct; correct: the correct samples; gold: the gold outputs; "
        "or several, as in verifier,gold",
    )
    parser.add_argument("--per_problem", type=positive_integer, default=10, help="most examples; default: 10")
    parser.add_argument("--seed", type=int, default=0, help="of the choice among samples; default: 0")
    parser.add_argument(
        "--prompt", default="paper", help="paper, short, decoder, or a file with {question} and {solution}"
    )
    parser.add_argument(
        "--labeled_by",
        choices=LABELED_BY,
        default="answer",
        help="whether a solution is correct by its answer, or by its answer and all steps; each_step: with a label "
        "after each line, up to the first incorrect one; default: answer",
    )
    parser.add_argument(
        "--balance",
        choices=BALANCES,
        default="problem",
        help="as many correct solutions as incorrect ones of each problem or of the dataset, or all; default: problem",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset of that name")
    add_data_dir(parser)


def samples(args: argparse.Namespace) -> None:
    from explainft.data.questions import importing
    from explainft.data.sample_datasets import parse_rows
    from explainft.samples import dataset
    from explainft.samples.examples import Selection
    from explainft.samples.prompts import read_prompt

    words = [f"{split}={file}" for word in args.files for split, _, files in [word.partition("=")]
             for file in files.split(",")]  # fmt: skip
    settings = dataset.SamplesDataset(
        args.name,
        parse_rows(args.rows),
        importing.split_files(words),
        Selection(read_prompt(args.prompt), args.per_problem, args.seed, args.labeled_by, args.balance),
        args.overwrite,
    )
    tensorflow_setup.import_tensorflow()
    directory, report = dataset.make_dataset(settings, importing.data_directory(args.tfds_data_dir))
    print("\n".join([*report, str(directory)]))


def import_(args: argparse.Namespace) -> None:
    tensorflow_setup.import_tensorflow()
    from explainft.data.questions import columns, importing
    from explainft.data.questions.descriptor import DEMONSTRATIONS

    if args.format != "jsonl" and (args.tfds is not None or args.fields):
        beside = "--tfds" if args.tfds is not None else "--fields"
        raise UserError(f"--format={args.format} is the layout of a file; leave it out beside {beside}")
    files = {split: file for split, [file] in importing.split_files(args.files, most=1).items()}
    settings = importing.Import(
        name=args.name,
        problem=args.problem,
        demonstrations=files.pop(DEMONSTRATIONS, None),
        files=files,
        layout=args.format,
        explanations=importing.split_files(args.explanations),
        stop=args.stop and args.stop.replace("\\n", "\n"),
        strict=args.strict,
        answered=not args.unanswered,
        overwrite=args.overwrite,
        tfds=args.tfds,
        columns=columns.parse_columns(args.fields) if args.fields or args.tfds is not None else {},
        labels=args.labels,
    )
    gc.freeze()  # half a million objects of TensorFlow, which every collection would visit: an eighth of the time
    directory, report = importing.import_questions(settings, importing.data_directory(args.tfds_data_dir))
    print("\n".join([*report.lines(), str(directory)]))


def build(args: argparse.Namespace) -> None:
    tensorflow_setup.import_tensorflow()
    from explainft.data import dataset_build

    beam = "" if args.beam and args.beam_pipeline_options is None else args.beam_pipeline_options
    for config in args.config:
        print(dataset_build.build(config, args.tfds_data_dir, args.processes, args.shards, beam))


def show(args: argparse.Namespace) -> None:
    tensorflow_setup.import_tensorflow()
    from explainft.data import dataset_read

    print(dataset_read.show(args.config, args.split, args.n, args.tfds_data_dir))
