"""Samples as numbers: the answers of a problem merged by value, and what a vote over them needs.

Everything is in an order of its own, so that no result depends on the order of samples or problems in a file.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from explainft.core.errors import UserError
from explainft.problems.registry import get_problem
from explainft.samples.files import Sample, SampledProblem

UNPARSED = -1  # the cluster of a sample without an answer


@dataclasses.dataclass(frozen=True)
class Ballot:
    """The N samples of a problem, and its C clusters: answers of equal value, the most frequent first.

    Samples without an answer are in no cluster. `sample_correct` and `cluster_correct` are
    fractions: where labels that came with the samples differ within a cluster, the cluster has their mean.
    """

    id: str
    answers: tuple[str, ...]  # of each cluster, its most frequent spelling
    sizes_C: np.ndarray
    cluster_correct_C: np.ndarray
    clusters_N: np.ndarray  # the cluster of each sample; UNPARSED where it has none
    sample_correct_N: np.ndarray
    scores_N: np.ndarray | None  # of a verifier, the higher the better; None where a sample has none
    weights_N: np.ndarray | None  # the scores as probabilities
    logprobs_N: np.ndarray | None
    tokens_N: np.ndarray | None
    valid: bool | None  # whether the steps of any sample are all correct; None where they cannot be checked

    @property
    def n(self) -> int:
        return len(self.clusters_N)

    @property
    def unparsed(self) -> int:
        return self.n - int(self.sizes_C.sum())

    def parsed(self, values_N: np.ndarray) -> list[np.ndarray]:
        """Returns the values of the samples of each cluster."""
        return [values_N[self.clusters_N == cluster] for cluster in range(len(self.answers))]


SCORE_KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "probability": lambda scores_N: scores_N,
    "logit": lambda scores_N: np.exp(-np.logaddexp(0, -scores_N)),  # the sigmoid, without overflow
}


def make_ballots(problems: Sequence[SampledProblem], score_kind: str = "probability") -> list[Ballot]:
    """Returns a ballot for each problem, by id.

    Raises UserError where it is not known which samples are correct, and for scores that are not of `score_kind`.
    """
    bar = tqdm(problems, desc="merging equal answers", unit=" problems", disable=None, leave=False)
    return sorted((_make_ballot(problem, score_kind) for problem in bar), key=lambda ballot: ballot.id)


def _make_ballot(problem: SampledProblem, score_kind: str) -> Ballot:
    for sample in problem.samples:
        if sample.logprob is not None and not math.isfinite(sample.logprob):
            raise UserError(f"logprob_sum={sample.logprob} of problem {problem.id!r} must be finite; sample again")
        if sample.correct is None and sample.answer is not None:
            raise UserError(
                f"the gold answer of problem {problem.id!r} is missing; give it in the file, or labels of the samples"
            )
    counts = Counter(sample.answer for sample in problem.samples if sample.answer is not None)
    choices = tuple(map(str, problem.target.example.get("choices") or ()))
    merged = merge_answers(counts, functools.partial(_equal, problem.target.problem.name, choices))
    cluster_of = {answer: i for i, answers in enumerate(merged) for answer in answers}
    rows = sorted(
        (_numbers(sample, cluster_of) for sample in problem.samples), key=lambda row: [_number(x) for x in row]
    )
    clusters, correct, scores, logprobs, tokens = zip(*rows, strict=True)
    clusters_N, correct_N = np.array(clusters, np.int64), np.array(correct, np.float64)
    scores_N = _array(scores)
    if score_kind == "probability" and scores_N is not None and not (scores_N.min() >= 0 and scores_N.max() <= 1):
        outside = scores_N[(scores_N < 0) | (scores_N > 1)][0]
        raise UserError(
            f"score={outside:g} of problem {problem.id!r} must be a probability, 0 to 1; "
            "give --score_kind logit for logits"
        )
    sizes_C = np.array([sum(counts[answer] for answer in answers) for answers in merged], np.int64)
    sums_C = np.bincount(clusters_N[clusters_N >= 0], correct_N[clusters_N >= 0], minlength=len(merged))
    checked = [sample.valid for sample in problem.samples if sample.valid is not None]
    return Ballot(
        problem.id,
        tuple(answers[0] for answers in merged),
        sizes_C,
        sums_C / np.maximum(sizes_C, 1),
        clusters_N,
        correct_N,
        scores_N,
        None if scores_N is None else SCORE_KINDS[score_kind](scores_N),
        _array(logprobs),
        _array(tokens),
        any(checked) if checked else None,
    )


def merge_answers(counts: Counter[str], equal: Callable[[str, str], bool]) -> list[list[str]]:
    """Merges spellings of equal value, transitively. The largest cluster is first, and in each its main spelling."""
    groups: list[list[str]] = []
    for answer in sorted(counts):
        joined = [group for group in groups if any(equal(member, answer) for member in group)]
        groups = [group for group in groups if group not in joined] + [
            [a for group in joined for a in group] + [answer]
        ]
    ordered = [sorted(group, key=lambda answer: (-counts[answer], answer)) for group in groups]
    return sorted(ordered, key=lambda group: (-sum(counts[answer] for answer in group), group[0]))


@functools.lru_cache(maxsize=2**17)  # the same two answers meet in many problems
def _equal(problem: str, choices: tuple[str, ...], answer: str, other: str) -> bool:
    """Returns equality by the problem; choices are what it may depend on beside the answers."""
    return get_problem(problem).equal(answer, other, {"choices": choices} if choices else {})


Row = tuple[int, float, float | None, float | None, float | None]


def _numbers(sample: Sample, cluster_of: dict[str, int]) -> Row:
    cluster = UNPARSED if sample.answer is None else cluster_of[sample.answer]
    return (
        cluster,
        float(bool(sample.correct)),
        sample.score,
        sample.logprob,
        None if sample.tokens is None else float(sample.tokens),
    )


def _number(value: float | None) -> float:
    return -np.inf if value is None else value


def _array(values: Sequence[float | None]) -> np.ndarray | None:
    known = [value for value in values if value is not None]
    return np.array(known, np.float64) if len(known) == len(values) else None
