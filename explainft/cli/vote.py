"""`explainft vote`: accuracy of several samples of each problem, by pass@k and by votes."""

import argparse
import sys

from explainft.cli.flags import add_command, positive_integer
from explainft.cli.sample_flags import add_sample_file, read_problems

EXAMPLE = "explainft vote samples.jsonl --k 1,2,4,8 --output vote"


def add_parser(subparsers) -> None:
    help = "Vote over the samples of each problem: pass@k, majority@k and weighted votes."
    parser = add_command(subparsers, "vote", run, help, EXAMPLE)
    add_sample_file(parser)
    parser.add_argument("--k", type=_sizes, metavar="K,K", help="numbers of samples; default: powers of two, and all")


def run(args: argparse.Namespace) -> None:
    from explainft.reporting import vote_report
    from explainft.voting.ballots import make_ballots
    from explainft.voting.settings import settings_notes
    from explainft.voting.vote import vote

    vote_report.check_directory(args.output)
    problems = read_problems(args, args.file)
    found = vote(make_ballots(problems, args.score_kind), args.k, args.seed)
    print(vote_report.vote_text(found), end="")
    for note in (*found.notes, *settings_notes(problems)):
        print(f"note: {note}", file=sys.stderr)
    if args.output:
        print(*vote_report.write_vote(found, args.output), sep="\n", file=sys.stderr)


def _sizes(text: str) -> list[int]:
    return [positive_integer(part) for part in text.split(",")]
