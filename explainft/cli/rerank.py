"""`explainft rerank`: one answer of the samples of each problem, chosen by a verifier's scores."""

import argparse
import sys
from pathlib import Path

from explainft.cli.flags import add_command, positive_integer
from explainft.cli.sample_flags import add_sample_file, read_problems

EXAMPLE = "explainft rerank scored.jsonl --validation scored_validation.jsonl"


def add_parser(subparsers) -> None:
    help = "Choose one answer of each problem's samples by a verifier's scores, beside votes and ceilings."
    parser = add_command(subparsers, "rerank", run, help, EXAMPLE)
    add_sample_file(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--validation", type=Path, metavar="FILE", help="scored samples of other problems, that choose K")
    how.add_argument("--top_k", type=positive_integer, metavar="K", help="of RR.Top-K and W.RR.MajK")


def run(args: argparse.Namespace) -> None:
    from explainft.reporting import vote_report
    from explainft.voting.ballots import make_ballots
    from explainft.voting.rerank import check_scores, check_separate, choose_k, rerank
    from explainft.voting.settings import check_same_verifier, settings_notes

    vote_report.check_directory(args.output)
    problems = read_problems(args, args.file, check=True)
    ballots, validation, notes = make_ballots(problems, args.score_kind), None, settings_notes(problems)
    check_scores(ballots, args.file)
    if args.validation:
        other_problems = read_problems(args, args.validation)
        check_separate(problems, other_problems)
        check_same_verifier(problems, args.file, other_problems, args.validation)
        validation = make_ballots(other_problems, args.score_kind)
        check_scores(validation, args.validation)
        notes += [f"of {args.validation}, {note}" for note in settings_notes(other_problems)]
    ks, chosen = choose_k(ballots, validation, args.top_k)
    found = rerank(ballots, ks, args.seed)
    print(vote_report.rerank_text(found), end="")
    for note in (chosen, *notes):
        print(f"note: {note}", file=sys.stderr)
    if args.output:
        print(*vote_report.write_rerank(found, chosen, args.output), sep="\n", file=sys.stderr)
