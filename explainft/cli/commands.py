"""What each sub-command does, given its flags. Nothing heavy is imported before it is needed."""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from explainft.core import jax_setup
from explainft.core.errors import UserError, require_local

BATCH_SIZE = 256  # of decoding, where no recipe says


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
        print(f"first wrong step: {found.first_wrong_step + 1}")
    if not found.valid:
        sys.exit(1)


def train(args: argparse.Namespace) -> None:
    recipe = _recipe(args, "train")
    with _hosts(args):
        from explainft.training import train

        recipe.configured(train.train)(
            config_text=recipe.operative,
            tfds_data_dir=args.tfds_data_dir,
            seqio_additional_cache_dirs=_list(args.seqio_additional_cache_dirs),
            profile=args.profile,
        )


def evaluate(args: argparse.Namespace) -> None:
    if args.gin_file:
        _recipe_alone(
            args, "mixture", "num_examples", "module", "step", "batch_size", "decode_dtype", "output_vocabulary"
        )
        recipe = _recipe(args, "eval")
        with _hosts(args):
            from explainft.evaluation import evaluate

            recipe.configured(evaluate.evaluate)(tfds_data_dir=args.tfds_data_dir)
        return
    if args.run is None:
        raise UserError("give the MODEL_DIR of a run, or a recipe with --gin_file=gin/eval_small.gin")
    jax_setup.prepare()
    with _hosts(args):
        from explainft.evaluation import evaluate
        from explainft.generation.quantization import Reduction

        evaluate.evaluate_run(
            Path(args.run),
            args.mixture,
            args.step,
            args.batch_size or BATCH_SIZE,
            args.num_examples,
            args.module or "tasks",
            Reduction(args.decode_dtype or "float32", args.output_vocabulary or "all"),
            args.tfds_data_dir,
        )


def infer(args: argparse.Namespace) -> None:
    if args.gin_file:
        _recipe_alone(args, "expression", "input", "output", "step", "batch_size", "decode_dtype")
        recipe = _recipe(args, "infer")
        with _hosts(args):
            from explainft.evaluation import infer

            recipe.configured(infer.write_inferences)(tfds_data_dir=args.tfds_data_dir)
        return
    if args.run is None:
        raise UserError("give the MODEL_DIR of a run, or a recipe with --gin_file=gin/infer_small.gin")
    if args.multihost:
        raise UserError("--multihost answers a task's examples; give a recipe with --gin_file=gin/infer_small.gin")
    jax_setup.prepare()
    from explainft.evaluation import infer

    expressions = list(args.expression)
    if args.input:
        expressions += infer.read_expressions(Path(args.input))
    elif not expressions:
        infer.check_run(Path(args.run))  # before the terminal is read
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
    jax_setup.prepare()
    from explainft.evaluation import infer

    for prediction in infer.infer(infer.PRETRAINED, _texts(args.expression)):
        print(prediction.text())


def export(args: argparse.Namespace) -> None:
    jax_setup.prepare()
    from explainft.checkpoints import checkpoint

    require_local(DESTINATION=args.destination)
    checkpoint.export(Path(args.run), Path(args.destination), args.step, args.dtype)
    print(args.destination)


def convert(args: argparse.Namespace) -> None:
    jax_setup.prepare()
    from explainft.checkpoints import convert

    require_local(DESTINATION=args.destination)
    vocabulary = Path(args.vocabulary) if args.vocabulary else None
    print(convert.convert(args.source, Path(args.destination), args.to, args.step, args.dtype, vocabulary))


def plan(args: argparse.Namespace) -> None:
    if args.topology != "local":
        os.environ["JAX_PLATFORMS"] = "cpu"  # with the TPU's compiler installed, JAX would look for a TPU
    args.gin_bindings = ["MODEL_DIR=plan", *args.gin_bindings]
    if args.all:
        jax_setup.prepare()
        from explainft.planning import plan_table
        from explainft.recipes import recipe

        recipe.existing(args.gin_file)  # one that is not there is a mistake, and no row of the table
        slices, search_paths = args.topology and [args.topology], _list(args.gin_search_paths)
        command = " ".join(["explainft", *sys.argv[1:]])
        plan_table.write(args.gin_file, slices, args.gin_bindings, search_paths, args.quick, command, Path(args.output))
        return
    if args.topology is None:
        raise UserError("no machine; give --topology=v5e-16 or another slice, or --all")
    recipe = _recipe(args, "plan")
    from explainft.planning import plan
    from explainft.training import train

    print(plan.text(plan.make(recipe.bindings(train.train), args.topology, args.quick)))


def sweep(args: argparse.Namespace) -> None:
    jax_setup.prepare()
    from explainft.sweeps import sweep

    sweep.run(
        args.sweep,
        args.gin_bindings,
        Path(args.runs),
        Path(args.results),
        args.jobs,
        args.dry_run,
        args.tfds_data_dir,
    )


def report(args: argparse.Namespace) -> None:
    from explainft.reporting import report

    report.write_report([Path(run) for run in args.runs], Path(args.output))


def _texts(expressions: list[str]) -> list[str]:
    """The expressions, or the lines of standard input where none are given."""
    expressions = expressions or [line.strip() for line in sys.stdin if line.strip()]
    if not expressions:
        raise UserError("no expressions; give some as arguments or on standard input")
    return expressions


def _dataset():
    from explainft.core import tensorflow_setup

    tensorflow_setup.import_tensorflow()
    from explainft.data import dataset

    return dataset


def _recipe_alone(args: argparse.Namespace, *flags: str) -> None:
    """With a recipe, everything is a macro: refuses what would be ignored. Unset flags are None or empty."""
    for name in ("run", *flags):
        if getattr(args, name) not in (None, []):
            raise UserError(f"{name} and --gin_file do not go together; the recipe's macros say it all")


def _list(text: str | None) -> list[str]:
    return [part for part in (text or "").split(",") if part]


def _recipe(args: argparse.Namespace, command: str):
    jax_setup.prepare()
    from explainft.recipes import recipe

    if not args.gin_file:
        raise UserError("no recipe; give --gin_file=gin/medium_tiny.gin or another file of gin/")
    recipe.load(args.gin_file, args.gin_bindings, _list(args.gin_search_paths), command)
    return recipe


def _hosts(args: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    named = [args.coordinator_address, args.process_count, args.process_index]
    if not args.multihost:
        if named != [None] * 3:
            raise UserError("--coordinator_address, --process_count and --process_index need --multihost")
        return contextlib.nullcontext()
    from explainft.parallel import hosts

    return hosts.connected(*named, preemptible=args.function is train)
