"""The command line: one sub-command, one function. Nothing heavy is imported before a sub-command needs it."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from explainft import __version__
from explainft.cli import commands
from explainft.cli.commands import BATCH_SIZE
from explainft.core.errors import UserError

GIN_FLAG = "--gin."


class Parser(argparse.ArgumentParser):
    """One line for a mistake, as everywhere else."""

    def error(self, message: str):
        raise UserError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="explainft", description="Fine-tune T5 to explain, then answer.")
    top.add_argument("--version", action="version", version=__version__)
    subparsers = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _data_commands(subparsers)
    _problem_commands(subparsers)
    _run_commands(subparsers)
    _checkpoint_commands(subparsers)
    _study_commands(subparsers)
    return top


def _command(
    subparsers, name: str, function: Callable[[argparse.Namespace], None], help: str
) -> argparse.ArgumentParser:
    sub = subparsers.add_parser(name, help=help[0].lower() + help[1:-1], description=help)
    sub.set_defaults(function=function)
    return sub


def _data_commands(subparsers) -> None:
    help = "Build the dataset, or look at it."
    data = subparsers.add_parser("data", help=help[0].lower() + help[1:-1], description=help)
    below = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    sub = _command(below, "build", commands.data_build, "Make a config of explained_listops.")
    sub.add_argument(
        "--config",
        action="append",
        required=True,
        help="listops10, listops30, ..., tiny, or listops30-1000000: with that many training examples; may be repeated",
    )
    sub.add_argument("--processes", type=_positive, help="default: one a core")
    sub.add_argument("--shards", type=_positive, help="files a split; the content is the same for any number")
    sub.add_argument("--beam", action="store_true", help="build the same files on Apache Beam")
    sub.add_argument("--beam_pipeline_options", help="NAME=VALUE,NAME=VALUE of Beam, such as runner=DirectRunner")
    _data_dir(sub)
    sub = _command(below, "show", commands.data_show, "Print a few examples with their explanations and trees.")
    sub.add_argument("--config", default="tiny")
    sub.add_argument("--split", default="train")
    sub.add_argument("-n", type=_positive, default=3)
    _data_dir(sub)


def _problem_commands(subparsers) -> None:
    sub = _command(subparsers, "explain", commands.explain, "Write the right explanation of expressions.")
    _expressions(sub)
    _style(sub)
    sub = _command(
        subparsers, "check", commands.check, "Check an explanation step by step; exit code 1 where it is not valid."
    )
    sub.add_argument("expression")
    sub.add_argument("--text", help="the explanation; default: standard input")
    _style(sub)
    sub = _command(
        subparsers, "solve", commands.solve, "Answer expressions with the model that ships with the package."
    )
    _expressions(sub)


def _run_commands(subparsers) -> None:
    sub = _command(subparsers, "train", commands.train, "Train from a recipe; --gin.NAME=VALUE sets any macro.")
    _gin(sub)
    _several_hosts(sub)
    sub.add_argument("--profile", action="store_true", help="write a trace of a few updates to MODEL_DIR/profile")
    sub.add_argument("--seqio_additional_cache_dirs", help="folders that seqio_cache_tasks wrote, separated by commas")
    _data_dir(sub)

    sub = _command(
        subparsers, "eval", commands.evaluate, "Score a run, or with a recipe any checkpoint, on evaluation tasks."
    )
    sub.add_argument("run", nargs="?", help="the MODEL_DIR of a run")
    _gin(sub)
    _several_hosts(sub)
    sub.add_argument("--mixture", help="task or mixture; default: the evaluation mixture of the run's own task")
    sub.add_argument("--num_examples", type=_positive, help="of each task; default: all")
    sub.add_argument("--module", help="the module that registers the tasks; default: tasks")
    sub.add_argument("--output_vocabulary", choices=("all", "task"), help="task: write only what its right texts hold")
    _saved_step(sub)
    _data_dir(sub)

    sub = _command(
        subparsers, "infer", commands.infer, "Answer expressions with a run, or with a recipe a task's examples."
    )
    sub.add_argument("run", nargs="?", help="the MODEL_DIR of a run")
    _gin(sub)
    _several_hosts(sub)
    _expressions(sub)
    sub.add_argument("--input", help="a file with one expression a line, or a released .tsv file")
    sub.add_argument(
        "--output", help="a JSONL file of answers, explanations and checks; default: text to standard output"
    )
    _saved_step(sub)
    _data_dir(sub)


def _checkpoint_commands(subparsers) -> None:
    sub = _command(
        subparsers,
        "export",
        commands.export,
        "Copy a run's parameters without the optimizer into a folder of their own.",
    )
    sub.add_argument("run", help="the MODEL_DIR of a run")
    sub.add_argument("destination")
    sub.add_argument("--step", type=_step, help="a checkpoint's step, or best; default: the newest")
    sub.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))

    sub = _command(subparsers, "convert", commands.convert, "Write a checkpoint of any format in another one.")
    sub.add_argument("source", help="a run, a Hugging Face folder, or a T5X checkpoint, which may be in gs://")
    sub.add_argument("destination")
    sub.add_argument("--to", required=True, choices=("hf", "t5x"))
    sub.add_argument("--step", type=_step, help="a checkpoint's step, or best for a run; default: the newest")
    sub.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: as it is stored")
    sub.add_argument("--vocabulary", help="a SentencePiece model for the tokenizer of a Hugging Face folder")


def _study_commands(subparsers) -> None:
    sub = _command(
        subparsers, "plan", commands.plan, "Compile a recipe for a machine that is not here: does it fit, how fast?"
    )
    _gin(sub)
    sub.add_argument("--topology", help="v5e:4x4, v4-8, v5e-16, ..., cpu:8, or local: this machine's own devices")
    sub.add_argument("--quick", action="store_true", help="with XLA's least effort: a third of the time, less exact")
    sub.add_argument(
        "--all", action="store_true", help="a table of every recipe, or of each --gin_file, on five slices"
    )
    sub.add_argument("--output", default="plan.md", help="the table's file; rows that it has are kept")

    sub = _command(
        subparsers, "sweep", commands.sweep, "Train and score a grid of runs; what is done is not done again."
    )
    sub.add_argument("sweep", help="a gin file of experiments/")
    sub.add_argument("--runs", default="runs", help="the folder of the runs' own folders")
    sub.add_argument("--results", default="results", help="the folder of the results, a small file for each trial")
    sub.add_argument(
        "--jobs",
        type=_positive,
        help="runs at once; default: the sweep's, else what cores and memory allow; 1 with a GPU or TPU",
    )
    sub.add_argument("--dry_run", action="store_true", help="say what is to do and how long it takes, and do nothing")
    _data_dir(sub)

    sub = _command(subparsers, "report", commands.report, "Make a table, figures and a page from run folders.")
    sub.add_argument("runs", nargs="+", help="MODEL_DIRs")
    sub.add_argument("--output", default="report", help="the folder for them")


def _gin(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--gin_file", action="append", help="a recipe; may be repeated")
    sub.add_argument("--gin_search_paths", help="folders to look for included files in, separated by commas")


def _several_hosts(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--multihost", "--multiprocess_gpu", action="store_true", help="this is one of several processes, one a host"
    )
    sub.add_argument("--coordinator_address", help="HOST:PORT of process 0, where TPU pod or SLURM do not tell")
    sub.add_argument("--process_count", type=_positive)
    sub.add_argument("--process_index", type=int)


def _expressions(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("expression", nargs="*", help="like '[MAX 2 9 [MIN 4 7 ] 0 ]'; none: one a line of standard input")


def _style(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--style", default="medium", help="none, short, medium or long")
    sub.add_argument("--modulus", type=_positive, default=10)


def _data_dir(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--tfds_data_dir", help="where datasets are; default: that of TensorFlow Datasets")


def _saved_step(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--step", type=_step, help="a checkpoint's step, or best; default: the newest")
    sub.add_argument("--batch_size", type=_positive, help=f"default: {BATCH_SIZE}")
    sub.add_argument("--decode_dtype", choices=("float32", "bfloat16", "int8"), help="int8 is the fastest on a CPU")


def _step(text: str) -> int | str:
    return text if text == "best" else _positive(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def _expanded(flag: re.Match[str]) -> str:
    return flag[1] + os.path.expanduser(flag[2])


def main(argv: list[str] | None = None) -> None:
    # A shell leaves the ~ of --gin.MODEL_DIR=~/run as it is.
    argv = [re.sub(r"^(--[\w.]+=)(~.*)", _expanded, word) for word in (sys.argv[1:] if argv is None else argv)]
    bindings = [word.removeprefix(GIN_FLAG) for word in argv if word.startswith(GIN_FLAG)]
    # MIXTURE_OR_TASK_MODULE may be a module beside the user's recipe; a tasks.py there must not take ours' place, which
    # an editable installation would look for after all of sys.path.
    ours = str(Path(__file__).resolve().parents[2])
    sys.path += [place for place in (ours, "") if place not in sys.path]
    try:
        args = parser().parse_args([word for word in argv if not word.startswith(GIN_FLAG)])
        args.gin_bindings = bindings
        if bindings and not getattr(args, "gin_file", None) and args.function not in (commands.train, commands.sweep):
            raise UserError(f"{GIN_FLAG}{bindings[0]} sets a macro of a recipe, and this command was given none")
        args.function(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has seen enough; Python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as e:
        print(f"explainft: error: {e.line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
