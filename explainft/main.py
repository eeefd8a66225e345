"""The command line: one sub-command, one function. Nothing heavy is imported before a sub-command needs it."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from explainft import __version__, runtime
from explainft.errors import UserError, require_local

GIN_FLAG = "--gin."
BATCH_SIZE = 256  # of decoding, where no recipe says


class Parser(argparse.ArgumentParser):
    """One line for a mistake, as everywhere else."""

    def error(self, message: str):
        raise UserError(f"{message}; see {self.prog} --help")


def data_build(args: argparse.Namespace) -> None:
    dataset = _dataset()
    beam = "" if args.beam and args.beam_pipeline_options is None else args.beam_pipeline_options
    for config in args.config:
        print(dataset.build(config, args.tfds_data_dir, args.processes, args.shards, beam))


def data_show(args: argparse.Namespace) -> None:
    print(_dataset().show(args.config, args.split, args.n, args.tfds_data_dir))


def explain(args: argparse.Namespace) -> None:
    from explainft import listops

    for expression in _texts(args.expression):
        print(listops.explain(listops.parse(expression), args.style, args.modulus))


def check(args: argparse.Namespace) -> None:
    from explainft import listops

    tree = listops.parse(args.expression)
    found = listops.check(args.text if args.text is not None else sys.stdin.read(), tree, args.style, args.modulus)
    answer = "none found" if found.final_answer is None else found.final_answer
    print(f"final answer: {answer} ({'correct' if found.answer_correct else 'wrong'})")
    print(f"steps: {found.steps_correct} of {found.steps_total} correct")
    if found.first_wrong_step is not None:
        print(f"first wrong step: {found.first_wrong_step}")
    if not found.valid:
        sys.exit(1)


def train(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    with _hosts(args):
        from explainft import train

        recipe.configured(train.train)(
            config_text=recipe.operative,
            tfds_data_dir=args.tfds_data_dir,
            seqio_additional_cache_dirs=_list(args.seqio_additional_cache_dirs),
            profile=args.profile,
        )


def evaluate(args: argparse.Namespace) -> None:
    if args.gin_file:
        _recipe_alone(args, "mixture", "num_examples", "module", "step", "batch_size", "decode_dtype", "output_pieces")
        recipe = _recipe(args)
        with _hosts(args):
            from explainft import evaluate

            recipe.configured(evaluate.evaluate)(tfds_data_dir=args.tfds_data_dir)
        return
    if args.run is None:
        raise UserError("give the MODEL_DIR of a run, or a recipe with --gin_file=gin/eval_small.gin")
    runtime.prepare()
    with _hosts(args):
        from explainft import evaluate
        from explainft.reduced import Reduction

        evaluate.evaluate_run(
            Path(args.run),
            args.mixture,
            args.step,
            args.batch_size or BATCH_SIZE,
            args.num_examples,
            args.module or "tasks",
            Reduction(args.decode_dtype or "float32", args.output_pieces or "all"),
            args.tfds_data_dir,
        )


def infer(args: argparse.Namespace) -> None:
    if args.gin_file:
        _recipe_alone(args, "expression", "input", "output", "step", "batch_size", "decode_dtype")
        recipe = _recipe(args)
        with _hosts(args):
            from explainft import infer

            recipe.configured(infer.write_inferences)(tfds_data_dir=args.tfds_data_dir)
        return
    if args.run is None:
        raise UserError("give the MODEL_DIR of a run, or a recipe with --gin_file=gin/infer_small.gin")
    if args.multihost:
        raise UserError("--multihost answers a task's examples; give a recipe with --gin_file=gin/infer_small.gin")
    runtime.prepare()
    from explainft import infer

    expressions = list(args.expression)
    if args.input:
        expressions += infer.read_expressions(Path(args.input))
    elif not expressions:
        expressions = _texts([])
    if args.output:
        infer.check_writable(Path(args.output))
    predictions = infer.infer(
        Path(args.run), expressions, args.step, args.batch_size or BATCH_SIZE, args.decode_dtype or "float32"
    )
    if args.output:
        infer.write_jsonl(predictions, Path(args.output))
    else:
        print("\n\n".join(prediction.text() for prediction in predictions))


def solve(args: argparse.Namespace) -> None:
    runtime.prepare()
    from explainft import infer

    for prediction in infer.infer(infer.PRETRAINED, _texts(args.expression)):
        print(prediction.text())


def export(args: argparse.Namespace) -> None:
    runtime.prepare()
    from explainft import checkpoint

    checkpoint.export(Path(args.run), Path(args.destination), args.step, args.dtype)
    print(args.destination)


def convert(args: argparse.Namespace) -> None:
    runtime.prepare()
    from explainft import convert

    require_local(DESTINATION=args.destination)
    vocabulary = Path(args.vocabulary) if args.vocabulary else None
    print(convert.convert(args.source, Path(args.destination), args.to, args.step, args.dtype, vocabulary))


def plan(args: argparse.Namespace) -> None:
    if args.topology != "local":
        os.environ["JAX_PLATFORMS"] = "cpu"  # with the TPU's compiler installed, JAX would look for a TPU
    args.gin_bindings = ["MODEL_DIR=plan", *args.gin_bindings]
    if args.all:
        runtime.prepare()
        from explainft import plan_table

        slices, search_paths = args.topology and [args.topology], _list(args.gin_search_paths)
        command = " ".join(["explainft", *sys.argv[1:]])
        plan_table.write(args.gin_file, slices, args.gin_bindings, search_paths, args.quick, command, Path(args.output))
        return
    if args.topology is None:
        raise UserError("no machine; give --topology=v5e-16 or another slice, or --all")
    recipe = _recipe(args)
    from explainft import plan, train

    print(plan.text(plan.make(recipe.bindings(train.train), args.topology, args.quick)))


def sweep(args: argparse.Namespace) -> None:
    runtime.prepare()
    from explainft import sweep

    paths = _list(args.gin_search_paths)
    sweep.run(
        args.sweep,
        args.gin_bindings,
        paths,
        Path(args.runs),
        Path(args.results),
        args.jobs,
        args.dry_run,
        args.tfds_data_dir,
    )


def report(args: argparse.Namespace) -> None:
    from explainft import report

    report.write_report([Path(run) for run in args.runs], Path(args.output))


def _texts(expressions: list[str]) -> list[str]:
    """The expressions, or the lines of standard input where none are given."""
    expressions = expressions or [line.strip() for line in sys.stdin if line.strip()]
    if not expressions:
        raise UserError("no expressions; give some as arguments or on standard input")
    return expressions


def _dataset():
    from explainft import quiet

    quiet.import_tensorflow()
    from explainft import dataset

    return dataset


def _recipe_alone(args: argparse.Namespace, *flags: str) -> None:
    """With a recipe, everything is a macro: refuses what would be ignored. Unset flags are None or empty."""
    for name in ("run", *flags):
        if getattr(args, name) not in (None, []):
            raise UserError(f"{name} and --gin_file do not go together; the recipe's macros say it all")


def _list(text: str | None) -> list[str]:
    return [part for part in (text or "").split(",") if part]


def _recipe(args: argparse.Namespace):
    runtime.prepare()
    from explainft import recipe

    if not args.gin_file:
        raise UserError("no recipe; give --gin_file=gin/medium_tiny.gin or another file of gin/")
    recipe.load(args.gin_file, args.gin_bindings, _list(args.gin_search_paths))
    return recipe


def _hosts(args: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    named = [args.coordinator_address, args.process_count, args.process_index]
    if not args.multihost:
        if named != [None] * 3:
            raise UserError("--coordinator_address, --process_count and --process_index need --multihost")
        return contextlib.nullcontext()
    from explainft import hosts

    return hosts.connected(*named, preemptible=args.function is train)


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="explainft", description="Fine-tune T5 to explain, then answer.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _data_commands(commands)
    _problem_commands(commands)
    _run_commands(commands)
    return top


def _command(commands, name: str, function: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=help[0].lower() + help[1:-1], description=help)
    sub.set_defaults(function=function)
    return sub


def _data_commands(commands) -> None:
    help = "Build the dataset, or look at it."
    data = commands.add_parser("data", help=help[0].lower() + help[1:-1], description=help)
    below = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    sub = _command(below, "build", data_build, "Make a config of explained_listops.")
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
    sub = _command(below, "show", data_show, "Print a few examples with their explanations and trees.")
    sub.add_argument("--config", default="tiny")
    sub.add_argument("--split", default="train")
    sub.add_argument("-n", type=_positive, default=3)
    _data_dir(sub)


def _problem_commands(commands) -> None:
    sub = _command(commands, "explain", explain, "Write the right explanation of expressions.")
    _expressions(sub)
    _style(sub)
    sub = _command(commands, "check", check, "Check an explanation step by step; exit code 1 where it is not valid.")
    sub.add_argument("expression")
    sub.add_argument("--text", help="the explanation; default: standard input")
    _style(sub)
    sub = _command(commands, "solve", solve, "Answer expressions with the model that ships with the package.")
    _expressions(sub)


def _run_commands(commands) -> None:
    sub = _command(commands, "train", train, "Train from a recipe; --gin.NAME=VALUE sets any macro.")
    _gin(sub)
    _several_hosts(sub)
    sub.add_argument("--profile", action="store_true", help="write a trace of a few updates to MODEL_DIR/profile")
    sub.add_argument("--seqio_additional_cache_dirs", help="folders that seqio_cache_tasks wrote, separated by commas")
    _data_dir(sub)

    sub = _command(commands, "eval", evaluate, "Score a run, or with a recipe any checkpoint, on evaluation tasks.")
    sub.add_argument("run", nargs="?", help="the MODEL_DIR of a run")
    _gin(sub)
    _several_hosts(sub)
    sub.add_argument("--mixture", help="task or mixture; default: the evaluation mixture of the run's own task")
    sub.add_argument("--num_examples", type=_positive, help="of each task; default: all")
    sub.add_argument("--module", help="the module that registers the tasks; default: tasks")
    sub.add_argument("--output_pieces", choices=("all", "task"), help="task: write only what its right texts hold")
    _saved_step(sub)
    _data_dir(sub)

    sub = _command(commands, "infer", infer, "Answer expressions with a run, or with a recipe a task's examples.")
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

    sub = _command(
        commands, "export", export, "Copy a run's parameters without the optimizer into a folder of their own."
    )
    sub.add_argument("run", help="the MODEL_DIR of a run")
    sub.add_argument("destination")
    sub.add_argument("--step", type=_step, help="a checkpoint's step, or best; default: the newest")
    sub.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))

    sub = _command(commands, "convert", convert, "Write a checkpoint of any format in another one.")
    sub.add_argument("source", help="a run, a Hugging Face folder, or a T5X checkpoint, which may be in gs://")
    sub.add_argument("destination")
    sub.add_argument("--to", required=True, choices=("hf", "t5x"))
    sub.add_argument("--step", type=_step, help="a checkpoint's step, or best for a run; default: the newest")
    sub.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: as it is stored")
    sub.add_argument("--vocabulary", help="a SentencePiece model for the tokenizer of a Hugging Face folder")

    sub = _command(commands, "plan", plan, "Compile a recipe for a machine that is not here: does it fit, how fast?")
    _gin(sub)
    sub.add_argument("--topology", help="v5e:4x4, v4-8, v5e-16, ..., cpu:8, or local: this machine's own devices")
    sub.add_argument("--quick", action="store_true", help="with XLA's least effort: a third of the time, less exact")
    sub.add_argument(
        "--all", action="store_true", help="a table of every recipe, or of each --gin_file, on five slices"
    )
    sub.add_argument("--output", default="plan.md", help="the table's file; rows that it has are kept")

    sub = _command(commands, "sweep", sweep, "Train and score a grid of runs; what is done is not done again.")
    sub.add_argument("sweep", help="a gin file of experiments/")
    sub.add_argument("--gin_search_paths", help="folders to look for included files in, separated by commas")
    sub.add_argument("--runs", default="runs", help="the folder of the runs' own folders")
    sub.add_argument("--results", default="results", help="the folder of the results, a small file for each cell")
    sub.add_argument("--jobs", type=_positive, help="runs at once; default: as many as cores and memory allow")
    sub.add_argument("--dry_run", action="store_true", help="say what is to do and how long it takes, and do nothing")
    _data_dir(sub)

    sub = _command(commands, "report", report, "Make a table, figures and a page from run folders.")
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
    sub.add_argument("--decode_dtype", choices=("float32", "bfloat16", "int8"), help="fewer bits are faster on a CPU")


def _step(text: str) -> int | str:
    return text if text == "best" else _positive(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    bindings = [word.removeprefix(GIN_FLAG) for word in argv if word.startswith(GIN_FLAG)]
    if "" not in sys.path:
        sys.path.insert(0, "")  # MIXTURE_OR_TASK_MODULE may be a module beside the user's recipe
    try:
        args = parser().parse_args([word for word in argv if not word.startswith(GIN_FLAG)])
        args.gin_bindings = bindings
        if bindings and not getattr(args, "gin_file", None) and args.function not in (train, sweep):
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
