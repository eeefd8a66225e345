"""The entry point: flags, dispatch, and how every command ends."""

import argparse
import contextlib
import os
import re
import sys
from pathlib import Path

import explainft
from explainft.cli import (
    check,
    convert,
    data,
    eval,
    explain,
    export,
    infer,
    pipeline,
    plan,
    recipes,
    report,
    rerank,
    sample,
    score,
    serve,
    solve,
    sweep,
    teach,
    train,
    transfer,
    vocab,
    vote,
)
from explainft.cli.flags import Parser
from explainft.cli.output import checked_output, discard, open_closed_streams
from explainft.core.errors import UserError

COMMANDS = (
    data,
    explain,
    check,
    solve,
    train,
    eval,
    infer,
    sample,
    score,
    vote,
    rerank,
    teach,
    serve,
    export,
    convert,
    plan,
    sweep,
    pipeline,
    transfer,
    report,
    recipes,
    vocab,
)
GIN_FLAG = "--gin."
SURROGATE = re.compile("[\udc80-\udcff]")  # in the place of a byte of a path that is not of the locale's encoding


def main(argv: list[str] | None = None) -> None:
    """Runs a command.

    Exits with 2 after an error of the user or of the operating system, which takes one line on standard error, and with
    130 after Ctrl-C.
    """
    open_closed_streams()
    try:
        _note_other_copy()
        with checked_output():
            args = parse(sys.argv[1:] if argv is None else argv)
            args.function(args)
    except UserError as e:
        _fail(e.line)
    except BrokenPipeError:  # the reader of a pipe has stopped reading
        pass
    except OSError as e:
        _fail(_describe(e))
    except UnicodeEncodeError as e:
        if not SURROGATE.search(e.object):
            raise
        _fail(f"{e.object!a} has letters that the locale lacks; set PYTHONUTF8=1")
    except KeyboardInterrupt:
        sys.exit(130)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands; it loads no heavy module."""
    parser = Parser(prog="explainft", description="Fine-tune T5 to explain, then answer.")
    parser.add_argument("--version", action="version", version=explainft.__version__)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns a command's flags and as `gin_bindings` the macros of `--gin.NAME=VALUE`."""
    # A shell leaves the ~ of --gin.MODEL_DIR=~/run as it is.
    argv = [re.sub(r"^(--[\w.]+=)(~.*)", _expand_home, word) for word in argv]
    bindings = [word.removeprefix(GIN_FLAG) for word in argv if word.startswith(GIN_FLAG)]
    # MIXTURE_OR_TASK_MODULE may be a module beside the user's recipe; a tasks.py there must not hide the package tasks,
    # which an editable installation would look for after all of sys.path.
    repository = str(Path(__file__).resolve().parents[2])
    sys.path += [directory for directory in (repository, "") if directory not in sys.path]
    args = build_parser().parse_args([word for word in argv if not word.startswith(GIN_FLAG)])
    args.gin_bindings = bindings
    if bindings and not (args.reads_macros or getattr(args, "gin_file", None)):
        fix = "give one with --gin_file" if hasattr(args, "gin_file") else "this command reads none"
        raise UserError(f"{GIN_FLAG}{bindings[0]} sets a macro of a recipe; {fix}")
    return args


def _note_other_copy() -> None:
    """Reports that another copy of the package runs than the checkout in the current directory.

    `pip install '.[tpu]'` in a checkout replaces an editable installation by a copy, which no later edit reaches.
    """
    checkout, running = Path("explainft/__init__.py"), Path(explainft.__file__)
    if checkout.is_file() and not checkout.samefile(running):
        with contextlib.suppress(OSError):
            print(
                f"note: this runs the copy in {running.parent}, not {checkout.parent.absolute()}; "
                "to run the checkout: pip install -e .",
                file=sys.stderr,
                flush=True,
            )


def _expand_home(flag: re.Match[str]) -> str:
    return flag[1] + os.path.expanduser(flag[2])


def _describe(error: OSError) -> str:
    """Returns one line with the path and the operating system's reason."""
    if isinstance(error, FileNotFoundError) and not error.filename and not _is_in_a_directory():
        return "the current directory has been deleted; change to another"
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    path = f"{error.filename}: " if error.filename else ""
    return f"{path}{reason}; check the path, its permissions and the free space of its disk"


def _is_in_a_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _fail(line: str) -> None:
    try:
        print(f"explainft: error: {line}", file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
