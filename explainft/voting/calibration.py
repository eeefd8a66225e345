"""How well scores tell correct samples from incorrect ones: AUROC, ECE, Brier, and bins for a reliability diagram.

All functions take the scores [N], whether the samples are correct [N], and weights [N] (None: ones).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from explainft.core.errors import UserError
from explainft.voting.intervals import percentiles, resample

BINS = 10  # of equal width
Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Measure:
    """A value with its 95% bootstrap interval. Both are NaN where samples of one class leave it undefined."""

    value: float
    interval: Interval

    def text(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} ({low:.3f} to {high:.3f})"


@dataclasses.dataclass(frozen=True)
class Bin:
    """The samples with scores from `low` to `high`; of an empty bin, the means are NaN."""

    low: float
    high: float
    n: int
    mean_score: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The measures of scored samples, with intervals by bootstrap over problems.

    `auroc` is of all samples together: scores that know easy problems from hard ones raise it, though they choose no
    sample of a problem. `auroc_within` is the mean AUROC of the problems with samples of both classes. `length_auroc`
    is that of the samples' lengths in place of scores: far from 0.5, lengths leak the labels. Where the steps of all
    samples can be checked, `answer_auroc` is how scores tell correct answers from incorrect ones, and `checker_auroc`
    how the exact check of all steps does.
    """

    n: int
    problems: int
    accuracy: float
    auroc: Measure
    auroc_within: Measure
    length_auroc: Measure
    ece: Measure
    brier: Measure
    bins: list[Bin]
    answer_auroc: Measure | None = None
    checker_auroc: Measure | None = None

    def lines(self) -> list[str]:
        """Returns what people read, a line each."""
        counts = f"{self.n:,} samples of {self.problems:,} problems, {self.accuracy:.1%} correct"
        lines = [f"{counts}; 95% intervals by bootstrap over problems"]
        if np.isnan(self.auroc.value):
            which = "correct" if self.accuracy else "incorrect"
            lines.append(f"AUROC is undefined: all samples are {which}; score samples of both classes")
        else:
            within = "undefined" if np.isnan(self.auroc_within.value) else self.auroc_within.text()
            lines.append(f"AUROC {self.auroc.text()}, of length alone {self.length_auroc.text()}")
            lines.append(f"AUROC within problems {within}")
        if self.answer_auroc is not None and self.checker_auroc is not None:
            by_checker = self.checker_auroc.text()
            lines.append(f"AUROC for correct answers {self.answer_auroc.text()}, of the step checker {by_checker}")
        return [*lines, f"ECE {self.ece.text()}, Brier {self.brier.text()}"]


def calibrate(
    scores: Sequence[float],
    correct: Sequence[bool],
    lengths: Sequence[int],
    problems: Sequence[str],
    seed: int = 0,
    *,
    answers: Sequence[bool] | None = None,
    checks: Sequence[bool] | None = None,
) -> Calibration:
    """Returns the measures of samples with their scores, lengths and problems. Raises UserError for unusable scores.

    `correct` are the labels that the scores are of; `answers` and `checks` are whether the answer is correct and
    whether all steps are, where both are known.
    """
    score_N, correct_N, length_N = np.array(scores, float), np.array(correct, bool), np.array(lengths, float)
    check_scores(score_N)
    names, problem_N = np.unique(np.array(problems), return_inverse=True)
    resamples = [weights_P for block in resample(len(names), seed) for weights_P in block]

    def measure_problems(function: Callable[[np.ndarray], float]) -> Measure:
        """Measures by a function of how often each problem is there."""
        found = np.array([function(weights_P) for weights_P in resamples])
        found = found[~np.isnan(found)]  # a resample may have one class only
        value = function(np.ones(len(names)))
        if np.isnan(value) or not len(found):
            return Measure(value, (np.nan, np.nan))
        low, high = percentiles(found)
        return Measure(value, (float(low), float(high)))

    def measure(function: Callable[[np.ndarray], float]) -> Measure:
        return measure_problems(lambda weights_P: function(weights_P[problem_N]))

    by_score, by_length = SortedScores(score_N, correct_N), SortedScores(length_N, correct_N)
    others: dict[str, Measure] = {}
    if answers is not None and checks is not None:
        answer_N, check_N = np.array(answers, bool), np.array(checks, float)
        others["answer_auroc"] = measure(SortedScores(score_N, answer_N).auroc)
        others["checker_auroc"] = measure(SortedScores(check_N, answer_N).auroc)
    order, ends = np.argsort(problem_N, kind="stable"), np.cumsum(np.bincount(problem_N))[:-1]
    auroc_P = np.array([auroc(score_N[rows], correct_N[rows]) for rows in np.split(order, ends)])
    return Calibration(
        n=len(score_N),
        problems=len(names),
        accuracy=float(correct_N.mean()),
        auroc=measure(by_score.auroc),
        auroc_within=measure_problems(lambda weights_P: _mean_of_known(auroc_P, weights_P)),
        length_auroc=measure(by_length.auroc),
        ece=measure(lambda weights_N: ece(score_N, correct_N, weights_N)),
        brier=measure(lambda weights_N: brier(score_N, correct_N, weights_N)),
        bins=reliability_bins(score_N, correct_N),
        **others,
    )


def check_scores(score_N: np.ndarray) -> None:
    """Raises UserError for no scores, and for those that are not probabilities."""
    if not len(score_N):
        raise UserError("no scored samples with a known answer; score samples first")
    bad = int((~((score_N >= 0) & (score_N <= 1))).sum())  # NaN is neither
    if bad:
        raise UserError(f"{bad:,} of {len(score_N):,} scores are not between 0 and 1; score again")


def _mean_of_known(value_P: np.ndarray, weights_P: np.ndarray) -> float:
    """Returns the mean of the values that are not NaN; NaN where they have no weight."""
    weights_P = np.where(np.isnan(value_P), 0, weights_P)
    total = weights_P.sum()
    return float(weights_P @ np.nan_to_num(value_P) / total) if total else float("nan")


class SortedScores:
    """Samples sorted by score once, for the AUROC under many weights.

    `correct_N` may be fractions: a vote that is tied between a correct and an incorrect answer is half of each.
    """

    def __init__(self, score_N: np.ndarray, correct_N: np.ndarray):
        self._order = np.argsort(score_N, kind="stable")
        ordered = score_N[self._order]
        self._starts = np.flatnonzero(np.diff(ordered, prepend=np.nan) != 0)  # of each run of equal scores
        self._correct = correct_N[self._order].astype(float)

    def auroc(self, weights_N: np.ndarray) -> float:
        """Returns the probability that a correct sample scores higher than an incorrect one; a tie counts one half.

        NaN where all weight is on one class.
        """
        weights = weights_N[self._order]
        correct = np.add.reduceat(weights * self._correct, self._starts)
        incorrect = np.add.reduceat(weights * (1 - self._correct), self._starts)
        total = correct.sum() * incorrect.sum()
        below = np.cumsum(incorrect) - incorrect
        return float((correct * (below + incorrect / 2)).sum() / total) if total else float("nan")


def auroc(score_N: np.ndarray, correct_N: np.ndarray) -> float:
    """Returns the area under the ROC curve, see SortedScores.auroc."""
    return SortedScores(score_N, correct_N).auroc(np.ones(len(score_N)))


def brier(score_N: np.ndarray, correct_N: np.ndarray, weights_N: np.ndarray | None = None) -> float:
    """Returns the mean squared difference between score and correctness."""
    return float(np.average((score_N - correct_N) ** 2, weights=weights_N))


def ece(score_N: np.ndarray, correct_N: np.ndarray, weights_N: np.ndarray | None = None) -> float:
    """Returns the expected calibration error: the mean over samples of |accuracy - mean score| of their bins."""
    weights_N = np.ones(len(score_N)) if weights_N is None else weights_N
    bin_N = _bins(score_N)
    difference = np.bincount(bin_N, weights_N * correct_N, BINS) - np.bincount(bin_N, weights_N * score_N, BINS)
    return float(np.abs(difference).sum() / weights_N.sum())


def reliability_bins(score_N: np.ndarray, correct_N: np.ndarray) -> list[Bin]:
    """Returns the bins of a reliability diagram."""
    bin_N, found = _bins(score_N), []
    for i in range(BINS):
        inside = bin_N == i
        n = int(inside.sum())
        means = (float(score_N[inside].mean()), float(correct_N[inside].mean())) if n else (np.nan, np.nan)
        found.append(Bin(i / BINS, (i + 1) / BINS, n, *means))
    return found


def _bins(score_N: np.ndarray) -> np.ndarray:
    return np.minimum((score_N * BINS).astype(int), BINS - 1)  # 1.0 belongs to the last
