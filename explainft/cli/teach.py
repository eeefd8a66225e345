"""`explainft teach`: explanations of questions from a teacher, as rows that `data import` takes."""

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainft.cli.flags import DECODE_BATCH_SIZE, add_command, add_data_dir, add_decoding, add_step, positive_integer
from explainft.core.errors import UserError
from explainft.data.questions.layouts import LAYOUTS
from explainft.problems.registry import PROBLEMS

if TYPE_CHECKING:  # the command line loads nothing heavy before it needs it
    from explainft.teaching.exemplars import Prompts
    from explainft.teaching.questions import Questions
    from explainft.teaching.teach import Teacher, Teaching

EXAMPLE = "explainft teach --method crop --dataset quiz --exemplars csqa --model gpt-4.1-mini --output explained.jsonl"
KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"


def add_parser(subparsers) -> None:
    help = "Ask a teacher to explain questions, and keep what leads to the gold answer."
    parser = add_command(subparsers, "teach", run, help, EXAMPLE)
    parser.add_argument(
        "--method",
        required=True,
        choices=("cote", "rp", "crop"),
        help="cote: chain of thought, kept where its answer is the gold one; rp: the gold answer is in the prompt; "
        "crop: cote, and rp for what cote did not give",
    )
    parser.add_argument("--dataset", help="an imported dataset with answers, or a config of ListOps")
    parser.add_argument("--split", help="of --dataset; default: train")
    parser.add_argument("--input", type=Path, help="a file of questions with answers, in place of --dataset")
    parser.add_argument("--format", choices=tuple(LAYOUTS), help="the layout of --input; default: jsonl")
    parser.add_argument("--problem", choices=tuple(PROBLEMS), help="of --input; default: that of the exemplars")
    parser.add_argument("--num_examples", type=positive_integer, help="explain the first questions alone")
    parser.add_argument(
        "--exemplars",
        required=True,
        help="csqa, gsm8k, listops, obqa, strategyqa, a TOML file, or none: the question alone",
    )
    parser.add_argument(
        "--unfiltered", action="store_true", help="a control: keep what gives another answer too, with that answer"
    )
    parser.add_argument("--output", type=Path, required=True, help="a JSONL file; its journals lie beside it")
    parser.add_argument("--report", type=Path, help="write the account at the end as JSON into this file")
    _add_teachers(parser)
    _add_sampling(parser)
    _add_limits(parser)
    add_step(parser)
    add_decoding(parser)
    add_data_dir(parser)


def _add_teachers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help=f"a model of an OpenAI-compatible server; the key is read from {KEY}")
    parser.add_argument("--base_url", help=f"of the server; default: {URL}, else OpenAI's")
    parser.add_argument("--api", choices=("chat", "completions"), default="chat", help="default: chat")
    parser.add_argument("--teacher", help="the MODEL_DIR of a run, or a T5 checkpoint of any known format, run here")
    parser.add_argument(
        "--replay",
        type=Path,
        help="a directory of stored outputs in the order of the questions, NAME0.json, NAME1.json ..., or DIR/NAME; "
        "with crop they are those of cote",
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--num_explanations", type=positive_integer, default=1, help="of each question; default: 1")
    parser.add_argument("--temperature", type=float, default=0.0, help="default: 0, the most probable text")
    parser.add_argument("--top_p", type=float, default=1.0, help="of nucleus sampling; default: 1, all tokens")
    parser.add_argument("--seed", type=int, help="default: the server's choice; 0 with --teacher")
    parser.add_argument(
        "--max_tokens", type=positive_integer, default=256, help="of an answer; a larger one asks cut answers again"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concurrency", type=positive_integer, default=8, help="requests at a time; default: 8")
    parser.add_argument("--requests_per_minute", type=positive_integer, help="default: no limit")
    parser.add_argument("--tokens_per_minute", type=positive_integer, help="prompts and answers; default: no limit")
    parser.add_argument("--max_retries", type=int, default=5, help="of a request, after faults of any kind; default: 5")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds of one request; default: 120")
    parser.add_argument("--dry_run", action="store_true", help="print requests, tokens and price, and send nothing")
    parser.add_argument("--prices", type=Path, help="a TOML table of prices; default: the packaged one")


def run(args: argparse.Namespace) -> None:
    from explainft.core.atomic_files import check_writable, open_output
    from explainft.teaching import teach
    from explainft.teaching.exemplars import read_prompts
    from explainft.teaching.prices import read_price

    _check_flags(args)
    prompts = read_prompts(args.exemplars)
    questions = _read_questions(args, prompts)
    if prompts.problem not in (None, questions.problem.name):
        raise UserError(
            f"--exemplars={args.exemplars} are of the problem {prompts.problem}, and the questions of "
            f"{questions.problem.name}; give exemplars of that, or --exemplars none"
        )
    price = read_price(args.model, args.prices) if args.model else None
    teaching = _make_teaching(args, questions, prompts)
    if questions.left_out:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in questions.left_out.most_common())
        print(f"note: {questions.left_out.total():,} rows are left out: {reasons}", file=sys.stderr)
    if args.dry_run:
        lines, tokens = teach.plan(teaching)
        if args.model:
            cost = f"at most ${price.of(tokens.prompt, tokens.completion):,.2f}" if price else "unknown; see --prices"
            lines.append(f"price: {cost}")
        print("\n".join(lines))
        return
    if args.report:
        check_writable(args.report)  # before any request is sent
    account = teach.teach(teaching)
    if args.report:
        with open_output(args.report) as file:
            file.write(json.dumps(account.report(), indent=1) + "\n")
    print("\n".join([*account.lines(price), f"{account.accepted.total():,} explanations: {args.output}"]))
    if account.failed:
        print(f"{account.failed:,} requests had no usable response; rerun the command to send them", file=sys.stderr)
        sys.exit(1)  # `teach && data import` must not go on


def _check_flags(args: argparse.Namespace) -> None:
    from explainft.core.errors import require_count

    require_count(**{"--max_retries": args.max_retries})
    if not 0 < args.timeout < float("inf"):
        raise UserError(f"--timeout={args.timeout} must be a finite number above 0")
    if (args.dataset is None) == (args.input is None):
        raise UserError("give the questions with --dataset or with --input, one of the two")
    if args.input is None and (args.format or args.problem):
        raise UserError("--format and --problem belong to --input; leave them out beside --dataset")
    if args.unfiltered and args.method != "cote":
        raise UserError(f"--unfiltered keeps the answers of cote; leave it out beside --method {args.method}")
    if args.dataset is None and args.split:
        raise UserError("--split belongs to --dataset; leave it out beside --input")
    if args.model and args.teacher:
        raise UserError("--model and --teacher exclude each other; give one of them")
    if not (args.model or args.teacher or args.replay):
        raise UserError("no teacher; give --model, --teacher or --replay")
    if args.replay and args.num_explanations > 1:
        raise UserError(f"--replay has one output a question, fewer than --num_explanations={args.num_explanations}")
    if args.replay and args.method != "crop" and (args.model or args.teacher):
        raise UserError(f"--replay gives all that --method {args.method} asks; leave out --model and --teacher")
    if args.replay and args.method == "crop" and not (args.model or args.teacher or args.dry_run):
        raise UserError("--replay has the outputs of cote; give --model or --teacher for rp, or --dry_run")


def _read_questions(args: argparse.Namespace, prompts: "Prompts") -> "Questions":
    from explainft.teaching import questions

    if args.input is not None:
        problem = args.problem or prompts.problem
        if problem is None:
            raise UserError("--exemplars none name no problem; give --problem")
        found = questions.read_file(args.input, args.format or "jsonl", problem)
    else:
        from explainft.core import tensorflow_setup
        from explainft.data.questions.importing import data_directory

        tensorflow_setup.import_tensorflow()
        found = questions.read_dataset(args.dataset, args.split or "train", data_directory(args.tfds_data_dir))
    return found.first(args.num_examples)


def _make_teaching(args: argparse.Namespace, questions: "Questions", prompts: "Prompts") -> "Teaching":
    from explainft.teaching.journal import AnswerJournal
    from explainft.teaching.replay import ReplayTeacher, read_outputs
    from explainft.teaching.requests import Settings
    from explainft.teaching.teach import METHODS, Stage, Teaching, check_output

    check_output(args.output)
    if args.input is not None and args.output.exists() and args.output.samefile(args.input):
        raise UserError(f"--output={args.output} is the file of the questions; give another")
    writer = _model_stage(args) if args.model or args.teacher or args.dry_run else None
    methods = list(METHODS[args.method])
    stages = []
    if args.replay:
        replayed = ReplayTeacher(read_outputs(args.replay, questions.rows), questions.positions)
        stages.append(Stage(methods.pop(0), Settings(str(args.replay)), replayed))
    for method in methods:
        assert writer is not None
        settings, teacher = writer
        stages.append(Stage(method, settings, teacher))
    journal = AnswerJournal(args.output)
    return Teaching(questions, prompts, stages, args.num_explanations, args.output, journal, args.unfiltered)


def _model_stage(args: argparse.Namespace) -> "tuple[Any, Teacher | None]":
    """Returns the settings of the model that writes, and the teacher; None in a dry run of a server."""
    from explainft.teaching.requests import Settings

    sampling = {"temperature": args.temperature, "top_p": args.top_p, "max_tokens": args.max_tokens}
    if args.teacher:
        from explainft.core import jax_setup

        jax_setup.configure()
        from explainft.teaching.checkpoint import CheckpointTeacher

        batch_size = args.batch_size or DECODE_BATCH_SIZE
        teacher = CheckpointTeacher(args.teacher, args.step, batch_size, args.decode_dtype or "float32")
        return Settings(teacher.name, seed=args.seed or 0, **sampling, api="completions"), teacher
    settings = Settings(args.model or "", seed=args.seed, **sampling, api=args.api)
    if args.dry_run:
        return settings, None
    if importlib.util.find_spec("openai") is None:
        raise UserError("--model needs the package openai; run: pip install 'explainft[teach]'")
    from explainft.teaching.client import OpenAITeacher, RetryBudget
    from explainft.teaching.journal import AuditLog

    connection = _connection(args)
    audit = AuditLog(args.output, connection.redact)
    return settings, OpenAITeacher(connection, RetryBudget(args.max_retries), audit)


def _connection(args: argparse.Namespace) -> Any:
    from explainft.teaching.client import Connection

    base_url, key = args.base_url or os.environ.get(URL), os.environ.get(KEY, "").strip()
    if base_url is not None and not base_url.startswith(("http://", "https://")):
        raise UserError(f"--base_url={base_url} must begin with http:// or https://, as in http://127.0.0.1:8000/v1")
    if not key and base_url is None:
        raise UserError(f"no API key; set the environment variable {KEY}, or give --base_url of a server without keys")
    limits = args.concurrency, args.requests_per_minute, args.tokens_per_minute
    return Connection(key or "none", base_url, args.timeout, *limits)
