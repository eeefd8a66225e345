"""The flags of commands that read samples: the file, and the fields of files of other programs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from explainft.core.errors import UserError, require_count
from explainft.data.questions.forms import FORMS
from explainft.problems.registry import PROBLEMS

if TYPE_CHECKING:  # the command line loads no numpy before it needs it
    from explainft.samples.files import SampledProblem

_FIELDS = {
    "samples": "a list of texts or of objects with 'text', or one text a line",
    "answer": "the gold answer; default: answer",
    "question": "default: question",
    "id": "of the problem, which lines of one sample share; default: id",
    "score": "a verifier's score of each sample",
    "correct": "whether each sample is correct, in place of a comparison with the gold answer",
}
SCORE_KINDS = ("probability", "logit")


def add_sample_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        help="of `explainft sample`, `score` or `infer`, of SeqIO's inference_eval, or of any program",
    )
    parser.add_argument("--problem", choices=tuple(PROBLEMS), help="reads and compares answers, where no line names it")
    parser.add_argument("--form", choices=FORMS, help="how outputs of other programs state their answers; default: any")
    for name, help in _FIELDS.items():
        parser.add_argument(f"--{name}_field", metavar="FIELD", help=f"of a line of another program: {help}")
    parser.add_argument(
        "--score_kind", choices=SCORE_KINDS, default="probability", help="what scores are; default: probability"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap and of sampled subsets; default: 0")
    parser.add_argument("--output", type=Path, metavar="DIR", help="a directory for the numbers, the table and charts")


def read_problems(args: argparse.Namespace, path: Path, check: bool = False) -> "list[SampledProblem]":
    """Reads the samples of a file as the flags say. Raises UserError for what cannot be used."""
    require_count(**{"--seed": args.seed})
    if args.score_kind == "logit" and args.score_field is None:
        raise UserError(
            "--score_kind=logit belongs to scores of other programs, and those of `explainft score` are probabilities; "
            "name the scores with --score_field, or leave it out"
        )
    from explainft.samples.foreign import Fields
    from explainft.samples.layouts import read_any

    named = {name: getattr(args, f"{name}_field") for name in _FIELDS}
    if named["samples"] is None:
        for name, field in named.items():
            if field is not None:
                raise UserError(f"--{name}_field={field} needs the field of the samples; give --samples_field")
        return read_any(path, args.problem, args.form, check=check)
    return read_any(path, args.problem, args.form, Fields(**named), check)
