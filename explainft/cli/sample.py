"""`explainft sample`: several outputs of each problem into a file, for votes and verifiers."""

import argparse
import sys
from pathlib import Path
from typing import Any

from explainft.cli.expressions import read_lines
from explainft.cli.flags import (
    DECODE_BATCH_SIZE,
    add_command,
    add_data_dir,
    add_decoding,
    add_step,
    positive_integer,
)
from explainft.cli.host_flags import add_hosts, connect_hosts
from explainft.core import jax_setup
from explainft.core.errors import UserError
from explainft.data.questions.layouts import LAYOUTS

EXAMPLE = "explainft sample runs/medium --dataset tiny --split test --num_samples 16 --output samples.jsonl"


def add_parser(subparsers) -> None:
    help = "Sample several outputs of each problem into a file."
    parser = add_command(subparsers, "sample", run, help, EXAMPLE)
    parser.add_argument("run", help="the MODEL_DIR of a run, or with --mixture a checkpoint of any known format")
    parser.add_argument("question", nargs="*", help="as `infer` reads them; default: one a line of standard input")
    parser.add_argument("--mixture", help="evaluation task or mixture, whose examples are sampled")
    parser.add_argument("--dataset", help="an imported dataset or a config of ListOps, in the form of the run")
    parser.add_argument("--split", help="of --dataset, default: test; of --mixture SeqIO's name, default: validation")
    parser.add_argument("--num_examples", type=positive_integer, help="of each task; default: all")
    parser.add_argument("--module", help="the module that registers the tasks; default: the run's own")
    parser.add_argument("--input", help="a file of questions, as `infer` reads it")
    parser.add_argument("--format", choices=tuple(LAYOUTS), help="the layout of --input's JSON rows; default: jsonl")
    _add_sampling(parser)
    add_hosts(parser)
    add_step(parser)
    add_decoding(parser)
    add_data_dir(parser)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--num_samples", type=positive_integer, required=True, help="of each problem, exactly")
    parser.add_argument("--temperature", type=float, default=1.0, help="above 0; default: 1")
    parser.add_argument("--top_k", type=int, default=0, help="sample the most probable tokens alone; default: 0, all")
    parser.add_argument("--top_p", type=float, default=1.0, help="of nucleus sampling; default: 1, all tokens")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--output", required=True, help="a JSONL file, a problem a line, to which a rerun adds what is missing"
    )
    parser.add_argument(
        "--output_format",
        choices=("samples", "infer"),
        default="samples",
        help="infer: a line a sample, as `infer` writes it, to which nothing can be added; default: samples",
    )


def run(args: argparse.Namespace) -> None:
    jax_setup.configure(keep_large_blocks=False)
    with connect_hosts(args, preemptible=True):
        from explainft.checkpoints import convert
        from explainft.generation.quantization import DecodeConfig
        from explainft.generation.sampling import SamplingConfig
        from explainft.samples import sampling
        from explainft.training.preemption import StopSignal

        config = SamplingConfig(args.temperature, args.top_k, args.top_p, args.seed)
        decode_config = DecodeConfig(args.decode_dtype or "float32")
        batch_size = args.batch_size or DECODE_BATCH_SIZE
        sample_run = sampling.SampleRun(
            Path(args.output), args.num_samples, config, decode_config, batch_size, args.output_format
        )
        weights = convert.open_weights(args.run, args.step)
        with StopSignal() as signal:
            complete = sampling.sample(weights, _inputs(args, weights.meta), sample_run, signal.requested)
    if not complete:  # `sample && vote` must not go on
        sys.exit(128 + signal.signal)


def _inputs(args: argparse.Namespace, meta: Any) -> Any:
    from explainft.samples.inputs import QuestionInputs, TaskInputs, dataset_task

    sources = {"--mixture": args.mixture, "--dataset": args.dataset, "--input": args.input, "questions": args.question}
    given = [name for name, value in sources.items() if value]
    if (args.mixture or args.dataset) and len(given) > 1:
        raise UserError(f"{given[0]} and {given[1]} exclude each other; give one of them")
    if not (args.mixture or args.dataset):
        if args.split or args.num_examples or args.module:
            raise UserError("--split, --num_examples and --module belong to --mixture or --dataset; give one of them")
        if not meta:
            raise UserError(f"{args.run} is not a run of explainft, which could read questions; give --mixture")
        questions = args.question or ([] if args.input else read_lines([], "questions"))
        return QuestionInputs(questions, Path(args.input) if args.input else None, args.format or "jsonl")
    if args.format:
        raise UserError("--format is the layout of --input; give --input, or leave it out")
    mixture, module, split = args.mixture, args.module or str(meta.get("module", "tasks")), args.split
    if args.dataset:
        mixture, module = dataset_task(meta, args.dataset, split or "test")
        module, split = args.module or module, None
    return TaskInputs(mixture, module, split or "validation", args.num_examples, args.tfds_data_dir)
